import { Alert, Button, Code, Group, List, SimpleGrid, Stack, Switch, Text, Textarea, TextInput, Title } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useMutation, useQuery } from "@tanstack/react-query";
import { getRouteApi, useNavigate } from "@tanstack/react-router";
import { type JSX, useEffect, useMemo, useState } from "react";

import { api, ApiError, body, type Schemas } from "@/api/client";
import { Page as Frame } from "@/components/Page";
import { Failure, Loading } from "@/components/States";
import { duration, integer, plural } from "@/lib/format";
import { jobQuery } from "@/pages/job/job";

import { type Draft, isDistilled, keyOf, nonce, seedsOf, type Spec, specsOf, START, taughtBy } from "./draft";

type Verdict = Schemas["Verdict"];
const route = getRouteApi("/new");
const KEPT = "bcd-draft";

export default function Page(): JSX.Element {
  const { from: begun, teacher } = route.useSearch();
  const from = begun ?? teacher;
  // The reader of YAML is large: only this page and specs need it.
  const yaml = useQuery({ queryKey: ["yaml"], queryFn: () => import("yaml"), staleTime: Infinity, gcTime: Infinity });
  const origin = useQuery({ ...jobQuery(from ?? ""), enabled: from !== undefined });
  return (
    <Frame title="New job" name="New job">
      {origin.isError ? (
        <Failure error={origin.error} retry={() => void origin.refetch()} />
      ) : yaml.data === undefined || (from !== undefined && origin.data === undefined) ? (
        <Loading height={400} />
      ) : (
        <Form key={from ?? ""} yaml={yaml.data} start={origin.data === undefined ? kept() : startOf(yaml.data, origin.data, teacher !== undefined && begun === undefined)} />
      )}
    </Frame>
  );
}

/** A draft that begins with the spec of a job: to change it, or to let its student teach another one. */
function startOf(yaml: typeof import("yaml"), job: Schemas["JobOut"], teaches: boolean): Draft {
  if (teaches) return { ...START, text: yaml.stringify(taughtBy(job.id, job.spec)), fair: true };
  return { ...START, text: yaml.stringify(job.spec), seeds: String(job.seed), group: job.group ?? "", tags: job.tags.join(", ") };
}

/** The draft of this tab, so that neither a reload nor an ended session loses it. */
function kept(): Draft {
  try {
    const found = JSON.parse(sessionStorage.getItem(KEPT) ?? "null") as Partial<Draft> | null;
    return { ...START, ...found };
  } catch {
    return START;
  }
}

