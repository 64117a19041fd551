/** From the service's curves to drawn lines. */
import type { Schemas } from "@/api/client";
import type { Line } from "@/charts/Lines";
import { smooth } from "@/charts/smooth";
import { plural } from "@/lib/format";

type Curve = Schemas["Curve"];

export interface Run {
  id: string;
  name: string;
  method: string;
}

/** The lines of one metric. Bands are mean ± standard deviation of the raw values; only the line itself is smoothed. */
export function linesOf(curves: readonly Curve[], runs: ReadonlyMap<string, Run>, weight: number): Line[] {
  return curves.map((curve) => {
    const y = curve.mean ?? curve.last ?? [];
    const { mean, std } = curve;
    const first = runs.get(curve.runs[0] ?? "");
    const grouped = curve.group !== null;
    const band =
      mean != null && std != null
        ? { low: mean.map((value, i) => below(value, std[i])), high: mean.map((value, i) => above(value, std[i])) }
        : {};
    return {
      id: curve.group ?? curve.runs[0] ?? curve.metric,
      label: grouped ? `${curve.group ?? ""} (${plural(curve.runs.length, "run")})` : (first?.name ?? curve.runs[0] ?? curve.metric),
      method: first?.method ?? "baseline",
      x: curve.x,
      y: smooth(y, weight),
      ...band,
    };
  });
}

function below(value: number, deviation: number | null | undefined): number | null {
  return deviation === null || deviation === undefined ? null : value - deviation;
}

function above(value: number, deviation: number | null | undefined): number | null {
  return deviation === null || deviation === undefined ? null : value + deviation;
}
