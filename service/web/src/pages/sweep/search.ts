import { list, numeric, oneOf, type Search } from "@/lib/search";

export const TABS = ["found", "trials", "slices", "spec"] as const;
export type Tab = (typeof TABS)[number];

export interface SweepSearch {
  tab?: Tab | undefined;
  /** What is kept of each axis, see axes.ts. */
  brush?: string[] | undefined;
  /** Only the best so many per cent. */
  top?: number | undefined;
}

export function sweepSearch(search: Search): SweepSearch {
  return { tab: oneOf(search["tab"], TABS), brush: list(search["brush"]), top: numeric(search["top"]) };
}
