import { type Search, text } from "@/lib/search";

export interface DatasetsSearch {
  /** The one that is looked at. */
  data?: string | undefined;
}

export function datasetsSearch(search: Search): DatasetsSearch {
  return { data: text(search["data"]) };
}
