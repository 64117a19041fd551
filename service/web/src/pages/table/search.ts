import { oneOf, type Search } from "@/lib/search";

export const TABS = ["results", "cells", "manifest"] as const;

export interface TableSearch {
  tab?: (typeof TABS)[number] | undefined;
}

export function tableSearch(search: Search): TableSearch {
  return { tab: oneOf(search["tab"], TABS) };
}
