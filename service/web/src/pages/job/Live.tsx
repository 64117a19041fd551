import { Slider, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { type JSX, useMemo, useState } from "react";

import { api, body } from "@/api/client";
import type { Line, Reference } from "@/charts/Lines";
import { LinesChart } from "@/charts/LinesChart";
import { smooth } from "@/charts/smooth";
import { Empty, Loaded } from "@/components/States";

import { type Job, jobQuery, result } from "./job";
import { charts } from "./metrics";

const NOTHING: Reference[] = [];

/** The run's curves: accuracy against its teacher, losses by themselves, and what else it reports. */
export function Live({ job }: { job: Job }): JSX.Element {
  const [weight, setWeight] = useState(0);
  const metrics = useQuery({
    queryKey: ["job", job.id, "metrics"],
    queryFn: ({ signal }) => body(api.GET("/api/v1/jobs/{job_id}/metrics", { params: { path: { job_id: job.id } }, signal })),
  });
  const teacher = useQuery({ ...jobQuery(job.teacher_job_id ?? ""), enabled: job.teacher_job_id !== null });
  const ap = result(teacher.data, "AP");
  const references = useMemo<Reference[]>(() => (ap === null ? [] : [{ label: "teacher", method: "teacher", y: ap }]), [ap]);
  const method = job.methods[0] ?? "baseline";
  const drawn = useMemo(() => {
    const series = metrics.data?.series ?? {};
    return charts(Object.keys(series)).map((chart) => ({
      ...chart,
      lines: chart.keys.map((key, i): Line => {
        const found = series[key];
        return { id: key, label: key, method: chart.keys.length === 1 || i === 0 ? method : key, x: found?.steps ?? [], y: smooth(found?.values ?? [], chart.accuracy ? 0 : weight) };
      }),
    }));
  }, [metrics.data, weight, method]);
  return (
    <Loaded query={metrics} height={400}>
      {() =>
        drawn.length === 0 ? (
          <Empty title="No values yet">The curves begin with the first step that the run reports.</Empty>
        ) : (
          <Stack>
            <div style={{ width: 220 }}>
              <Text size="sm" fw={500}>
                Smoothing of losses {weight === 0 ? "off" : weight}
              </Text>
              <Slider thumbLabel="Smoothing" min={0} max={0.95} step={0.05} value={weight} onChange={setWeight} label={(value) => value.toFixed(2)} />
            </div>
            {drawn.map((chart) => (
              <section key={chart.title} aria-labelledby={chart.id}>
                <Title order={2} size="h3" id={chart.id}>
                  {chart.title}
                </Title>
                <LinesChart name={chart.title} title={chart.title} xLabel="step" yLabel={chart.unit} lines={chart.lines} references={chart.accuracy ? references : NOTHING} height={chart.accuracy ? 280 : 220} />
              </section>
            ))}
          </Stack>
        )
      }
    </Loaded>
  );
}
