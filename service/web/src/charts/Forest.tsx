/** Differences with their intervals as one picture: a dot, a line, and zero. */
import type { JSX } from "react";

import { interval, signed } from "@/lib/format";

export interface Interval {
  label: string;
  mean: number | null;
  low: number | null;
  high: number | null;
}

const WIDTH = 260;
const HEIGHT = 26;

/** The range that all of these share: zero and every bound, with some air. */
export function range(rows: readonly Interval[]): [number, number] {
  const ends = rows.flatMap((row) => [row.low ?? row.mean, row.high ?? row.mean]).filter((end): end is number => end !== null);
  const low = Math.min(0, ...ends);
  const high = Math.max(0, ...ends);
  const air = 0.08 * (high - low || 1);
  return [low - air, high + air];
}

interface Props {
  row: Interval;
  within: [number, number];
  /** Whether the difference counts as clear: its dot is filled then. Without a word: where there is an interval. */
  filled?: boolean;
}

export function Forest({ row, within, filled = row.low !== null }: Props): JSX.Element {
  const x = (value: number): number => ((value - within[0]) / (within[1] - within[0])) * WIDTH;
  const color = row.low !== null && row.low > 0 ? "var(--bcd-gain)" : row.high !== null && row.high < 0 ? "var(--bcd-loss)" : "currentColor";
  const middle = HEIGHT / 2;
  return (
    <svg width={WIDTH} height={HEIGHT} role="img" aria-label={`${row.label}: ${signed(row.mean)} AP, 95 % interval ${interval(row.low, row.high)}`}>
      <line x1={x(0)} x2={x(0)} y1={0} y2={HEIGHT} stroke="var(--bcd-line)" strokeWidth={2} />
      {row.low !== null && row.high !== null && (
        <g stroke={color} strokeWidth={2}>
          <line x1={x(row.low)} x2={x(row.high)} y1={middle} y2={middle} />
          <line x1={x(row.low)} x2={x(row.low)} y1={middle - 5} y2={middle + 5} />
          <line x1={x(row.high)} x2={x(row.high)} y1={middle - 5} y2={middle + 5} />
        </g>
      )}
      {row.mean !== null && <circle cx={x(row.mean)} cy={middle} r={4.5} fill={filled ? color : "var(--mantine-color-body)"} stroke={color} strokeWidth={2} />}
    </svg>
  );
}
