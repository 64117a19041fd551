/** One colour, dash and marker for each method, the same on every page, theme and export. */

// Okabe and Ito's colours, darkened or lightened until they have 3:1 on the ground of their theme.
const LIGHT = ["#0072b2", "#c04f00", "#00805e", "#a8437f", "#7a6200", "#3f7fb5", "#8a3b00", "#4d4d4d"] as const;
const DARK = ["#56b4e9", "#ff9d5c", "#2fc99b", "#e38fc0", "#e6c229", "#9ccdf2", "#d98c5f", "#c4c4c4"] as const;
const DASHES: readonly (readonly number[])[] = [[], [8, 4], [2, 3], [10, 3, 2, 3]];
export const MARKERS = ["circle", "triangle", "square", "diamond", "cross", "star", "wye", "plus"] as const;

// The methods that exist have fixed places; others take a place by their name, so that it never changes.
const KNOWN = ["bckd", "baseline", "teacher", "ld", "crosskd", "pkd", "fgd", "fitnet", "fine_grained", "gi", "softmax_kd", "sigmoid_kd"];

export interface Look {
  color: string;
  dash: readonly number[];
  marker: (typeof MARKERS)[number];
}

export function look(method: string, dark: boolean): Look {
  const place = KNOWN.includes(method) ? KNOWN.indexOf(method) : KNOWN.length + hash(method);
  const colors = dark ? DARK : LIGHT;
  return {
    color: colors[place % colors.length] ?? colors[0],
    dash: DASHES[Math.floor(place / colors.length) % DASHES.length] ?? [],
    marker: MARKERS[place % MARKERS.length] ?? "circle",
  };
}

function hash(text: string): number {
  let value = 0;
  for (const letter of text) value = (value * 31 + (letter.codePointAt(0) ?? 0)) >>> 0;
  return value % 1009;
}
