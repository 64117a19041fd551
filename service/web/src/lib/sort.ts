/** The order of a list of the service, as its address writes it: `-best.AP`. */
import type { Sort } from "@/components/DataTable";

export function sortOf(text: string): Sort {
  const first = text.split(",")[0] ?? "";
  return { id: first.replace(/^[-+]/, ""), descending: first.startsWith("-") };
}

export function sortText(sort: Sort): string {
  return (sort.descending ? "-" : "") + sort.id;
}
