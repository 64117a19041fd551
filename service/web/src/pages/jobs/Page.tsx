import { Alert, Anchor, Button, Group, Text } from "@mantine/core";
import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { type JSX, useCallback, useMemo, useState } from "react";

import { api, ApiError, body, type Schemas } from "@/api/client";
import { useLive } from "@/api/live";
import { type Column, DataTable } from "@/components/DataTable";
import { ExportMenu } from "@/components/ExportMenu";
import { Filter } from "@/components/Filter";
import { Page as Frame } from "@/components/Page";
import { StateBadge } from "@/components/StateBadge";
import { Empty, Failure, Loaded } from "@/components/States";
import { ago, compact, DASH, duration, integer, number, percent, plural } from "@/lib/format";
import { sortOf, sortText } from "@/lib/sort";

import { ColumnPicker } from "./ColumnPicker";
import { colsOf, metricOf, shownOf } from "./columns";

type Job = Schemas["JobRow"];
const route = getRouteApi("/jobs");
const PAGE = 200;
const SHARED = 20; // chosen rows that fit into an address

const COLUMNS: Column<Job>[] = [
  { id: "state", header: "State", cell: (job) => <StateBadge state={job.state} />, value: (job) => job.state },
  {
    id: "name",
    header: "Name",
    serverSort: "name",
    cell: (job) => (
      <Anchor component={Link} to={`/jobs/${job.id}`} size="sm">
        {job.name}
      </Anchor>
    ),
    value: (job) => job.name,
    width: 320,
  },
  { id: "method", header: "Method", cell: (job) => job.methods.join(" + ") || "labels alone", value: (job) => job.methods.join(" + ") },
  { id: "detector", header: "Student", serverSort: "detector", cell: (job) => job.detector, value: (job) => job.detector },
  { id: "dataset", header: "Data", serverSort: "dataset", cell: (job) => job.dataset, value: (job) => job.dataset },
  { id: "seed", header: "Seed", serverSort: "seed", align: "right", cell: (job) => job.seed, value: (job) => job.seed },
  { id: "progress", header: "Progress", align: "right", cell: (job) => progress(job), value: (job) => (job.total_steps > 0 ? job.step / job.total_steps : null) },
  { id: "AP", header: "AP", help: "Of the final evaluation, in points (0 to 100).", serverSort: "best.AP", align: "right", cell: (job) => number(job.evaluation?.["AP"] ?? job.metrics["AP"]?.best), value: (job) => job.evaluation?.["AP"] ?? job.metrics["AP"]?.best },
  { id: "time", header: "Took", serverSort: "duration", align: "right", cell: (job) => (job.started_at === null ? DASH : duration((job.ended_at ?? Date.now() / 1000) - job.started_at)), value: (job) => (job.started_at === null || job.ended_at === null ? null : job.ended_at - job.started_at) },
  { id: "created", header: "Submitted", serverSort: "created", align: "right", cell: (job) => ago(job.created_at), value: (job) => job.created_at },
  { id: "why", header: "Why", cell: (job) => <Text size="sm" truncate maw={420} title={why(job)}>{why(job)}</Text>, value: why },
  // Shown on demand:
  { id: "group", header: "Group", cell: (job) => job.group ?? "", value: (job) => job.group },
  { id: "tags", header: "Tags", cell: (job) => job.tags.join(", "), value: (job) => job.tags.join(" ") },
  { id: "project", header: "Project", cell: (job) => job.project, value: (job) => job.project },
  { id: "by", header: "By", cell: (job) => job.created_by ?? "", value: (job) => job.created_by },
  { id: "teacher", header: "Teacher", cell: (job) => job.teacher_job_id ?? "", value: (job) => job.teacher_job_id },
  { id: "priority", header: "Priority", serverSort: "priority", align: "right", cell: (job) => job.priority, value: (job) => job.priority },
];
const KNOWN = COLUMNS.map((column) => column.id);

