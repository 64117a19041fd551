/** A table as text: CSV, JSON, Markdown, LaTeX; each says where it comes from. */
import type { Column } from "@/components/DataTable";

export type Format = "csv" | "json" | "md" | "tex";
type Cell = string | number | null;

export interface Grid {
  headers: string[];
  rows: Cell[][];
}

/** What the columns that have a value say of the rows. */
export function grid<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): Grid {
  const shown = columns.filter((column) => column.value !== undefined);
  return { headers: shown.map((column) => column.header), rows: rows.map((row) => shown.map((column) => column.value?.(row) ?? null)) };
}

/** The grid in a format, with `source` (one line: what, when, from which address) as a comment where there are any. */
export function write(table: Grid, format: Format, source: string): string {
  const { headers, rows } = table;
  switch (format) {
    case "csv":
      return [headers, ...rows].map((row) => row.map(csv).join(",")).join("\r\n") + "\r\n";
    case "json":
      return JSON.stringify({ source, rows: rows.map((row) => Object.fromEntries(row.map((cell, i) => [headers[i] ?? String(i), cell]))) }, null, 2);
    case "md":
      return [line(headers), line(rows[0] === undefined ? headers.map(() => "---") : rows[0].map((cell) => (typeof cell === "number" ? "---:" : "---"))), ...rows.map((row) => line(row.map((cell) => text(cell).replaceAll("|", "\\|"))))].join("\n") + `\n\n<!-- ${source} -->\n`;
    case "tex":
      return [
        `% ${source}`,
        `\\begin{tabular}{${headers.map((_, i) => (typeof rows[0]?.[i] === "number" ? "r" : "l")).join("")}}`,
        "\\hline",
        `${headers.map(tex).join(" & ")} \\\\`,
        "\\hline",
        ...rows.map((row) => `${row.map((cell) => tex(text(cell))).join(" & ")} \\\\`),
        "\\hline",
        "\\end{tabular}",
        "",
      ].join("\n");
  }
}

function text(cell: Cell): string {
  if (cell === null) return "–";
  return typeof cell === "number" ? String(Number(cell.toPrecision(6))) : cell;
}

function csv(cell: Cell): string {
  if (cell === null) return "";
  if (typeof cell === "number") return String(cell);
  // A cell that begins like a formula would be run by a spreadsheet.
  const safe = /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : cell;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function line(cells: readonly Cell[]): string {
  return `| ${cells.map(text).join(" | ")} |`;
}

const TEX: Record<string, string> = {
  "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", $: "\\$", "#": "\\#", _: "\\_", "{": "\\{", "}": "\\}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$", "−": "$-$", "–": "--", "Δ": "$\\Delta$",
}; // prettier-ignore

function tex(value: string): string {
  return value.replace(/[\\&%$#_{}~^±−–Δ]/g, (one) => TEX[one] ?? one);
}
