import { Code, Select, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import type { JSX } from "react";

import { api, body, type Schemas } from "@/api/client";
import { Chart } from "@/charts/Chart";
import { Pareto } from "@/charts/Pareto";
import { type Column, DataTable } from "@/components/DataTable";
import { ExportMenu } from "@/components/ExportMenu";
import { Section } from "@/components/Section";
import { Empty, Loaded } from "@/components/States";
import { compact, duration, meanStd, number, short } from "@/lib/format";

type Cost = Schemas["GroupCost"];
type Front = Schemas["Front"];

const route = getRouteApi("/compare");
const UNITS: Record<Front["metric"], string> = {
  parameters: "parameters",
  gflops: "GFLOPs of one image",
  latency_ms: "ms for one image",
  gpu_hours: "GPU hours of training",
  hours: "hours of training",
};

const POINTS: Column<Front["points"][number]>[] = [
  { id: "label", header: "Runs", cell: (point) => point.label, value: (point) => point.label },
  { id: "cost", header: "Cost", align: "right", cell: (point) => short(point.cost), value: (point) => point.cost },
  { id: "mean", header: "AP", align: "right", cell: (point) => number(point.mean), value: (point) => point.mean },
  { id: "front", header: "On the front", cell: (point) => (point.front ? "yes" : "no"), value: (point) => (point.front ? "yes" : "no") },
];

/** How an axis is written in the address. */
const axisOf = (front: Front): string => [front.metric, front.device ?? "", front.protocol.slice(0, 8)].join(":");

/** What does each student cost, and which of them are worth it? */
export function Costs({ runs }: { runs: string[] }): JSX.Element {
  const query = useQuery({
    queryKey: ["compare", "costs", runs],
    queryFn: ({ signal }) => body(api.GET("/api/v1/compare/costs", { params: { query: { ids: runs.join(",") } }, signal })),
  });
  return (
    <Loaded query={query} height={420}>
      {(answer) =>
        answer.groups.length === 0 ? (
          <Empty title="None of these runs has a result yet">They appear here when they have ended.</Empty>
        ) : (
          <Stack gap="xl">
            {answer.fronts.length > 0 && <Fronts fronts={answer.fronts} />}
            <Table groups={answer.groups} />
          </Stack>
        )
      }
    </Loaded>
  );
}

function Fronts({ fronts }: { fronts: Front[] }): JSX.Element | null {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const several = new Set(fronts.map((front) => front.protocol)).size > 1;
  const front = fronts.find((one) => axisOf(one) === search.cost) ?? fronts[0];
  if (front === undefined) return null;
  const name = (one: Front): string => `${UNITS[one.metric]}${one.device === null ? "" : ` on ${one.device}`}${several ? ` (protocol ${one.protocol.slice(0, 8)})` : ""}`;
  return (
    <Section
      title="AP against cost"
      menu={
        <Select
          aria-label="Cost"
          size="xs"
          w={320}
          allowDeselect={false}
          data={fronts.map((one) => ({ value: axisOf(one), label: name(one) }))}
          value={axisOf(front)}
          onChange={(value) => void navigate({ search: (before) => ({ ...before, cost: value === null || fronts[0] === undefined || value === axisOf(fronts[0]) ? undefined : value }), replace: true })}
        />
      }
    >
      <Chart name={`AP by ${front.metric}`} rows={front.points} columns={POINTS} rowKey={(point) => point.label}>
        <Pareto xLabel={name(front)} yLabel="AP" points={front.points.map((point) => ({ ...point, method: point.role === "distilled" ? (point.label.split(" ")[0] ?? "") : point.role }))} />
      </Chart>
      <Text size="sm" c="dimmed">
        Filled, and joined by the line: the Pareto front. Each other one has a rival that finds at least as much for no more. Bars: 95 % interval of the mean over seeds.
      </Text>
    </Section>
  );
}

function Table({ groups }: { groups: Cost[] }): JSX.Element {
  const devices = [...new Set(groups.flatMap((group) => group.latencies.map((one) => one.device)))];
  const onGpus = groups.some((group) => (group.gpu_hours ?? 0) > 0);
  const latency = (group: Cost, device: string): number | null => group.latencies.find((one) => one.device === device)?.milliseconds ?? null;
  const columns: Column<Cost>[] = [
    { id: "label", header: "Runs", cell: (group) => group.label, value: (group) => group.label, width: 320 },
    { id: "role", header: "Role", cell: (group) => group.role, value: (group) => group.role },
    { id: "n", header: "Seeds", align: "right", cell: (group) => group.n, value: (group) => group.n },
    { id: "AP", header: "AP", help: "Mean over seeds.", align: "right", cell: (group) => meanStd(group.mean, null), value: (group) => group.mean },
    { id: "parameters", header: "Parameters", align: "right", cell: (group) => short(group.parameters), value: (group) => group.parameters },
    { id: "gflops", header: "GFLOPs", help: "Of one image; a multiply-add counts as two.", align: "right", cell: (group) => compact(group.gflops), value: (group) => group.gflops },
    ...devices.map(
      (device): Column<Cost> => ({
        id: `latency ${device}`,
        header: `ms on ${device}`,
        help: "One image, from its bytes to detections after NMS: median over runs of each run's median. Compare within a device only.",
        align: "right",
        cell: (group) => compact(latency(group, device)),
        value: (group) => latency(group, device),
      }),
    ),
    { id: "hours", header: "Training", help: "Mean over runs, all attempts of a run together, from start to end.", align: "right", cell: (group) => duration(group.hours === null ? null : group.hours * 3600), value: (group) => group.hours },
    ...(onGpus ? [{ id: "gpu_hours", header: "GPU h", help: "Training hours times GPUs taken.", align: "right", cell: (group: Cost) => gpuHours(group.gpu_hours), value: (group: Cost) => group.gpu_hours } as const] : []),
  ];
  return (
    <Section title="What it costs" menu={<ExportMenu name="costs" columns={columns} rows={groups} />}>
      <DataTable caption="What it costs" rows={groups} columns={columns} rowKey={(group) => group.label + group.role + group.protocol} />
      {devices.length > 1 && (
        <Text size="sm" c="dimmed" mt="xs">
          These runs were measured on {devices.length} devices; their times do not compare across columns. Files that are measured together do: <Code>bcd report</Code>.
        </Text>
      )}
    </Section>
  );
}

function gpuHours(value: number | null): string {
  return value !== null && value > 0 && value < 0.01 ? "< 0.01" : compact(value);
}
