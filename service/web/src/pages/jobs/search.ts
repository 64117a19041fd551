import { list, type Search, text } from "@/lib/search";

/** `q`: a filter; `sort`: as the API takes it; `sel`: chosen rows, where they are few. */
export interface JobsSearch {
  q?: string | undefined;
  sort?: string | undefined;
  sel?: string[] | undefined;
  /** Columns, where they are not the usual ones. */
  cols?: string[] | undefined;
}

export function jobsSearch(search: Search): JobsSearch {
  return { q: text(search["q"]), sort: text(search["sort"]), sel: list(search["sel"]), cols: list(search["cols"]) };
}
