/** A chart with what one wants of every chart: its numbers as a table, and itself as a file. */
import { Button, Menu, Text } from "@mantine/core";
import { type JSX, type ReactNode, useRef, useState } from "react";

import { type Column, DataTable } from "@/components/DataTable";
import { download, provenance } from "@/lib/download";
import { grid, write } from "@/lib/table";

import { png, svgText } from "./export";

interface Props<Row> {
  /** The name of the files. */
  name: string;
  /** What is drawn, in numbers. */
  rows: readonly Row[];
  columns: readonly Column<Row>[];
  rowKey: (row: Row) => string;
  /** The numbers of a file, where the table on the page is only a summary of them. */
  all?: () => { headers: string[]; rows: (string | number | null)[][] };
  children: ReactNode;
}

export function Chart<Row>({ name, rows, columns, rowKey, all, children }: Props<Row>): JSX.Element {
  const frame = useRef<HTMLDivElement>(null);
  const [fault, setFault] = useState<string | null>(null);
  const ground = (): string => getComputedStyle(document.body).backgroundColor;
  const source = (): string => provenance(name);
  const svg = (): SVGSVGElement | null => frame.current?.querySelector("figure svg") ?? null;
  const save = (format: "png" | "svg" | "csv"): void => {
    setFault(null);
    const figure = frame.current?.querySelector("figure");
    if (format === "csv") download(`${name}.csv`, write(all?.() ?? grid(columns, rows), "csv", source()));
    else if (format === "svg") {
      const drawn = svg();
      if (drawn !== null) download(`${name}.svg`, svgText(drawn, source(), ground()), "image/svg+xml");
    } else if (figure != null) png(figure, source(), ground()).then((blob) => download(`${name}.png`, blob), (error: unknown) => setFault(error instanceof Error ? error.message : String(error)));
  };
  const [drawnAsSvg, setDrawnAsSvg] = useState(false);
  return (
    <div>
      <div ref={frame}>{children}</div>
      <div style={{ display: "flex", gap: 12, alignItems: "start", justifyContent: "space-between", marginTop: 4 }}>
        <details style={{ minWidth: 0, flexGrow: 1 }}>
          <summary>As a table</summary>
          <DataTable caption={`${name} as a table`} rows={rows} columns={[...columns]} rowKey={rowKey} maxHeight="40vh" />
        </details>
        <Menu position="bottom-end" onOpen={() => setDrawnAsSvg(svg() !== null && frame.current?.querySelector("figure canvas") === null)}>
          <Menu.Target>
            <Button size="compact-sm" variant="default" aria-label={`Save the chart ${name}`}>
              Save
            </Button>
          </Menu.Target>
          <Menu.Dropdown>
            <Menu.Item onClick={() => save("png")}>PNG</Menu.Item>
            {drawnAsSvg && <Menu.Item onClick={() => save("svg")}>SVG</Menu.Item>}
            <Menu.Item onClick={() => save("csv")}>CSV (the numbers drawn)</Menu.Item>
          </Menu.Dropdown>
        </Menu>
      </div>
      {fault !== null && (
        <Text size="sm" role="alert">
          {fault}
        </Text>
      )}
    </div>
  );
}
