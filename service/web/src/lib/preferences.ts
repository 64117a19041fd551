import { useLocalStorage } from "@mantine/hooks";

/** What a person chose for this browser: columns, keys, the density of tables. */
export function usePreference<T>(name: string, initial: T): [T, (value: T) => void] {
  const [value, set] = useLocalStorage<T>({ key: `bcd-${name}`, defaultValue: initial, getInitialValueInEffect: false });
  return [value, set];
}
