import { Anchor, Badge, Button, CopyButton, Group, Progress, SimpleGrid, Stack, Tabs, Text } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { type JSX, useEffect, useState } from "react";

import { api, body, type Schemas } from "@/api/client";
import { useLive } from "@/api/live";
import { Page as Frame } from "@/components/Page";
import { StateBadge } from "@/components/StateBadge";
import { Failure, Loaded } from "@/components/States";
import { ago, DASH, duration, integer, moment, percent } from "@/lib/format";

import { Artifacts } from "./Artifacts";
import { type Job, jobQuery } from "./job";
import { Lineage } from "./Lineage";
import { Live } from "./Live";
import { Log } from "./Log";
import { Looks } from "./Looks";
import { Results } from "./Results";
import { TABS } from "./search";
import { Spec } from "./Spec";

const route = getRouteApi("/jobs/$id");
const ENDED = new Set(["succeeded", "failed", "cancelled"]);
const LABELS = { live: "Live", results: "Results", images: "Images", log: "Log", spec: "Spec", artifacts: "Files", lineage: "Lineage" } as const;
const VERBS: Record<string, ("cancel" | "pause" | "resume" | "retry")[]> = {
  waiting: ["cancel"],
  queued: ["pause", "cancel"],
  starting: ["pause", "cancel"],
  running: ["pause", "cancel"],
  pausing: ["cancel"],
  paused: ["resume", "cancel"],
  failed: ["retry"],
  cancelled: ["retry"],
};

export default function Page(): JSX.Element {
  const { id } = route.useParams();
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const client = useQueryClient();
  const job = useQuery(jobQuery(id));
  useLive([`*:${id}`], (events) => {
    const types = new Set(events.map((event) => event.type));
    const all = events.length === 0; // the stream was away: look at everything again
    void client.invalidateQueries({ queryKey: ["job", id], exact: true });
    if (all || types.has("job.metrics")) void client.invalidateQueries({ queryKey: ["job", id, "metrics"] });
    if (all || types.has("job.artifact")) void client.invalidateQueries({ queryKey: ["job", id, "artifacts"] });
    if (all || types.has("job.state")) void client.invalidateQueries({ queryKey: ["job", id, "events"] });
  });
  return (
    <Loaded query={job} height={400}>
      {(data) => {
        const tab = search.tab ?? (data.state === "succeeded" ? "results" : "live");
        return (
          <Frame title={data.name} name={data.name} actions={<Actions job={data} />}>
            <Head job={data} />
            <Tabs value={tab} keepMounted={false} onChange={(value) => void navigate({ search: { tab: TABS.find((one) => one === value) } })}>
              <Tabs.List mb="md">
                {Object.entries(LABELS).map(([value, label]) => (
                  <Tabs.Tab key={value} value={value}>
                    {label}
                  </Tabs.Tab>
                ))}
              </Tabs.List>
              <Tabs.Panel value="live">
                <Live job={data} />
              </Tabs.Panel>
              <Tabs.Panel value="results">
                <Results job={data} />
              </Tabs.Panel>
              <Tabs.Panel value="images">
                <Looks job={data} />
              </Tabs.Panel>
              <Tabs.Panel value="log">
                <Log job={data} />
              </Tabs.Panel>
              <Tabs.Panel value="spec">
                <Spec job={data} />
              </Tabs.Panel>
              <Tabs.Panel value="artifacts">
                <Artifacts job={data} />
              </Tabs.Panel>
              <Tabs.Panel value="lineage">
                <Lineage job={data} />
              </Tabs.Panel>
            </Tabs>
          </Frame>
        );
      }}
    </Loaded>
  );
}

