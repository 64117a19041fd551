import { Anchor, Button, SimpleGrid, Stack, Text, Title } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { JSX } from "react";

import { api, body, type Schemas } from "@/api/client";
import { useLive } from "@/api/live";
import { type Column, DataTable } from "@/components/DataTable";
import { Page as Frame } from "@/components/Page";
import { StateBadge } from "@/components/StateBadge";
import { Empty, Loaded } from "@/components/States";
import { ago, duration, integer, number, percent } from "@/lib/format";

import { Leaderboard } from "./Leaderboard";

type Job = Schemas["JobRow"];

const NAME: Column<Job> = {
  id: "name",
  header: "Job",
  cell: (job) => (
    <Anchor component={Link} to={`/jobs/${job.id}`} size="sm">
      {job.name}
    </Anchor>
  ),
  value: (job) => job.name,
  width: 320,
};
const METHOD: Column<Job> = { id: "method", header: "Method", cell: (job) => job.methods.join(" + ") || "labels alone", value: (job) => job.methods.join(" + ") };
const PANELS: { title: string; filter: string; limit: number; none: string; columns: Column<Job>[] }[] = [
  {
    title: "Running",
    filter: "state:running,starting,pausing,cancelling",
    limit: 20,
    none: "Nothing runs.",
    columns: [
      NAME,
      METHOD,
      { id: "progress", header: "Progress", align: "right", cell: (job) => (job.total_steps > 0 ? percent(job.step / job.total_steps) : "–") },
      { id: "left", header: "Left", help: "At the speed so far.", align: "right", cell: left },
    ],
  },
  {
    title: "Failed lately",
    filter: "state:failed age<7d",
    limit: 10,
    none: "Nothing failed in the last 7 days.",
    columns: [NAME, { id: "cause", header: "Why", cell: (job) => <span title={job.cause ?? ""}>{job.cause}</span>, width: 420 }, { id: "when", header: "When", align: "right", cell: (job) => ago(job.ended_at) }],
  },
  {
    title: "Waiting",
    filter: "state:queued,waiting,paused",
    limit: 10,
    none: "Nothing waits.",
    columns: [NAME, { id: "state", header: "State", cell: (job) => <StateBadge state={job.state} /> }, { id: "why", header: "Why", cell: (job) => job.wait_reason ?? job.cause ?? "", width: 420 }],
  },
  {
    title: "Finished lately",
    filter: "state:succeeded",
    limit: 10,
    none: "Nothing has finished yet.",
    columns: [
      NAME,
      METHOD,
      { id: "seed", header: "Seed", align: "right", cell: (job) => job.seed },
      { id: "AP", header: "AP", help: "Of the final evaluation, in points.", align: "right", cell: (job) => number(job.evaluation?.["AP"]) },
      { id: "when", header: "When", align: "right", cell: (job) => ago(job.ended_at) },
    ],
  },
];

export default function Page(): JSX.Element {
  const client = useQueryClient();
  const count = useQuery({ queryKey: ["jobs", "count", ""], queryFn: ({ signal }) => body(api.GET("/api/v1/jobs:count", { signal })) });
  useLive(["job.state"], () => void client.invalidateQueries({ queryKey: ["jobs"] }));
  return (
    <Frame
      title="Overview"
      name="Overview"
      actions={
        <Button component={Link} to="/new" size="sm">
          New job
        </Button>
      }
    >
      <Loaded query={count} height={300}>
        {(data) =>
          data.total === 0 ? (
            <Empty title="Nothing has run here yet">
              <code>bcd demo</code> trains a teacher, three students on labels alone and three distilled ones in a few minutes, and compares them. Or <Link to="/new">submit a job</Link> of your own.
            </Empty>
          ) : (
            <Stack>
              <Text>
                {Object.entries(data.by_state).map(([state, n], i) => (
                  <span key={state}>
                    {i > 0 && ", "}
                    <Link to="/jobs" search={{ q: `state:${state}` }}>
                      {integer(n)} {state}
                    </Link>
                  </span>
                ))}
              </Text>
              <Leaderboard />
              <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="lg">
                {PANELS.map((panel) => (
                  <Panel key={panel.title} {...panel} />
                ))}
              </SimpleGrid>
            </Stack>
          )
        }
      </Loaded>
    </Frame>
  );
}

function Panel({ title, filter, limit, none, columns }: (typeof PANELS)[number]): JSX.Element {
  const jobs = useQuery({
    queryKey: ["jobs", "panel", filter],
    queryFn: ({ signal }) => body(api.GET("/api/v1/jobs", { params: { query: { filter, limit } }, signal })),
    refetchInterval: 15_000,
  });
  return (
    <section style={{ minWidth: 0 }}>
      <Title order={2} size="h3" mb="xs">
        {title}
      </Title>
      <Loaded query={jobs} height={160}>
        {(data) =>
          data.items.length === 0 ? (
            <Text size="sm" c="dimmed">
              {none}
            </Text>
          ) : (
            <>
              <DataTable caption={title} rows={data.items} columns={columns} rowKey={(job) => job.id} />
              {data.next_cursor !== null && (
                <Text size="sm" mt={4}>
                  <Link to="/jobs" search={{ q: filter }}>
                    All of them
                  </Link>
                </Text>
              )}
            </>
          )
        }
      </Loaded>
    </section>
  );
}

function left(job: Job): string {
  const share = job.total_steps > 0 ? job.step / job.total_steps : 0;
  if (job.started_at === null || share < 0.01) return "–";
  return duration(((Date.now() / 1000 - job.started_at) * (1 - share)) / share);
}
