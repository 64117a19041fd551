/** Parallel coordinates: one line for each trial over the axes of the search space; drag along an axis to keep a part. */
import { useElementSize } from "@mantine/hooks";
import { type JSX, type PointerEvent, useRef, useState } from "react";

import { compact } from "@/lib/format";

export interface ParallelAxis {
  id: string;
  label: string;
  /** Texts at the places from 0 to 1. */
  ticks: { at: number; text: string }[];
}

export interface ParallelLine {
  id: string;
  label: string;
  /** A place on each axis; null: no such value. */
  at: (number | null)[];
  /** From 0 (worst) to 1 (best), decides how strongly it is drawn. */
  good: number;
  /** Not run to its end. */
  dashed: boolean;
  faint: boolean;
}

interface Props {
  title: string;
  axes: readonly ParallelAxis[];
  lines: readonly ParallelLine[];
  brushes: Readonly<Record<string, readonly [number, number]>>;
  onBrush: (id: string, brush: [number, number] | null) => void;
  chosen?: string | null;
}

const HEIGHT = 300;
const TOP = 34;
const BOTTOM = 44; // with the lane of those without a value
const SIDE = 60;
const LEAST = 0.03; // of an axis; less is a click, which clears

export function Parallel({ title, axes, lines, brushes, onBrush, chosen = null }: Props): JSX.Element {
  const { ref, width } = useElementSize();
  const [drag, setDrag] = useState<{ id: string; from: number; to: number } | null>(null);
  const svg = useRef<SVGSVGElement>(null);
  const inner = HEIGHT - TOP - BOTTOM;
  const x = (i: number): number => (axes.length === 1 ? width / 2 : SIDE + (i * (width - 2 * SIDE)) / (axes.length - 1));
  const y = (place: number | null): number => (place === null ? HEIGHT - 14 : TOP + (1 - place) * inner);
  const place = (event: PointerEvent): number => {
    const box = svg.current?.getBoundingClientRect();
    return Math.min(1, Math.max(0, 1 - (event.clientY - (box?.top ?? 0) - TOP) / inner));
  };
  const end = (): void => {
    if (drag === null) return;
    const [low, high] = [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)];
    onBrush(drag.id, high - low < LEAST ? null : [low, high]);
    setDrag(null);
  };
  const drawn = [...lines].sort((a, b) => Number(b.faint) - Number(a.faint) || a.good - b.good);
  return (
    <div ref={ref} style={{ minWidth: 0, minHeight: HEIGHT }}>
      {width > 0 && (
        <svg ref={svg} width={width} height={HEIGHT} role="img" aria-label={`${title}: ${String(lines.filter((line) => !line.faint).length)} of ${String(lines.length)} trials over ${axes.map((axis) => axis.label).join(", ")}`} style={{ touchAction: "none", userSelect: "none", display: "block" }}>
          <g fill="none">
            {drawn.map((line) => (
              <path
                key={line.id}
                d={line.at.map((at, i) => `${i === 0 ? "M" : "L"}${x(i).toFixed(1)},${y(at).toFixed(1)}`).join("")}
                stroke={line.faint ? "var(--bcd-line)" : "var(--bcd-gain)"}
                strokeOpacity={line.faint ? 0.6 : chosen === line.id ? 1 : 0.18 + 0.75 * line.good ** 2}
                strokeWidth={chosen === line.id ? 3 : line.good > 0.95 && !line.faint ? 2.2 : 1.2}
                strokeDasharray={line.dashed ? "3 3" : undefined}
              >
                <title>{line.label}</title>
              </path>
            ))}
          </g>
          {axes.map((axis, i) => {
            const brush = drag?.id === axis.id ? ([Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)] as const) : brushes[axis.id];
            return (
              <g key={axis.id}>
                <line x1={x(i)} x2={x(i)} y1={TOP} y2={TOP + inner} stroke="currentColor" strokeWidth={1} />
                <text x={x(i)} y={14} textAnchor="middle" fontSize={12} fontWeight={600} fill="currentColor">
                  {axis.label}
                </text>
                {axis.ticks.map((tick) => (
                  <text key={tick.text + String(tick.at)} x={x(i) + 6} y={y(tick.at) + 4} fontSize={11} fill="currentColor" paintOrder="stroke" stroke="var(--mantine-color-body)" strokeWidth={3}>
                    {tick.text}
                  </text>
                ))}
                {brush !== undefined && <rect x={x(i) - 7} width={14} y={y(brush[1])} height={Math.max(2, y(brush[0]) - y(brush[1]))} fill="var(--bcd-gain)" fillOpacity={0.25} stroke="var(--bcd-gain)" />}
                <rect
                  x={x(i) - 16}
                  width={32}
                  y={TOP - 8}
                  height={inner + 16}
                  fill="transparent"
                  style={{ cursor: "ns-resize" }}
                  onPointerDown={(event) => {
                    event.currentTarget.setPointerCapture(event.pointerId);
                    setDrag({ id: axis.id, from: place(event), to: place(event) });
                  }}
                  onPointerMove={(event) => {
                    if (drag?.id === axis.id) setDrag({ ...drag, to: place(event) });
                  }}
                  onPointerUp={end}
                  onPointerCancel={() => setDrag(null)}
                />
              </g>
            );
          })}
          {lines.some((line) => line.at.includes(null)) && (
            <text x={4} y={HEIGHT - 10} fontSize={11} fill="currentColor">
              none
            </text>
          )}
        </svg>
      )}
    </div>
  );
}

/** Ends of an axis of numbers. */
export function ends(low: number, high: number): { at: number; text: string }[] {
  return [
    { at: 0, text: compact(low) },
    { at: 1, text: compact(high) },
  ];
}
