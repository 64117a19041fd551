import { type Search, text } from "@/lib/search";

export interface ModelsSearch {
  q?: string | undefined;
  sort?: string | undefined;
}

export function modelsSearch(search: Search): ModelsSearch {
  return { q: text(search["q"]), sort: text(search["sort"]) };
}