function Form({ yaml, start }: { yaml: typeof import("yaml"); start: Draft }): JSX.Element {
  const navigate = useNavigate();
  const [draft, setDraft] = useState(start);
  const [visit] = useState(nonce);
  const change = (part: Partial<Draft>): void => setDraft((before) => ({ ...before, ...part }));
  useEffect(() => sessionStorage.setItem(KEPT, JSON.stringify(draft)), [draft]);
  const [settled] = useDebouncedValue(draft, 500);

  const read = useMemo(() => reading(yaml, settled.text), [yaml, settled.text]);
  const seeds = useMemo(() => attempt(() => seedsOf(draft.seeds)), [draft.seeds]);
  const options = { ...(settled.group.trim() === "" ? {} : { group: settled.group.trim() }), tag: settled.tags.split(",").map((tag) => tag.trim()).filter((tag) => tag !== "") };
  const check = useQuery({
    queryKey: ["validate", read.spec, options],
    queryFn: ({ signal }) => body(api.POST("/api/v1/jobs:validate", { params: { query: options }, body: read.spec as Schemas["JobSpec"], signal })),
    enabled: read.spec !== null,
    staleTime: 10_000,
    retry: false,
  });
  const specs = read.spec === null || seeds.value === null ? [] : specsOf(read.spec, seeds.value, draft.fair);
  const submit = useMutation({
    mutationFn: async (batch: Spec[]) => {
      const made: Schemas["JobOut"][] = [];
      for (const spec of batch)
        made.push(await body(api.POST("/api/v1/jobs", { params: { query: options, header: { "Idempotency-Key": keyOf(visit, { spec, options }) } }, body: spec as Schemas["JobSpec"] })));
      return made;
    },
    onSuccess: (made) => {
      sessionStorage.removeItem(KEPT);
      const [only] = made;
      if (made.length === 1 && only !== undefined) void navigate({ to: "/jobs/$id", params: { id: only.id } });
      else void navigate({ to: "/jobs", search: { q: `id:${made.slice(0, 20).map((job) => job.id).join(",")}` } });
    },
  });
  const stale = settled !== draft || check.isFetching;
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        submit.mutate(specs);
      }}
    >
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="lg">
        <Textarea
          label="Spec"
          description="YAML, as in a file for bcd submit. What is left out has its default."
          value={draft.text}
          onChange={(event) => change({ text: event.currentTarget.value })}
          autosize
          minRows={22}
          maxRows={40}
          spellCheck={false}
          error={read.fault}
          styles={{ input: { fontFamily: "var(--mantine-font-family-monospace)", fontSize: 13 } }}
        />
        <Stack>
          <TextInput label="Seeds" description="One job for each. Three or more tell a difference from noise." value={draft.seeds} onChange={(event) => change({ seeds: event.currentTarget.value })} error={seeds.fault} />
          <Group grow align="flex-start">
            <TextInput label="Group" description="A name for runs that belong together." value={draft.group} onChange={(event) => change({ group: event.currentTarget.value })} />
            <TextInput label="Tags" description="Words, with commas between them." value={draft.tags} onChange={(event) => change({ tags: event.currentTarget.value })} />
          </Group>
          <Switch
            label="Make it a fair comparison"
            description="Also train the same student without teacher and methods, over the same seeds: what the distilled one must beat."
            checked={draft.fair && isDistilled(read.spec)}
            disabled={!isDistilled(read.spec)}
            onChange={(event) => change({ fair: event.currentTarget.checked })}
          />
          <section aria-label="Check" aria-live="polite">
            <Title order={2} size="h3" mb="xs">
              What the service says
            </Title>
            {check.isError ? (
              <Failure error={check.error} />
            ) : check.data === undefined ? (
              <Text size="sm" c="dimmed">
                {read.fault === null ? "Checking…" : "Nothing yet: the spec cannot be read."}
              </Text>
            ) : (
              <Answer verdict={check.data} />
            )}
          </section>
          {submit.isError && <Failure error={submit.error instanceof ApiError ? submit.error : new Error("the submission broke off; press again, nothing is made twice")} />}
          <Group>
            <Button type="submit" loading={submit.isPending} disabled={specs.length === 0 || stale || check.data?.ok !== true}>
              {specs.length > 1 ? `Submit ${plural(specs.length, "job")}` : "Submit"}
            </Button>
            <Button variant="default" onClick={() => setDraft(START)}>
              Start over
            </Button>
          </Group>
        </Stack>
      </SimpleGrid>
    </form>
  );
}

function Answer({ verdict }: { verdict: Verdict }): JSX.Element {
  const { plan, cost, queue } = verdict;
  return (
    <Stack gap="xs">
      {verdict.errors.length > 0 && (
        <Alert variant="default" title={`${plural(verdict.errors.length, "thing")} to change`} icon={<span aria-hidden>✕</span>}>
          <List size="sm">
            {verdict.errors.map((fault) => (
              <List.Item key={fault.pointer + fault.detail}>
                <Code>{fault.pointer || "/"}</Code> {fault.detail}
              </List.Item>
            ))}
          </List>
        </Alert>
      )}
      {verdict.warnings.map((warning) => (
        <Text size="sm" key={warning}>
          ⚠ {warning}
        </Text>
      ))}
      {verdict.ok && <Text size="sm">✓ This can be submitted.</Text>}
      {plan !== null && (
        <Text size="sm">
          {plan.detector}, {plan.methods.length === 0 ? "on labels alone" : `taught by ${plan.methods.map((method) => method.type).join(" + ")}`}
          {plan.steps === null ? "" : `, ${integer(plan.steps)} steps`}
          {plan.pair === null ? "" : `; teacher and student: ${plan.pair}`}
        </Text>
      )}
      {cost !== null && (
        <Text size="sm">
          {cost.seconds === null ? "No estimate of its time: " : `About ${duration(cost.seconds)} a run: `}
          {cost.basis}
        </Text>
      )}
      {queue !== null && (
        <Text size="sm">
          Place in the queue: {queue.position}
          {queue.reason === null ? "" : `; ${queue.reason}`}
        </Text>
      )}
    </Stack>
  );
}

function reading(yaml: typeof import("yaml"), text: string): { spec: Spec | null; fault: string | null } {
  const document = yaml.parseDocument(text, { prettyErrors: true });
  const [error] = document.errors;
  if (error !== undefined) return { spec: null, fault: error.message.split("\n")[0] ?? "this is no YAML" };
  const found: unknown = document.toJS();
  if (typeof found !== "object" || found === null || Array.isArray(found)) return { spec: null, fault: "a spec is a mapping: name, data, student, schedule, ..." };
  return { spec: found as Spec, fault: null };
}

function attempt<T>(act: () => T): { value: T | null; fault: string | null } {
  try {
    return { value: act(), fault: null };
  } catch (error) {
    return { value: null, fault: error instanceof Error ? error.message : String(error) };
  }
}
