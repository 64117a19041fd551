import { Button, Group, Modal, NumberInput, Stack, Tabs, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { type JSX, useState } from "react";

import { api, body, type Schemas } from "@/api/client";
import { useLive } from "@/api/live";
import { Page as Frame } from "@/components/Page";
import { StateBadge } from "@/components/StateBadge";
import { Failure, Loaded } from "@/components/States";
import { download } from "@/lib/download";

import { Found } from "./Found";
import { TABS } from "./search";
import { Slices } from "./Slices";
import { SpecTab } from "./SpecTab";
import { ENDED, how, progress, reportQuery, type Sweep, sweepQuery, trialsQuery } from "./sweep";
import { Trials } from "./Trials";

const route = getRouteApi("/sweeps/$id");
const LABELS = { found: "Result", trials: "Trials", slices: "Slices", spec: "Spec" } as const;

export default function Page(): JSX.Element {
  const { id } = route.useParams();
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const client = useQueryClient();
  const sweep = useQuery(sweepQuery(id));
  const report = useQuery(reportQuery(id));
  const trials = useQuery(trialsQuery(id));
  const going = sweep.data !== undefined && !ENDED.has(sweep.data.state);
  useLive(going ? ["sweep.state", "job.state", "job.evaluation"] : ["sweep.state"], () => void client.invalidateQueries({ queryKey: ["sweep", id] }));
  return (
    <Loaded query={sweep} height={400}>
      {(data) => (
        <Frame title={data.name} name={data.name} actions={<Actions sweep={data} />}>
          <Group gap="xs" aria-live="polite">
            <StateBadge state={data.state} />
            <Text size="sm">
              {how(data)}; {progress(data)} jobs have ended{data.cause === null ? "" : `; ${data.cause}`}
            </Text>
          </Group>
          <Tabs value={search.tab ?? "found"} keepMounted={false} onChange={(value) => void navigate({ search: (before) => ({ ...before, tab: TABS.find((one) => one === value) }) })}>
            <Tabs.List mb="md">
              {Object.entries(LABELS).map(([value, label]) => (
                <Tabs.Tab key={value} value={value}>
                  {label}
                </Tabs.Tab>
              ))}
            </Tabs.List>
            <Tabs.Panel value="found">
              <Loaded query={report} height={400}>
                {(found) => <Found report={found} />}
              </Loaded>
            </Tabs.Panel>
            <Tabs.Panel value="trials">
              <Loaded query={trials} height={400}>
                {(found) => <Trials sweep={data} trials={found.items} />}
              </Loaded>
            </Tabs.Panel>
            <Tabs.Panel value="slices">
              <Loaded query={trials} height={400}>
                {(found) => <Slices sweep={data} trials={found.items} />}
              </Loaded>
            </Tabs.Panel>
            <Tabs.Panel value="spec">
              <SpecTab sweep={data} />
            </Tabs.Panel>
          </Tabs>
        </Frame>
      )}
    </Loaded>
  );
}

type Verb = "pause" | "resume" | "stop";

function verbs(state: string): Verb[] {
  if (ENDED.has(state)) return [];
  return state === "paused" ? ["resume", "stop"] : ["pause", "stop"];
}

function Actions({ sweep }: { sweep: Sweep }): JSX.Element {
  const client = useQueryClient();
  const act = useMutation({
    mutationFn: (verb: Verb): Promise<Schemas["SweepDetail"]> => {
      const params = { params: { path: { sweep_id: sweep.id } } };
      if (verb === "pause") return body(api.POST("/api/v1/sweeps/{sweep_id}/pause", params));
      if (verb === "resume") return body(api.POST("/api/v1/sweeps/{sweep_id}/resume", params));
      return body(api.POST("/api/v1/sweeps/{sweep_id}/stop", params));
    },
    onSettled: () => void client.invalidateQueries({ queryKey: ["sweep", sweep.id] }),
  });
  const best = useMutation({
    mutationFn: async () => {
      const spec = await body(api.GET("/api/v1/sweeps/{sweep_id}/best", { params: { path: { sweep_id: sweep.id } } }));
      const { stringify } = await import("yaml");
      download(`${sweep.name.replaceAll(/[^\w.-]+/g, "-")}-best.yaml`, stringify(spec));
    },
  });
  return (
    <Stack gap="xs" align="flex-end">
      <Group gap="xs">
        {verbs(sweep.state).map((verb) => (
          <Button key={verb} size="sm" variant="default" loading={act.isPending && act.variables === verb} onClick={() => act.mutate(verb)}>
            {verb.slice(0, 1).toUpperCase() + verb.slice(1)}
          </Button>
        ))}
        <Extend sweep={sweep} />
        <Button size="sm" variant="default" loading={best.isPending} onClick={() => best.mutate()}>
          Save the best spec
        </Button>
        <Button component={Link} to={`/jobs?q=${encodeURIComponent(`group:${sweep.group}`)}`} size="sm" variant="default">
          Its jobs
        </Button>
      </Group>
      {act.isError && <Failure error={act.error} />}
      {best.isError && <Failure error={best.error} />}
    </Stack>
  );
}

function Extend({ sweep }: { sweep: Sweep }): JSX.Element {
  const client = useQueryClient();
  const [open, { open: show, close }] = useDisclosure();
  const [trials, setTrials] = useState<number | string>((sweep.most_trials ?? 0) + 10);
  const extend = useMutation({
    mutationFn: () => {
      const budget = Object.fromEntries(Object.entries((sweep.spec["budget"] ?? {}) as Record<string, unknown>).filter(([, value]) => value !== null));
      return body(api.POST("/api/v1/sweeps/{sweep_id}/extend", { params: { path: { sweep_id: sweep.id } }, body: { budget: { ...budget, trials: Number(trials) } } }));
    },
    onSuccess: () => {
      close();
      void client.invalidateQueries({ queryKey: ["sweep", sweep.id] });
    },
  });
  return (
    <>
      <Button size="sm" variant="default" onClick={show}>
        Extend
      </Button>
      <Modal opened={open} onClose={close} title="Extend this sweep" closeButtonProps={{ "aria-label": "Close" }}>
        <form
          onSubmit={(event) => {
            event.preventDefault();
            extend.mutate();
          }}
        >
          <Stack>
            <NumberInput label="Trials in all" description={`So far ${sweep.most_trials === null ? "without a limit" : String(sweep.most_trials)}. All that the search knows stays.`} value={trials} onChange={setTrials} min={1} max={10000} allowDecimal={false} />
            {extend.isError && <Failure error={extend.error} />}
            <Button type="submit" loading={extend.isPending}>
              Extend
            </Button>
          </Stack>
        </form>
      </Modal>
    </>
  );
}
