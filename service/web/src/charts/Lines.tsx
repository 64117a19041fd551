/** Curves: many lines on one canvas (uPlot), with bands, horizontal references, marks, a summary and a table for readers. */
import "uplot/dist/uPlot.min.css";

import { useComputedColorScheme } from "@mantine/core";
import { useElementSize } from "@mantine/hooks";
import { type JSX, useEffect, useRef } from "react";
import uPlot from "uplot";

import { compact } from "@/lib/format";

import { look } from "./palette";

export interface Line {
  id: string;
  label: string;
  /** Decides the colour: a method's name, `baseline` or `teacher`. */
  method: string;
  x: readonly number[];
  y: readonly (number | null)[];
  /** A band around the line, at the same places. */
  low?: readonly (number | null)[];
  high?: readonly (number | null)[];
  faint?: boolean;
}

export interface Reference {
  label: string;
  method: string;
  y: number;
}

export interface LinesProps {
  title: string;
  xLabel: string;
  yLabel: string;
  lines: readonly Line[];
  references?: readonly Reference[];
  height?: number;
  logY?: boolean;
  xFormat?: (x: number) => string;
  onZoom?: (from: number | null, to: number | null) => void;
}

export function Lines({ title, xLabel, yLabel, lines, references = [], height = 280, logY = false, xFormat = compact, onZoom }: LinesProps): JSX.Element {
  const dark = useComputedColorScheme("light") === "dark";
  const { ref, width } = useElementSize();
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const at = place.current;
    if (at === null || width === 0) return undefined;
    const ink = dark ? "#c9d1d9" : "#3b444d";
    const rule = dark ? "#31363c" : "#e3e7eb";
    const axis = { stroke: ink, grid: { stroke: rule, width: 1 }, ticks: { stroke: rule, width: 1 }, font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif" };
    const tables: uPlot.AlignedData[] = [];
    const series: uPlot.Series[] = [{ label: xLabel, value: (_, x: number | null) => (x === null ? "" : xFormat(x)) }];
    const bands: uPlot.Band[] = [];
    for (const line of lines) {
      const { color, dash } = look(line.method, dark);
      const ys: (readonly (number | null)[])[] = [line.y];
      series.push({ label: line.label, stroke: line.faint === true ? `${color}55` : color, width: line.faint === true ? 1 : 1.6, dash: [...dash], points: { show: line.x.length < 3 }, spanGaps: true, value: (_, y) => compact(y) });
      if (line.low !== undefined && line.high !== undefined) {
        const own = series.length;
        for (const edge of [line.high, line.low]) {
          ys.push(edge);
          series.push({ stroke: `${color}00`, width: 0, points: { show: false }, spanGaps: true });
        }
        bands.push({ series: [own, own + 1], fill: `${color}2a` });
      }
      tables.push([[...line.x], ...ys.map((one) => [...one])] as uPlot.AlignedData);
    }
    const xs = lines.flatMap((line) => [line.x[0], line.x.at(-1)]).filter((x): x is number => x !== undefined);
    for (const reference of references) {
      if (xs.length === 0) break;
      series.push({ label: reference.label, stroke: look(reference.method, dark).color, width: 1.4, dash: [3, 3], points: { show: false }, value: () => compact(reference.y) });
      tables.push([[Math.min(...xs), Math.max(...xs)], [reference.y, reference.y]]);
    }
    // uPlot names its kinds of scale (3: logarithmic) in a const enum, which a bundler cannot read.
    // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment
    const scale: uPlot.Scale = logY ? { distr: 3 } : {};
    const data = tables.length === 0 ? ([[]] as unknown as uPlot.AlignedData) : uPlot.join(tables);
    const chart = new uPlot(
      {
        width,
        height,
        scales: { x: { time: false }, y: scale },
        axes: [
          { ...axis, label: xLabel, values: (_, splits) => splits.map(xFormat) },
          { ...axis, label: yLabel, size: 62, values: (_, splits) => splits.map((y: number | null) => (y === null ? "" : compact(y))) },
        ],
        series,
        bands,
        legend: { show: lines.length + references.length <= 12 },
        cursor: { drag: { x: true, y: false } },
        hooks: {
          setSelect: [
            (plot) => {
              if (plot.select.width > 3) onZoom?.(plot.posToVal(plot.select.left, "x"), plot.posToVal(plot.select.left + plot.select.width, "x"));
            },
          ],
        },
      },
      data,
      at,
    );
    return () => chart.destroy();
  }, [lines, references, width, height, dark, logY, xLabel, yLabel, xFormat, onZoom]);
  return (
    <figure ref={ref} style={{ margin: 0, minWidth: 0 }} aria-label={`${title}: ${summary(lines, references)}`}>
      <div ref={place} style={{ minHeight: height }} />
    </figure>
  );
}

function summary(lines: readonly Line[], references: readonly Reference[]): string {
  const parts = lines.slice(0, 5).map((line) => `${line.label} ends at ${compact(line.y.findLast((y) => y !== null))}`);
  if (lines.length > 5) parts.push(`and ${lines.length - 5} more lines`);
  return [...parts, ...references.map((one) => `${one.label} at ${compact(one.y)}`)].join(", ") || "no points yet";
}
