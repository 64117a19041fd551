/** Numbers and times as people read them. Everything that is missing is a dash. */

export const DASH = "–";
const MINUS = "−";

/** A number with so many decimals, and a real minus sign. */
export function number(value: number | null | undefined, digits = 1): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return DASH;
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? MINUS + text : text;
}

/** A difference, always with its sign. */
export function signed(value: number | null | undefined, digits = 1): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return DASH;
  const text = number(value, digits);
  return text.startsWith(MINUS) || Number(text) === 0 ? text : `+${text}`;
}

/** Three significant digits, without an exponent where that is readable: 0.00123, 12.3, 1,230. */
export function compact(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return DASH;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(2).replace("e+", "e").replace("-", MINUS);
  if (size >= 1000) return value.toLocaleString("en", { maximumFractionDigits: 0 }).replace("-", MINUS);
  return String(Number(value.toPrecision(3))).replace("-", MINUS);
}

/** As `compact`, large numbers in millions and billions: 610,000; 2.41 M. */
export function short(value: number | null | undefined): string {
  if (value === null || value === undefined || Math.abs(value) < 999_500) return compact(value);
  const [size, unit] = Math.abs(value) < 999.5e6 ? [1e6, "M"] : [1e9, "G"];
  return `${compact(value / size)} ${unit}`;
}

export function integer(value: number | null | undefined): string {
  return value === null || value === undefined ? DASH : value.toLocaleString("en", { maximumFractionDigits: 0 });
}

/** 39.7 ± 0.5; one run has no deviation. */
export function meanStd(mean: number | null | undefined, std: number | null | undefined, digits = 1): string {
  if (mean === null || mean === undefined) return DASH;
  return std === null || std === undefined ? number(mean, digits) : `${number(mean, digits)} ± ${number(std, digits)}`;
}

/** [1.5, 7.8]: the bounds of an interval, with signs. */
export function interval(low: number | null | undefined, high: number | null | undefined, digits = 1): string {
  if (low === null || low === undefined || high === null || high === undefined) return DASH;
  return `[${signed(low, digits)}, ${signed(high, digits)}]`;
}

/** A length of time: 850 ms, 12 s, 3 min 20 s, 2 h 5 min, 3 d 4 h. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds) || seconds < 0) return DASH;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const [big, small, unit, sub] =
    seconds < 3600 ? [60, 1, "min", "s"] : seconds < 86400 ? [3600, 60, "h", "min"] : [86400, 3600, "d", "h"];
  const whole = Math.floor(seconds / big);
  const rest = Math.floor((seconds - whole * big) / small);
  return rest === 0 ? `${whole} ${unit}` : `${whole} ${unit} ${rest} ${sub}`;
}

/** How long ago, for a moment in Unix seconds. */
export function ago(time: number | null | undefined, now: number = Date.now() / 1000): string {
  if (time === null || time === undefined) return DASH;
  const seconds = now - time;
  if (seconds < 10) return "just now";
  return `${duration(seconds).split(" ").slice(0, 2).join(" ")} ago`;
}

/** 2026-11-26 12:40, in local time. */
export function moment(time: number | null | undefined): string {
  if (time === null || time === undefined) return DASH;
  const at = new Date(time * 1000);
  const two = (part: number): string => String(part).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
}

/** Bytes in kB, MB, GB (powers of 1,000). */
export function bytes(size: number | null | undefined): string {
  if (size === null || size === undefined) return DASH;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let [value, unit] = [size, 0];
  while (value >= 999.5 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${unit === 0 ? value : Number(value.toPrecision(3))} ${units[unit] ?? ""}`;
}

/** 36 % */
export function percent(share: number | null | undefined, digits = 0): string {
  return share === null || share === undefined || !Number.isFinite(share) ? DASH : `${number(100 * share, digits)} %`;
}

/** A value of p; what is smaller than can be told apart is said so. */
export function probability(p: number | null): string {
  return p === null ? DASH : p < 0.001 ? "< 0.001" : p.toFixed(3);
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${integer(count)} ${count === 1 ? one : many}`;
}
