import { Code, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { JSX } from "react";

import { api, body, type Schemas } from "@/api/client";
import { type Column, DataTable } from "@/components/DataTable";
import { Loaded } from "@/components/States";
import { DASH, duration, moment } from "@/lib/format";

import type { Job } from "./job";

type Attempt = Schemas["AttemptOut"];
type Event = Schemas["EventOut"];

const ATTEMPTS: Column<Attempt>[] = [
  { id: "number", header: "Attempt", align: "right", cell: (one) => one.number, value: (one) => one.number },
  { id: "state", header: "State", cell: (one) => one.state, value: (one) => one.state },
  { id: "host", header: "Machine", cell: (one) => one.host ?? DASH, value: (one) => one.host },
  { id: "cpus", header: "CPUs", align: "right", cell: (one) => one.cpus, value: (one) => one.cpus },
  { id: "gpus", header: "GPUs", align: "right", cell: (one) => one.gpus, value: (one) => one.gpus },
  { id: "started", header: "Started", cell: (one) => moment(one.started_at), value: (one) => one.started_at },
  { id: "took", header: "Took", align: "right", cell: (one) => (one.started_at === null || one.ended_at === null ? DASH : duration(one.ended_at - one.started_at)), value: (one) => (one.started_at === null || one.ended_at === null ? null : one.ended_at - one.started_at) },
  { id: "cause", header: "Why it ended", cell: (one) => one.cause ?? DASH, value: (one) => one.cause, width: 480 },
];

const EVENTS: Column<Event>[] = [
  { id: "time", header: "When", cell: (event) => moment(event.time), value: (event) => event.time },
  { id: "what", header: "What", cell: what, value: what, width: 640 },
  { id: "actor", header: "By", cell: who, value: who },
];

/** Where the run comes from: its teacher, the job it was made from, what it waited for, its attempts and its history. */
export function Lineage({ job }: { job: Job }): JSX.Element {
  const events = useQuery({
    queryKey: ["job", job.id, "events"],
    queryFn: ({ signal }) => body(api.GET("/api/v1/jobs/{job_id}/events", { params: { path: { job_id: job.id }, query: { type: ["job.state", "job.changed", "job.facts"] } }, signal })),
  });
  const needs = job.needs.filter((id) => id !== job.teacher_job_id);
  const traceback = job.attempts.findLast((one) => one.traceback !== null)?.traceback;
  return (
    <Stack>
      <div>
        <Relation label="Teacher" ids={job.teacher_job_id === null ? [] : [job.teacher_job_id]} />
        <Relation label={job.origin === "retry" ? "Takes up the work of" : "Made from"} ids={job.parent_id === null ? [] : [job.parent_id]} />
        <Relation label="Waits for" ids={needs} />
      </div>
      <section>
        <Title order={2} size="h3" mb="xs">
          Attempts
        </Title>
        {job.attempts.length === 0 ? <Text size="sm">None yet.</Text> : <DataTable caption="Attempts" rows={job.attempts} columns={ATTEMPTS} rowKey={(one) => one.id} />}
      </section>
      {traceback != null && (
        <section>
          <Title order={2} size="h3" mb="xs">
            Where it failed
          </Title>
          {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls */}
          <pre tabIndex={0} role="region" aria-label="Traceback" className="table-frame" style={{ margin: 0, padding: 12, maxHeight: 400, fontSize: 13 }}>
            {traceback}
          </pre>
        </section>
      )}
      <section>
        <Title order={2} size="h3" mb="xs">
          History
        </Title>
        <Loaded query={events} height={200}>
          {(data) => <DataTable caption="History" rows={data.items} columns={EVENTS} rowKey={(event) => String(event.id)} />}
        </Loaded>
      </section>
    </Stack>
  );
}

function Relation({ label, ids }: { label: string; ids: string[] }): JSX.Element | null {
  if (ids.length === 0) return null;
  return (
    <Text size="sm">
      {label}:{" "}
      {ids.map((id, i) => (
        <span key={id}>
          {i > 0 && ", "}
          <Link to="/jobs/$id" params={{ id }}>
            <Code>{id}</Code>
          </Link>
        </span>
      ))}
    </Text>
  );
}

function what(event: Event): string {
  const data = event.data;
  if (event.type === "job.state") {
    const cause = typeof data["cause"] === "string" ? `: ${data["cause"]}` : "";
    return `${typeof data["from"] === "string" ? `${data["from"]} → ` : ""}${String(data["to"])}${cause}`;
  }
  return `${event.type.replace("job.", "")}: ${Object.entries(data)
    .map(([key, value]) => `${key} ${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(", ")}`;
}

function who(event: Event): string {
  const by = event.data["by"];
  return typeof by === "string" ? by : event.actor;
}
