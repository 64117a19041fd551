import { Group, Stack, Text, Title } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { JSX } from "react";

import { api, body, type Schemas } from "@/api/client";
import { useLive } from "@/api/live";
import { type Column, DataTable } from "@/components/DataTable";
import { Page as Frame } from "@/components/Page";
import { Empty, Loaded } from "@/components/States";
import { ago, compact, integer, plural } from "@/lib/format";

type Node = Schemas["NodeOut"];
type Use = Schemas["ProjectUse"];

const NODES: Column<Node>[] = [
  { id: "name", header: "Machine", cell: (node) => node.name, value: (node) => node.name },
  { id: "alive", header: "State", cell: (node) => (node.alive ? "✓ there" : `✕ gone since ${ago(node.seen_at)}`), value: (node) => (node.alive ? "there" : "gone") },
  { id: "cpus", header: "CPUs", align: "right", cell: (node) => compact(node.total.cpus), value: (node) => node.total.cpus },
  { id: "gpus", header: "GPUs", align: "right", cell: (node) => compact(node.total.gpus), value: (node) => node.total.gpus },
  { id: "memory", header: "Memory (GiB)", align: "right", cell: (node) => compact(node.total.memory), value: (node) => node.total.memory },
  { id: "spares", header: "Warm workers", help: "Idle processes that have everything imported: a job that comes starts at once.", align: "right", cell: (node) => integer(node.spares), value: (node) => node.spares },
];

const PROJECTS: Column<Use>[] = [
  { id: "project", header: "Project", cell: (one) => one.project, value: (one) => one.project },
  { id: "jobs", header: "Jobs running", align: "right", cell: (one) => `${one.jobs}${one.max_jobs === null ? "" : ` of ${one.max_jobs}`}`, value: (one) => one.jobs },
  { id: "gpus", header: "GPUs in use", align: "right", cell: (one) => `${compact(one.gpus)}${one.max_gpus === null ? "" : ` of ${compact(one.max_gpus)}`}`, value: (one) => one.gpus },
  { id: "cpus", header: "CPUs in use", align: "right", cell: (one) => compact(one.cpus), value: (one) => one.cpus },
  { id: "queue", header: "Not ended", cell: (one) => Object.entries(one.queue).map(([state, n]) => `${String(n)} ${state}`).join(", ") || "none" },
];

export default function Page(): JSX.Element {
  const client = useQueryClient();
  const cluster = useQuery({ queryKey: ["cluster"], queryFn: ({ signal }) => body(api.GET("/api/v1/cluster", { signal })), refetchInterval: 10_000 });
  useLive(["job.state"], () => void client.invalidateQueries({ queryKey: ["cluster"] }));
  return (
    <Frame title="Cluster" name="Cluster">
      <Loaded query={cluster} height={300}>
        {(data) => (
          <Stack>
            <Group gap="xl">
              {(["cpus", "gpus", "memory"] as const).map((what) => (
                <Text key={what}>
                  {{ cpus: "CPUs", gpus: "GPUs", memory: "Memory (GiB)" }[what]}: <b>{compact(data.in_use[what])}</b> of {compact(data.total[what])} in use
                </Text>
              ))}
              <Text>{plural(data.in_use.jobs, "job")} running</Text>
            </Group>
            <Text size="sm" c="dimmed">
              {data.leader === null
                ? "No dispatcher has ever run: jobs are accepted and wait for one."
                : data.leader.leads
                  ? `The dispatcher on ${data.leader.holder} leads (epoch ${data.leader.epoch}).`
                  : `No dispatcher leads; the last one, on ${data.leader.holder}, was heard of until ${ago(data.leader.until)}. Jobs are accepted and wait.`}
            </Text>
            <section>
              <Title order={2} size="h3" mb="xs">
                Machines
              </Title>
              {data.nodes.length === 0 ? <Empty title="No machine has joined yet">They appear when the dispatcher has reached Ray.</Empty> : <DataTable caption="Machines" rows={data.nodes} columns={NODES} rowKey={(node) => node.id} />}
            </section>
            <section>
              <Title order={2} size="h3" mb="xs">
                Projects
              </Title>
              <DataTable caption="Projects" rows={data.projects} columns={PROJECTS} rowKey={(one) => one.project} />
            </section>
            <Text size="sm">
              Why jobs wait stands in the <Link to="/jobs" search={{ q: "state:queued,waiting" }}>list of waiting jobs</Link>.
            </Text>
          </Stack>
        )}
      </Loaded>
    </Frame>
  );
}
