import { type ImagesSearch, imagesSearch } from "@/images/search";
import { flag, list, numeric, oneOf, type Search, text } from "@/lib/search";

export const TABS = ["verdict", "classes", "costs", "images", "curves", "specs"] as const;
export type Tab = (typeof TABS)[number];
export const X = ["step", "relative_time", "time"] as const;
export const GROUPS = ["none", "spec", "method", "seed", "detector", "dataset", "group", "teacher"] as const;

export interface CompareSearch extends ImagesSearch {
  runs?: string[] | undefined;
  group?: string | undefined;
  baseline?: string | undefined;
  tab?: Tab | undefined;
  metric?: string | undefined;
  x?: (typeof X)[number] | undefined;
  by?: (typeof GROUPS)[number] | undefined;
  smooth?: number | undefined;
  log?: boolean | undefined;
  hidden?: string[] | undefined;
  /** Which cost is on the axis. */
  cost?: string | undefined;
}

export function compareSearch(search: Search): CompareSearch {
  return {
    ...imagesSearch(search),
    runs: list(search["runs"]),
    group: text(search["group"]),
    baseline: text(search["baseline"]),
    tab: oneOf(search["tab"], TABS),
    metric: text(search["metric"]),
    x: oneOf(search["x"], X),
    by: oneOf(search["by"], GROUPS),
    smooth: numeric(search["smooth"]),
    log: flag(search["log"]),
    hidden: list(search["hidden"]),
    cost: text(search["cost"]),
  };
}
