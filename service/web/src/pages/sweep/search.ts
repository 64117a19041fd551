import { list, oneOf, type Search, text } from "@/lib/search";

export const ORDERS = ["ascending", "descending"] as const;

export interface SweepSearch {
  metric?: string | undefined;
  /** Fields of the spec that are drawn as axes. */
  axes?: string[] | undefined;
  order?: (typeof ORDERS)[number] | undefined;
}

export function sweepSearch(search: Search): SweepSearch {
  return { metric: text(search["metric"]), axes: list(search["axes"]), order: oneOf(search["order"], ORDERS) };
}
