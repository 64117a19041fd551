import { type Search, text } from "@/lib/search";

export interface NewSearch {
  /** A job to begin from. */
  from?: string | undefined;
  /** A job whose student is to teach. */
  teacher?: string | undefined;
}

export function newSearch(search: Search): NewSearch {
  return { from: text(search["from"]), teacher: text(search["teacher"]) };
}
