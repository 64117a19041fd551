import { list, type Search, text } from "@/lib/search";

/** `q`: a filter; `sort`: as the API takes it; `metrics`: columns of metrics; `sel`: chosen rows. */
export interface JobsSearch {
  q?: string | undefined;
  sort?: string | undefined;
  metrics?: string[] | undefined;
  sel?: string[] | undefined;
}

export function jobsSearch(search: Search): JobsSearch {
  return { q: text(search["q"]), sort: text(search["sort"]), metrics: list(search["metrics"]), sel: list(search["sel"]) };
}
