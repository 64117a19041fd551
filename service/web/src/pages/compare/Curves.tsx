import { Group, Select, SegmentedControl, Slider, Stack, Switch, Text } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { type JSX, useCallback, useMemo, useState } from "react";

import { api, body } from "@/api/client";
import { useLive } from "@/api/live";
import { LinesChart } from "@/charts/LinesChart";
import { Empty, Loaded } from "@/components/States";
import { compact, duration, moment, plural } from "@/lib/format";

import { linesOf, type Run } from "./curves";
import { GROUPS, X } from "./search";

const route = getRouteApi("/compare");
const X_LABELS = { step: "step", relative_time: "time since the start", time: "time of day" } as const;
const GROUP_LABELS: Record<(typeof GROUPS)[number], string> = {
  none: "every run by itself",
  spec: "mean over seeds",
  method: "mean of each method",
  seed: "mean of each seed",
  detector: "mean of each student",
  dataset: "mean of each data set",
  group: "mean of each group",
  teacher: "mean of each teacher",
};

/** The runs' curves of one metric, one line for each run or the mean over seeds. */
export function Curves({ runs, known }: { runs: string[]; known: ReadonlyMap<string, Run> }): JSX.Element {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const metric = search.metric ?? "AP";
  const x = search.x ?? "step";
  const by = search.by ?? (runs.length > 8 ? "spec" : "none");
  const weight = search.smooth ?? 0;
  const [zoom, setZoom] = useState<{ from: number; to: number } | null>(null);
  const metrics = useQuery({ queryKey: ["filter-fields"], queryFn: ({ signal }) => body(api.GET("/api/v1/filter-fields", { signal })), staleTime: 60_000 });
  const query = useQuery({
    queryKey: ["curves", runs, metric, x, by, zoom],
    queryFn: ({ signal }) =>
      body(api.POST("/api/v1/series:query", { body: { runs, metrics: [metric], x, group: by, buckets: runs.length > 20 ? 400 : 1000, ...(zoom ?? {}) }, signal })),
    placeholderData: keepPreviousData,
  });
  useLive(
    runs.slice(0, 50).map((run) => `job.metrics:${run}`),
    () => void query.refetch(),
  );
  const lines = useMemo(() => (query.data === undefined ? [] : linesOf(query.data.lines, known, weight)), [query.data, known, weight]);
  const onZoom = useCallback((from: number | null, to: number | null) => setZoom(from === null || to === null ? null : { from, to }), []);
  const choices = [...new Set([metric, ...(metrics.data?.metrics ?? [])])];
  return (
    <Stack>
      <Group align="flex-end" gap="md">
        <Select label="Metric" data={choices} value={metric} searchable allowDeselect={false} onChange={(value) => void navigate({ search: (before) => ({ ...before, metric: value === "AP" || value === null ? undefined : value }) })} />
        <Select label="Lines" data={GROUPS.map((value) => ({ value, label: GROUP_LABELS[value] }))} value={by} allowDeselect={false} onChange={(value) => void navigate({ search: (before) => ({ ...before, by: GROUPS.find((one) => one === value) }) })} />
        <div>
          <Text size="sm" fw={500} id="x-axis">
            Along
          </Text>
          <SegmentedControl aria-labelledby="x-axis" data={X.map((value) => ({ value, label: value === "relative_time" ? "duration" : value }))} value={x} onChange={(value) => void navigate({ search: (before) => ({ ...before, x: value === "step" ? undefined : X.find((one) => one === value) }) })} />
        </div>
        <div style={{ width: 200 }}>
          <Text size="sm" fw={500}>
            Smoothing {weight === 0 ? "off" : weight}
          </Text>
          <Slider thumbLabel="Smoothing" min={0} max={0.95} step={0.05} value={weight} label={(value) => value.toFixed(2)} onChange={(value) => void navigate({ replace: true, search: (before) => ({ ...before, smooth: value === 0 ? undefined : Number(value.toFixed(2)) }) })} />
        </div>
        <Switch label="Log scale" checked={search.log === true} onChange={(event) => { const on = event.currentTarget.checked; void navigate({ search: (before) => ({ ...before, log: on ? true : undefined }) }); }} />
      </Group>
      <Loaded query={query} height={380}>
        {(data) => (
          <>
            {data.missing.length > 0 && <Text size="sm">{plural(data.missing.length, "run")} of {runs.length} could not be loaded.</Text>}
            {lines.length === 0 ? (
              <Empty title={`No run has reported ${metric}`}>Choose another metric, or wait for the first values.</Empty>
            ) : (
              <LinesChart
                name={`${metric} by ${x}`}
                title={`${metric} by ${X_LABELS[x]}`}
                xLabel={X_LABELS[x]}
                yLabel={weight === 0 ? metric : `${metric}, smoothed ${weight}`}
                lines={lines}
                logY={search.log === true}
                height={380}
                xFormat={x === "step" ? compact : x === "time" ? moment : duration}
                onZoom={onZoom}
              />
            )}
            <Text size="xs" c="dimmed">
              {by === "none" ? "Every point that was reported counts; where they are too many, the last one of each stretch is drawn." : "The band is one sample standard deviation over runs, of values that are not smoothed."}
              {zoom !== null && (
                <>
                  {" "}
                  <button type="button" onClick={() => setZoom(null)}>
                    Show everything again
                  </button>
                </>
              )}
            </Text>
          </>
        )}
      </Loaded>
    </Stack>
  );
}