function columnsOf(shown: readonly string[]): Column<Job>[] {
  return shown.flatMap((id): Column<Job>[] => {
    const metric = metricOf(id);
    if (metric === null) return COLUMNS.filter((column) => column.id === id);
    const value = (job: Job): number | null => job.metrics[metric.key]?.[metric.which] ?? null;
    return [{ id, header: `${metric.which} ${metric.key}`, serverSort: id, align: "right", cell: (job) => compact(value(job)), value }];
  });
}

export default function Page(): JSX.Element {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const client = useQueryClient();
  const q = search.q ?? "";
  const sort = search.sort ?? "-created";
  const [selected, choose] = useState<Set<string>>(new Set(search.sel));
  const setSelected = (next: Set<string>): void => {
    choose(next);
    const sel = next.size > 0 && next.size <= SHARED ? [...next] : undefined;
    void navigate({ replace: true, search: (before) => ({ ...before, sel }) });
  };
  const [news, setNews] = useState(0);
  const shown = useMemo(() => shownOf(search.cols, KNOWN), [search.cols]);
  const columns = useMemo(() => columnsOf(shown), [shown]);
  const metrics = useMemo(() => [...new Set(["AP", ...shown.flatMap((id) => metricOf(id)?.key ?? [])])], [shown]);

  const jobs = useInfiniteQuery({
    queryKey: ["jobs", q, sort, metrics],
    queryFn: ({ pageParam, signal }) =>
      body(api.GET("/api/v1/jobs", { params: { query: { filter: q, sort, metrics, limit: PAGE, ...(pageParam === null ? {} : { cursor: pageParam }) } }, signal })),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor,
  });
  const count = useQuery({
    queryKey: ["jobs", "count", q],
    queryFn: ({ signal }) => body(api.GET("/api/v1/jobs:count", { params: { query: { filter: q } }, signal })),
    enabled: !jobs.isError,
  });
  // Rows that are there change in place. New ones would push others away under the pointer: they wait to be asked for.
  useLive(["job.state", "job.changed"], (events) => {
    const known = new Set(jobs.data?.pages.flatMap((page) => page.items.map((job) => job.id)));
    const fresh = events.filter((event) => event.job_id !== null && !known.has(event.job_id));
    if (fresh.length > 0 && known.size > 0) setNews((before) => before + new Set(fresh.map((event) => event.job_id)).size);
    if (fresh.length < events.length || events.length === 0 || known.size === 0) void client.invalidateQueries({ queryKey: ["jobs"] });
  });

  const rows = useMemo(() => jobs.data?.pages.flatMap((page) => page.items) ?? [], [jobs.data]);
  const total = count.data?.total;
  const { hasNextPage, isFetchingNextPage, fetchNextPage } = jobs;
  const more = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);

  const refusal = jobs.error instanceof ApiError && jobs.error.status === 422 ? jobs.error : null;
  return (
    <Frame
      title="Jobs"
      name="Jobs"
      actions={
        <>
          <ColumnPicker known={COLUMNS} shown={shown} onShown={(next) => void navigate({ replace: true, search: (before) => ({ ...before, cols: colsOf(next) }) })} />
          <ExportMenu name="jobs" columns={columns} rows={rows} />
          <Button component={Link} to="/new" size="sm">
            New job
          </Button>
        </>
      }
    >
      <Filter
        key={q}
        value={q}
        example="state:failed method:bckd AP>30 tag:night -seed:0"
        refused={refusal?.message}
        onApply={(text) => {
          choose(new Set());
          void navigate({ search: (before) => ({ ...before, q: text || undefined, sel: undefined }) });
        }}
      />
      <Group justify="space-between" gap="xs">
        <Text size="sm" c="dimmed" aria-live="polite">
          {total === undefined ? " " : `${plural(total, "job")}${count.data === undefined || total === 0 ? "" : `: ${states(count.data.by_state)}`}`}
        </Text>
        {news > 0 && (
          <Button
            size="compact-sm"
            variant="default"
            onClick={() => {
              setNews(0);
              void client.invalidateQueries({ queryKey: ["jobs"] });
            }}
          >
            {plural(news, "new job")}
          </Button>
        )}
      </Group>
      {selected.size > 0 && <Selection ids={[...selected]} clear={() => setSelected(new Set())} />}
      {refusal !== null ? (
        <Failure error={refusal} />
      ) : (
        <Loaded query={jobs} height={480}>
          {() =>
            rows.length === 0 ? (
              q === "" ? (
                <Empty title="No jobs yet">
                  A job trains one student. <Anchor component={Link} to="/new">Submit the first one</Anchor>, or run <code>bcd submit FILE</code>.
                </Empty>
              ) : (
                <Empty title="No job passes this filter">
                  <Button
                    variant="default"
                    onClick={() => void navigate({ search: (before) => ({ ...before, q: undefined }) })}
                  >
                    Show all jobs
                  </Button>
                </Empty>
              )
            ) : (
              <DataTable
                caption="Jobs"
                rows={rows}
                columns={columns}
                rowKey={id}
                rowLabel={(job) => job.name}
                sort={sortOf(sort)}
                onSort={(next) => void navigate({ search: (before) => ({ ...before, sort: sortText(next) === "-created" ? undefined : sortText(next) }) })}
                selected={selected}
                onSelect={setSelected}
                onEnd={more}
                {...(total === undefined ? {} : { total })}
              />
            )
          }
        </Loaded>
      )}
    </Frame>
  );
}

