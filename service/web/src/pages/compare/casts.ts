/** Who is looked at beside whom: each student with its teacher, and with the baseline of its seed. */
import type { Schemas } from "@/api/client";
import type { Cast } from "@/images/queues";

type Answer = Pick<Schemas["CompareOut"], "groups" | "comparisons">;

export function casts({ groups, comparisons }: Answer): Cast[] {
  const out: Cast[] = [];
  for (const group of groups.filter((one) => one.role === "distilled")) {
    const pair = comparisons.find((one) => one.label === group.label);
    const baselines = groups.find((one) => one.role === "baseline" && one.label === pair?.baseline_label)?.jobs ?? [];
    const teacher = groups.find((one) => one.role === "teacher" && one.label === pair?.teacher_label)?.jobs[0] ?? null;
    for (const job of group.jobs) {
      const baseline = baselines.find((one) => one.seed === job.seed) ?? baselines[0] ?? null;
      out.push({ student: seen(job), teacher: teacher === null ? null : seen(teacher), baseline: baseline === null ? null : seen(baseline) });
    }
  }
  for (const group of groups.filter((one) => one.role !== "distilled"))
    for (const job of group.jobs) if (!out.some((one) => one.student.id === job.id)) out.push({ student: seen(job), teacher: null, baseline: null });
  return out;
}

function seen(job: { id: string; name: string; seed: number }): { id: string; name: string } {
  return { id: job.id, name: `${job.name} (seed ${String(job.seed)})` };
}