function Head({ job }: { job: Job }): JSX.Element {
  const now = useNow(!ENDED.has(job.state));
  const share = job.total_steps > 0 ? job.step / job.total_steps : 0;
  const why = job.cause ?? (["queued", "waiting", "starting"].includes(job.state) ? job.wait_reason : null);
  const running = job.state === "running" && job.started_at !== null && share > 0.01 ? ((now - job.started_at) * (1 - share)) / share : null;
  const facts: [string, string][] = [
    ["Method", job.methods.join(" + ") || "labels alone"],
    ["Seed", String(job.seed)],
    ["Project", job.project],
    ["Group", job.group ?? DASH],
    ["Priority", String(job.priority)],
    ["Submitted", `${moment(job.created_at)}${job.created_by === null ? "" : ` by ${job.created_by}`}`],
    ["Took", job.started_at === null ? DASH : duration((job.ended_at ?? now) - job.started_at)],
    ["Attempts", integer(job.attempts.length)],
  ];
  return (
    <Stack gap="xs">
      <Group gap="xs" aria-live="polite">
        <StateBadge state={job.state} />
        {job.tags.map((tag) => (
          <Badge key={tag} variant="default" tt="none">
            {tag}
          </Badge>
        ))}
        {why !== null && <Text size="sm">{why}</Text>}
      </Group>
      {!ENDED.has(job.state) && (
        <Group gap="sm" wrap="nowrap">
          <Progress value={100 * share} style={{ flex: 1, maxWidth: 480 }} aria-label="Progress" />
          <Text size="sm" style={{ whiteSpace: "nowrap" }}>
            {job.total_steps > 0 ? `step ${integer(job.step)} of ${integer(job.total_steps)}, ${percent(share)}` : `step ${integer(job.step)}`}
            {running !== null && `, about ${duration(running)} left`}
          </Text>
        </Group>
      )}
      <SimpleGrid cols={{ base: 2, sm: 4 }} spacing="xs" component="dl" m={0}>
        {facts.map(([name, value]) => (
          <div key={name}>
            <Text component="dt" size="xs" c="dimmed">
              {name}
            </Text>
            <Text component="dd" size="sm" m={0} style={{ overflowWrap: "anywhere" }}>
              {value}
            </Text>
          </div>
        ))}
      </SimpleGrid>
    </Stack>
  );
}

function Actions({ job }: { job: Job }): JSX.Element {
  const client = useQueryClient();
  const act = useMutation({
    mutationFn: (verb: "cancel" | "pause" | "resume" | "retry"): Promise<Schemas["JobOut"]> => {
      const params = { params: { path: { job_id: job.id } } };
      if (verb === "cancel") return body(api.POST("/api/v1/jobs/{job_id}/cancel", params));
      if (verb === "pause") return body(api.POST("/api/v1/jobs/{job_id}/pause", params));
      if (verb === "resume") return body(api.POST("/api/v1/jobs/{job_id}/resume", params));
      return body(api.POST("/api/v1/jobs/{job_id}/retry", params));
    },
    onSettled: () => void client.invalidateQueries({ queryKey: ["job", job.id] }),
  });
  const mirror = useQuery({ queryKey: ["job", job.id, "mlflow"], queryFn: ({ signal }) => body(api.GET("/api/v1/jobs/{job_id}/mlflow", { params: { path: { job_id: job.id } }, signal })), staleTime: 60_000, retry: false });
  return (
    <Stack gap="xs" align="flex-end">
      <Group gap="xs">
        {(VERBS[job.state] ?? []).map((verb) => (
          <Button key={verb} size="sm" variant="default" loading={act.isPending && act.variables === verb} onClick={() => act.mutate(verb)}>
            {verb.slice(0, 1).toUpperCase() + verb.slice(1)}
          </Button>
        ))}
        {job.group !== null && (
          <Button component={Link} to={`/compare?group=${encodeURIComponent(job.group)}`} size="sm" variant="default">
            Compare its group
          </Button>
        )}
        <CopyButton value={window.location.href}>
          {({ copied, copy }) => (
            <Button size="sm" variant="default" onClick={copy}>
              {copied ? "Copied" : "Copy link"}
            </Button>
          )}
        </CopyButton>
        {mirror.data?.url != null && (
          <Anchor href={mirror.data.url} size="sm" rel="noreferrer" target="_blank">
            MLflow
          </Anchor>
        )}
      </Group>
      {act.isSuccess && act.data.id !== job.id && (
        <Text size="sm">
          Goes on as{" "}
          <Link to="/jobs/$id" params={{ id: act.data.id }}>
            a new job
          </Link>
        </Text>
      )}
      {act.isError && <Failure error={act.error} />}
      {job.ended_at !== null && (
        <Text size="xs" c="dimmed">
          ended {ago(job.ended_at)}
        </Text>
      )}
    </Stack>
  );
}

/** Unix seconds; goes on every second while it is looked at. */
function useNow(on: boolean): number {
  const [now, setNow] = useState(() => Date.now() / 1000);
  useEffect(() => {
    if (!on) return undefined;
    const timer = setInterval(() => setNow(Date.now() / 1000), 1000);
    return () => clearInterval(timer);
  }, [on]);
  return now;
}
