/** Dots: a value against a parameter or against time; a filled one counts, a hollow one does not (it ended early). */
import { useElementSize } from "@mantine/hooks";
import type { JSX } from "react";

import { compact } from "@/lib/format";

export interface Dot {
  id: string;
  label: string;
  /** From 0 to 1. */
  x: number;
  y: number;
  filled: boolean;
  mark?: boolean;
}

interface Props {
  title: string;
  xLabel: string;
  yLabel: string;
  xTicks: readonly { at: number; text: string }[];
  range: readonly [number, number];
  dots: readonly Dot[];
  /** A line in steps, as (x from 0 to 1, y). */
  steps?: readonly { x: number; y: number }[];
  height?: number;
}

const LEFT = 52;
const RIGHT = 16;
const TOP = 10;
const BOTTOM = 40;

export function Scatter({ title, xLabel, yLabel, xTicks, range, dots, steps = [], height = 220 }: Props): JSX.Element {
  const { ref, width } = useElementSize();
  const [low, high] = range;
  const x = (at: number): number => LEFT + 8 + at * (width - LEFT - RIGHT - 16);
  const y = (value: number): number => TOP + (1 - (value - low) / (high - low || 1)) * (height - TOP - BOTTOM);
  let path = "";
  for (const [i, step] of steps.entries()) path += i === 0 ? `M${x(step.x).toFixed(1)},${y(step.y).toFixed(1)}` : `H${x(step.x).toFixed(1)}V${y(step.y).toFixed(1)}`;
  return (
    <figure ref={ref} style={{ margin: 0, minWidth: 0, minHeight: height }}>
      {width > 0 && (
        <svg width={width} height={height} role="img" aria-label={`${title}: ${String(dots.length)} trials, ${yLabel} from ${compact(low)} to ${compact(high)}`} style={{ display: "block" }}>
          {[0, 0.5, 1].map((part) => {
            const value = low + part * (high - low);
            return (
              <g key={part}>
                <line x1={LEFT} x2={width - RIGHT} y1={y(value)} y2={y(value)} stroke="var(--bcd-line)" />
                <text x={LEFT - 6} y={y(value) + 4} textAnchor="end" fontSize={11} fill="currentColor">
                  {compact(value)}
                </text>
              </g>
            );
          })}
          {xTicks.map((tick, i) => (
            <text key={tick.text + String(tick.at)} x={x(tick.at)} y={height - BOTTOM + 16} textAnchor={xTicks.length === 2 ? (i === 0 ? "start" : "end") : "middle"} fontSize={11} fill="currentColor">
              {tick.text}
            </text>
          ))}
          <text x={(LEFT + width - RIGHT) / 2} y={height - 6} textAnchor="middle" fontSize={12} fill="currentColor">
            {xLabel}
          </text>
          {path !== "" && <path d={`${path}H${x(1).toFixed(1)}`} fill="none" stroke="var(--bcd-gain)" strokeWidth={2} />}
          {dots.map((dot) => (
            <circle key={dot.id} cx={x(dot.x)} cy={y(dot.y)} r={dot.mark === true ? 6 : 4} fill={dot.filled ? "var(--bcd-gain)" : "var(--mantine-color-body)"} fillOpacity={0.85} stroke={dot.mark === true ? "currentColor" : "var(--bcd-gain)"} strokeWidth={1.5}>
              <title>{dot.label}</title>
            </circle>
          ))}
        </svg>
      )}
    </figure>
  );
}
