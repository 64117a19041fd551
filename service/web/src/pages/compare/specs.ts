/** Where specs differ. */

export interface Difference {
  path: string;
  values: string[];
  /** The teacher and the methods are what such runs are meant to differ in. */
  expected: boolean;
}

const IGNORED = new Set(["name", "seed"]);

export function flatten(value: unknown, path = ""): Map<string, string> {
  const found = new Map<string, string>();
  if (typeof value === "object" && value !== null && Object.keys(value).length > 0) {
    for (const [key, inner] of Object.entries(value)) for (const [deep, text] of flatten(inner, path === "" ? key : `${path}.${key}`)) found.set(deep, text);
  } else found.set(path, JSON.stringify(value));
  return found;
}

/** The fields that are not the same in all of these specs; "–" where a spec lacks one. */
export function differing(specs: readonly unknown[]): Difference[] {
  const flat = specs.map((spec) => flatten(spec));
  const paths = new Set(flat.flatMap((one) => [...one.keys()]));
  const rows: Difference[] = [];
  for (const path of paths) {
    const top = path.split(".")[0] ?? path;
    const values = flat.map((one) => one.get(path) ?? "–");
    if (IGNORED.has(top) || new Set(values).size < 2) continue;
    rows.push({ path, values, expected: top === "teacher" || top === "methods" || top === "resources" });
  }
  return rows.sort((a, b) => Number(a.expected) - Number(b.expected) || a.path.localeCompare(b.path));
}
