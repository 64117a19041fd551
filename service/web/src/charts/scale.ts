/** Axes and labels that people can read. */

export interface Axis {
  low: number;
  high: number;
  at: number[];
}

/** Round numbers from below the lowest value to above the highest one. */
export function ticks(low: number, high: number, wanted = 5): Axis {
  const span = high - low || Math.abs(high) || 1;
  const raw = span / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 2.5, 5].find((factor) => factor * power >= raw) ?? 10);
  const first = Math.floor(low / step);
  const last = Math.max(first + 1, Math.ceil(high / step));
  return { low: first * step, high: last * step, at: Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12))) };
}

/** Heights moved down until no two are nearer than `least`, each as little as possible, from the top. */
export function apart(heights: readonly number[], least: number): number[] {
  const out = [...heights];
  let before = -Infinity;
  for (const i of heights.map((_, index) => index).sort((a, b) => (heights[a] ?? 0) - (heights[b] ?? 0))) {
    before = Math.max(out[i] ?? 0, before + least);
    out[i] = before;
  }
  return out;
}
