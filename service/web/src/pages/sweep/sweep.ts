/** What a sweep's pages know about sweeps and their trials. */
import { queryOptions } from "@tanstack/react-query";

import { api, body, type Schemas } from "@/api/client";
import { integer, number, plural } from "@/lib/format";

export type Sweep = Schemas["SweepDetail"];
export type Report = Schemas["SweepReport"];
export type Trial = Schemas["TrialOut"];
export type Word = string | number | boolean | null;

export const ENDED = new Set(["succeeded", "failed", "stopped"]);

export function sweepQuery(id: string) {
  return queryOptions({ queryKey: ["sweep", id], queryFn: ({ signal }) => body(api.GET("/api/v1/sweeps/{sweep_id}", { params: { path: { sweep_id: id } }, signal })) });
}

export function reportQuery(id: string) {
  return queryOptions({ queryKey: ["sweep", id, "report"], queryFn: ({ signal }) => body(api.GET("/api/v1/sweeps/{sweep_id}/report", { params: { path: { sweep_id: id } }, signal })) });
}

export function trialsQuery(id: string) {
  return queryOptions({ queryKey: ["sweep", id, "trials"], queryFn: ({ signal }) => body(api.GET("/api/v1/sweeps/{sweep_id}/trials", { params: { path: { sweep_id: id } }, signal })) });
}

/** tpe + asha */
export function how(sweep: Pick<Sweep, "search" | "scheduler">): string {
  return sweep.scheduler === "none" ? sweep.search : `${sweep.search} + ${sweep.scheduler}`;
}

/** 12 of 16 */
export function progress(sweep: Pick<Sweep, "jobs">): string {
  const ended = (sweep.jobs["succeeded"] ?? 0) + (sweep.jobs["failed"] ?? 0) + (sweep.jobs["cancelled"] ?? 0);
  const all = Object.values(sweep.jobs).reduce((sum, count) => sum + count, 0);
  return `${integer(ended)} of ${integer(all)}`;
}

/** What the search spent, in one line. */
export function spent(report: Report): string {
  const { trials, steps, steps_in_full, worker_hours, gpu_hours } = report.spent;
  const parts = [plural(trials, "trial"), report.stopped > 0 ? `${integer(report.stopped)} stopped early` : "", `${integer(steps)} steps${steps < steps_in_full ? ` of ${integer(steps_in_full)} in full` : ""}`];
  parts.push(worker_hours < 1 ? `${number(60 * worker_hours)} worker minutes` : `${number(worker_hours)} worker hours`);
  if (gpu_hours > 0) parts.push(`${number(gpu_hours)} GPU hours`);
  return parts.filter((part) => part !== "").join(", ");
}

/** The search's own run of each number: the one with the base spec's seed, which is the first of the number. */
export function searched(trials: readonly Trial[]): Trial[] {
  const first = new Map<number, Trial>();
  for (const trial of trials) if (trial.number > 0 && !first.has(trial.number)) first.set(trial.number, trial);
  return [...first.values()];
}

/** What is shown of a trial's first objective: its final value, else how far it had come. */
export function valueOf(trial: Trial): number | null {
  return trial.values?.[0] ?? trial.last;
}

/** Whether it ran to its end, so that its value may be compared with others. */
export function whole(trial: Trial): boolean {
  return trial.values !== null && trial.values.every((value) => value !== null);
}

export function outcome(trial: Trial): string {
  return trial.stopped ?? (trial.state === "failed" ? (trial.cause ?? "failed") : trial.state);
}

export function wordText(word: Word | undefined): string {
  if (word === undefined) return "";
  return typeof word === "number" ? String(Number(word.toPrecision(4))) : String(word);
}
