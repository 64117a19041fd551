import { Button, Menu } from "@mantine/core";
import type { JSX } from "react";

import { download, provenance } from "@/lib/download";
import { type Format, grid, write } from "@/lib/table";

import type { Column } from "./DataTable";

const FORMATS: [Format, string][] = [
  ["csv", "CSV"],
  ["json", "JSON"],
  ["md", "Markdown"],
  ["tex", "LaTeX"],
];

/** The rows of a table as a file. */
export function ExportMenu<Row>({ name, columns, rows }: { name: string; columns: readonly Column<Row>[]; rows: readonly Row[] }): JSX.Element {
  return (
    <Menu position="bottom-end">
      <Menu.Target>
        <Button variant="default" size="sm" disabled={rows.length === 0}>
          Export
        </Button>
      </Menu.Target>
      <Menu.Dropdown>
        {FORMATS.map(([format, label]) => (
          <Menu.Item key={format} onClick={() => download(`${name}.${format}`, write(grid(columns, rows), format, provenance(`${name}, ${rows.length} rows`)))}>
            {label}
          </Menu.Item>
        ))}
      </Menu.Dropdown>
    </Menu>
  );
}
