/** Axes of a search space: where a value lies between the ends of its parameter, and which trials a brush keeps. */
import type { Trial, Word } from "./sweep";
import { valueOf, wordText } from "./sweep";

export interface Axis {
  id: string;
  label: string;
  kind: "linear" | "log" | "words";
  low: number;
  high: number;
  words: string[];
}

/** Of an axis the part that is kept, from 0 (low end) to 1. */
export type Brush = readonly [number, number];
export type Brushes = Readonly<Record<string, Brush>>;

export const VALUE = "value";

interface ParameterSpec {
  type: string;
  low?: number;
  high?: number;
  log?: boolean;
  values?: unknown[];
  labels?: string[] | null;
}

/** One axis for each parameter, in the order of the space, and the objective's last. */
export function axesOf(space: Record<string, ParameterSpec>, objective: string, trials: readonly Trial[]): Axis[] {
  const axes = Object.entries(space).map(([path, parameter]): Axis => {
    if (parameter.type === "choice") {
      const words = parameter.labels ?? (parameter.values ?? []).map((value) => (typeof value === "object" && value !== null ? JSON.stringify(value) : wordText(value as Word)));
      return { id: path, label: short(path), kind: "words", low: 0, high: Math.max(1, words.length - 1), words: [...words] };
    }
    const log = parameter.type === "loguniform" || parameter.log === true;
    return { id: path, label: short(path), kind: log ? "log" : "linear", low: parameter.low ?? 0, high: parameter.high ?? 1, words: [] };
  });
  const values = trials.map(valueOf).filter((value): value is number => value !== null);
  const low = values.length > 0 ? Math.min(...values) : 0;
  const high = values.length > 0 ? Math.max(...values) : 1;
  return [...axes, { id: VALUE, label: objective, kind: "linear", low, high: high > low ? high : low + 1, words: [] }];
}

/** The last two words of a path: `0.cls_weight`, `optimizer.lr`. */
export function short(path: string): string {
  return path.split(".").slice(-2).join(".");
}

/** Where a trial is on an axis, from 0 to 1; null where it has no such value. */
export function position(axis: Axis, trial: Trial): number | null {
  if (axis.id === VALUE) {
    const value = valueOf(trial);
    return value === null ? null : (value - axis.low) / (axis.high - axis.low);
  }
  const word = trial.params[axis.id];
  if (word === undefined) return null;
  if (axis.kind === "words") {
    const place = axis.words.indexOf(wordText(word));
    return place < 0 ? null : axis.words.length === 1 ? 0.5 : place / (axis.words.length - 1);
  }
  if (typeof word !== "number") return null;
  return axis.kind === "log" ? Math.log(word / axis.low) / Math.log(axis.high / axis.low) : (word - axis.low) / (axis.high - axis.low);
}

/** The value at a place of an axis, as its end is written. */
export function at(axis: Axis, place: number): number | string {
  if (axis.kind === "words") return axis.words[Math.round(place * (axis.words.length - 1))] ?? "";
  return axis.kind === "log" ? axis.low * (axis.high / axis.low) ** place : axis.low + place * (axis.high - axis.low);
}

const AIR = 1e-6;

/** Trials that pass every brush. One without a value on a brushed axis does not. */
export function kept(trials: readonly Trial[], axes: readonly Axis[], brushes: Brushes): Trial[] {
  const asked = axes.filter((axis) => brushes[axis.id] !== undefined);
  return trials.filter((trial) =>
    asked.every((axis) => {
      const [low, high] = brushes[axis.id] ?? [0, 1];
      const place = position(axis, trial);
      return place !== null && place >= low - AIR && place <= high + AIR;
    }),
  );
}

/** Brushes as part of an address: `student.width:0.25:1`. */
export function brushesText(brushes: Brushes): string[] {
  return Object.entries(brushes).map(([id, [low, high]]) => `${id}:${short3(low)}:${short3(high)}`);
}

export function brushesOf(texts: readonly string[] | undefined): Brushes {
  const found: Record<string, Brush> = {};
  for (const text of texts ?? []) {
    const [id, low, high] = text.split(":");
    if (id !== undefined && id !== "" && Number.isFinite(Number(low)) && Number.isFinite(Number(high)) && Number(low) < Number(high)) found[id] = [Number(low), Number(high)];
  }
  return found;
}

function short3(value: number): string {
  return String(Number(value.toFixed(3)));
}
