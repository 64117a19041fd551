/** Which columns of the list are shown, as the address writes it: names in order, metrics as `best.KEY` or `last.KEY`. */

/** Those that are shown where the address says nothing. */
export const USUAL = ["state", "name", "method", "detector", "dataset", "seed", "progress", "AP", "time", "created", "why"] as const;

const METRIC = /^(best|last)\.(.+)$/;

/** The metric of a column of one; null for other columns. */
export function metricOf(id: string): { which: "best" | "last"; key: string } | null {
  const found = METRIC.exec(id);
  return found === null ? null : { which: found[1] === "best" ? "best" : "last", key: found[2] ?? "" };
}

/** The columns to show, of those that there are; the name is always one of them. */
export function shownOf(cols: readonly string[] | undefined, known: readonly string[]): string[] {
  const wanted = (cols ?? USUAL).filter((id, i, all) => all.indexOf(id) === i && (known.includes(id) || metricOf(id) !== null));
  return wanted.includes("name") ? wanted : ["name", ...wanted];
}

/** What the address says for these columns: nothing for the usual ones. */
export function colsOf(shown: readonly string[]): string[] | undefined {
  return shown.length === USUAL.length && shown.every((id, i) => id === USUAL[i]) ? undefined : [...shown];
}

/** With a column shown or not; one that is shown again takes its usual place, a new one comes before the last. */
export function toggled(shown: readonly string[], id: string): string[] {
  if (shown.includes(id)) return shown.filter((one) => one !== id);
  const usual: readonly string[] = USUAL;
  const at = usual.indexOf(id);
  const after = at < 0 ? shown.length : shown.findIndex((one) => usual.indexOf(one) > at);
  const place = after < 0 ? shown.length : after;
  return [...shown.slice(0, place), id, ...shown.slice(place)];
}
