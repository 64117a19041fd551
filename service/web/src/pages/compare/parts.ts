/** Classes over several comparisons. */
import type { Schemas } from "@/api/client";

type Part = Schemas["Part"];

export interface Across {
  name: string;
  /** One for each comparison; missing where it has no value for this class. */
  parts: (Part | undefined)[];
}

/** Whether the difference is more than seed noise, after the correction. */
export function clear(part: Pick<Part, "verdict">): boolean {
  return part.verdict === "better" || part.verdict === "worse";
}

/** Every class that any comparison knows, in the order of first sight. */
export function across(comparisons: readonly Pick<Schemas["PartsOfComparison"], "classes">[]): Across[] {
  const names = [...new Set(comparisons.flatMap((one) => one.classes.map((part) => part.name)))];
  return names.map((name) => ({ name, parts: comparisons.map((one) => one.classes.find((part) => part.name === name)) }));
}
