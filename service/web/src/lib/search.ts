/** Addresses as people can read and share them: lists as `a,b`, defaults left out, no JSON. */

export type Search = Record<string, unknown>;

export function parseSearch(text: string): Search {
  const found: Search = {};
  for (const [key, value] of new URLSearchParams(text.replace(/^\?/, ""))) found[key] = value;
  return found;
}

export function stringifySearch(search: Search): string {
  const params = new URLSearchParams();
  for (const [key, value] of Object.entries(search)) {
    if (value === undefined || value === null || value === "") continue;
    const text = Array.isArray(value) ? value.map(String).join(",") : typeof value === "boolean" ? (value ? "1" : "0") : scalar(value);
    if (text !== "") params.set(key, text);
  }
  // Commas and colons stay readable: they mean nothing in a query.
  const text = params.toString().replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%2F", "/");
  return text === "" ? "" : `?${text}`;
}

function scalar(value: unknown): string {
  return typeof value === "number" || typeof value === "string" ? String(value) : "";
}

/** Readers of one part of an address. What is not there, or makes no sense, is the default (and is not written). */
export function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

export function list(value: unknown): string[] | undefined {
  if (Array.isArray(value)) return value.length > 0 ? value.map(String) : undefined;
  return typeof value === "string" && value !== "" ? value.split(",").filter((part) => part !== "") : undefined;
}

export function numeric(value: unknown): number | undefined {
  if (value === undefined || value === null || value === "") return undefined;
  const found = Number(value);
  return Number.isFinite(found) ? found : undefined;
}

export function flag(value: unknown): boolean | undefined {
  return value === true || value === "1" || value === "true" ? true : undefined;
}

export function oneOf<T extends string>(value: unknown, choices: readonly T[]): T | undefined {
  return choices.find((choice) => choice === value);
}
