/** Curves with their legend of methods, their last values as a table, and files of what is drawn. */
import { Group, Text, useComputedColorScheme } from "@mantine/core";
import type { JSX } from "react";

import type { Column } from "@/components/DataTable";
import { compact, integer } from "@/lib/format";

import { Chart } from "./Chart";
import { type Line, Lines, type LinesProps } from "./Lines";
import { look } from "./palette";

const MOST_NAMED = 12; // lines that the chart's own legend names

const COLUMNS: Column<Line>[] = [
  { id: "label", header: "Line", cell: (line) => line.label, value: (line) => line.label },
  { id: "last", header: "Last", align: "right", cell: (line) => compact(last(line)), value: last },
  { id: "least", header: "Least", align: "right", cell: (line) => compact(extreme(line, Math.min)), value: (line) => extreme(line, Math.min) },
  { id: "most", header: "Most", align: "right", cell: (line) => compact(extreme(line, Math.max)), value: (line) => extreme(line, Math.max) },
  { id: "points", header: "Points drawn", align: "right", cell: (line) => integer(line.x.length), value: (line) => line.x.length },
];

export function LinesChart({ name, ...props }: LinesProps & { name: string }): JSX.Element {
  const drawn = props.lines.filter((line) => line.faint !== true);
  return (
    <Chart name={name} rows={drawn} columns={COLUMNS} rowKey={(line) => line.id} all={() => table(props)}>
      <Lines {...props} />
      {drawn.length > MOST_NAMED && <Methods lines={drawn} />}
    </Chart>
  );
}

/** Too many lines to name each: which colour and dash is which method. */
function Methods({ lines }: { lines: readonly Line[] }): JSX.Element {
  const dark = useComputedColorScheme("light") === "dark";
  const counts = new Map<string, number>();
  for (const line of lines) counts.set(line.method, (counts.get(line.method) ?? 0) + 1);
  return (
    <Group gap="md" mt={4}>
      {[...counts].map(([method, count]) => {
        const { color, dash } = look(method, dark);
        return (
          <Group gap={6} key={method}>
            <svg width={30} height={10} aria-hidden>
              <line x1={0} x2={30} y1={5} y2={5} stroke={color} strokeWidth={2.5} strokeDasharray={dash.join(" ")} />
            </svg>
            <Text size="sm">
              {method} ({integer(count)})
            </Text>
          </Group>
        );
      })}
    </Group>
  );
}

function table({ lines, xLabel, yLabel }: LinesProps): { headers: string[]; rows: (string | number | null)[][] } {
  return { headers: ["line", xLabel, yLabel], rows: lines.flatMap((line) => line.x.map((x, i) => [line.label, x, line.y[i] ?? null])) };
}

function last(line: Line): number | null {
  return line.y.findLast((y) => y !== null) ?? null;
}

function extreme(line: Line, of: (...values: number[]) => number): number | null {
  const values = line.y.filter((y): y is number => y !== null);
  return values.length === 0 ? null : values.reduce((a, b) => of(a, b));
}
