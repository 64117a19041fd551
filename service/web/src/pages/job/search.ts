import { type ImagesSearch, imagesSearch } from "@/images/search";
import { numeric, oneOf, type Search, text } from "@/lib/search";

export const TABS = ["live", "results", "images", "log", "spec", "artifacts", "lineage"] as const;
export type Tab = (typeof TABS)[number];

export const LEVELS = ["info", "warning", "error"] as const;

export interface JobSearch extends ImagesSearch {
  tab?: Tab | undefined;
  q?: string | undefined;
  level?: (typeof LEVELS)[number] | undefined;
  attempt?: number | undefined;
}

export function jobSearch(search: Search): JobSearch {
  return { ...imagesSearch(search), tab: oneOf(search["tab"], TABS), q: text(search["q"]), level: oneOf(search["level"], LEVELS), attempt: numeric(search["attempt"]) };
}