function Selection({ ids, clear }: { ids: string[]; clear: () => void }): JSX.Element {
  const client = useQueryClient();
  const act = useMutation({
    mutationFn: (verb: "cancel" | "pause" | "resume" | "retry") => body(api.POST("/api/v1/jobs:batch", { body: { verb, ids } })),
    onSuccess: () => void client.invalidateQueries({ queryKey: ["jobs"] }),
  });
  const refused = act.data?.items.filter((one) => one.problem !== null) ?? [];
  const why = refused[0]?.problem?.["detail"];
  return (
    <>
      <Group gap="xs" role="group" aria-label={plural(ids.length, "selected job")}>
        <Text size="sm">{integer(ids.length)} selected</Text>
        <Button component={Link} to={`/compare?runs=${ids.slice(0, 100).join(",")}`} size="compact-sm" disabled={ids.length < 2}>
          Compare
        </Button>
        {(["pause", "resume", "retry", "cancel"] as const).map((verb) => (
          <Button key={verb} size="compact-sm" variant="default" loading={act.isPending && act.variables === verb} onClick={() => act.mutate(verb)}>
            {verb.slice(0, 1).toUpperCase() + verb.slice(1)}
          </Button>
        ))}
        <Button size="compact-sm" variant="subtle" onClick={clear}>
          Clear
        </Button>
      </Group>
      {act.isError && <Failure error={act.error} />}
      {refused.length > 0 && (
        <Alert variant="default" title={`${refused.length} of ${ids.length} were left as they are`} withCloseButton onClose={() => act.reset()} closeButtonLabel="Close">
          {typeof why === "string" ? why : null}
        </Alert>
      )}
    </>
  );
}

function id(job: Job): string {
  return job.id;
}

function why(job: Job): string {
  return job.cause ?? (["queued", "waiting", "starting"].includes(job.state) ? (job.wait_reason ?? "") : "");
}

function progress(job: Job): string {
  if (job.state === "succeeded") return percent(1);
  return job.total_steps > 0 ? percent(job.step / job.total_steps) : DASH;
}

function states(byState: Record<string, number>): string {
  return Object.entries(byState)
    .map(([state, count]) => `${integer(count)} ${state}`)
    .join(", ");
}
