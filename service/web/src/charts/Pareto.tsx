/** How good against how dear: a mark for each group with its interval, and the front as a line in steps. */
import { useComputedColorScheme } from "@mantine/core";
import { useElementSize } from "@mantine/hooks";
import type { JSX } from "react";

import { number, short } from "@/lib/format";

import { Mark } from "./Mark";
import { look } from "./palette";
import { apart, ticks } from "./scale";

export interface Point {
  label: string;
  method: string;
  cost: number;
  mean: number;
  low: number | null;
  high: number | null;
  front: boolean;
}

const [LEFT, RIGHT, TOP, BOTTOM] = [52, 24, 14, 44];

export function Pareto({ points, xLabel, yLabel, height = 340 }: { points: readonly Point[]; xLabel: string; yLabel: string; height?: number }): JSX.Element {
  const { ref, width } = useElementSize();
  const dark = useComputedColorScheme("light") === "dark";
  const costs = points.map((point) => point.cost);
  const ends = points.flatMap((point) => [point.low ?? point.mean, point.high ?? point.mean]);
  const xs = ticks(Math.min(0, ...costs), Math.max(...costs));
  const ys = ticks(Math.min(...ends), Math.max(...ends));
  const inner = width - LEFT - RIGHT;
  const x = (value: number): number => LEFT + ((value - xs.low) / (xs.high - xs.low)) * inner;
  const y = (value: number): number => TOP + (1 - (value - ys.low) / (ys.high - ys.low)) * (height - TOP - BOTTOM);
  const labels = apart(points.map((point) => y(point.mean) - 13), 14);
  const front = points.filter((point) => point.front);
  const path = front.map((point, i) => (i === 0 ? `M${x(point.cost)},${y(point.mean)}` : `H${x(point.cost)}V${y(point.mean)}`)).join("");
  const told = points.map((point) => `${point.label}: ${number(point.mean)} at ${short(point.cost)}${point.front ? " (front)" : ""}`).join("; ");
  return (
    <figure ref={ref} style={{ margin: 0, minWidth: 0, minHeight: height }}>
      {width > 0 && (
        <svg width={width} height={height} role="img" aria-label={`${yLabel} by ${xLabel}. ${told}`} style={{ display: "block" }} fontSize={12}>
          {ys.at.map((value) => (
            <g key={value}>
              <line x1={LEFT} x2={width - RIGHT} y1={y(value)} y2={y(value)} stroke="var(--bcd-line)" />
              <text x={LEFT - 6} y={y(value) + 4} textAnchor="end" fill="currentColor">
                {short(value)}
              </text>
            </g>
          ))}
          {xs.at.map((value) => (
            <text key={value} x={x(value)} y={height - BOTTOM + 18} textAnchor="middle" fill="currentColor">
              {short(value)}
            </text>
          ))}
          <text x={LEFT + inner / 2} y={height - 6} textAnchor="middle" fill="currentColor">
            {xLabel}
          </text>
          <text x={4} y={TOP - 3} fill="currentColor">
            {yLabel}
          </text>
          {path !== "" && <path d={`${path}H${width - RIGHT}`} fill="none" stroke="currentColor" strokeOpacity={0.5} strokeWidth={1.5} strokeDasharray="5 4" />}
          {points.map((point, i) => {
            const { color, marker } = look(point.method, dark);
            // Those of one cost stand side by side, so that their intervals can be told apart.
            const centre = x(point.cost) + 7 * points.slice(0, i).filter((other) => Math.abs(x(other.cost) - x(point.cost)) < 6).length;
            const right = centre > LEFT + inner * 0.6;
            return (
              <g key={point.label}>
                <title>{`${point.label}: ${yLabel} ${number(point.mean)}, ${xLabel} ${short(point.cost)}`}</title>
                {point.low !== null && point.high !== null && <line x1={centre} x2={centre} y1={y(point.low)} y2={y(point.high)} stroke={color} strokeWidth={2} />}
                <Mark shape={marker} x={centre} y={y(point.mean)} size={6} color={color} filled={point.front} />
                <text x={centre + (right ? -11 : 11)} y={(labels[i] ?? 0) + 4} textAnchor={right ? "end" : "start"} fill="currentColor">
                  {point.label}
                </text>
              </g>
            );
          })}
        </svg>
      )}
    </figure>
  );
}
