/** Images on which runs differ, the worst first, with what each of them sees there. */
import { ActionIcon, Alert, Chip, Group, NativeSelect, Stack, Switch, Text } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { type JSX, useEffect, useRef, useState } from "react";

import { api, body, type Schemas } from "@/api/client";
import { type Column, DataTable } from "@/components/DataTable";
import { Section } from "@/components/Section";
import { Empty, Loaded } from "@/components/States";
import { integer, plural } from "@/lib/format";
import { useKeys } from "@/lib/keys";

import { Panes } from "./Panes";
import type { Look } from "./Pane";
import { type Cast, moved, type Queue, queuesOf } from "./queues";
import { type ImagesSearch, QUEUES } from "./search";

type Ranked = Schemas["ImagesOut"];
type Sight = Schemas["Sight"];

const SCORES = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
const IOUS = [0.5, 0.6, 0.75, 0.9];
const LOOKS: { look: Look; label: string }[] = [
  { look: "right", label: "Right" },
  { look: "wrong", label: "Wrong" },
  { look: "missed", label: "Missed" },
  { look: "ignored", label: "Ignored" },
];

interface Props {
  cast: Cast;
  search: ImagesSearch;
  /** Change the address; what is `undefined` is the default again. */
  go: (change: ImagesSearch) => void;
}

export function Images({ cast, search, go }: Props): JSX.Element {
  const queues = queuesOf(cast);
  const queue = queues.find((one) => one.id === search.queue) ?? queues[0];
  const [score, iou] = [search.score ?? 0.3, search.iou ?? 0.5];
  const thresholds = { score, iou, ...(search.only === undefined ? {} : { label: search.only }) };
  const query = useQuery({
    queryKey: ["images", queue?.first.id, queue?.second?.id, queue?.kind, thresholds],
    queryFn: ({ signal }) => {
      const { first, second, kind } = queue as Queue;
      return body(api.GET("/api/v1/compare/images", { params: { query: { first: first.id, kind, ...thresholds, ...(second === null ? {} : { second: second.id }) } }, signal }));
    },
    enabled: queue !== undefined,
    placeholderData: keepPreviousData,
    staleTime: Infinity, // what a run that has ended sees never changes
  });
  const [labels, setLabels] = useState(true);
  const [shown, setShown] = useState<Look[]>(["right", "wrong", "missed"]);
  const items = query.data?.items ?? [];
  const at = items.findIndex((one) => one.image === (search.image ?? items[0]?.image));
  const step = (by: 1 | -1): void => {
    const next = items[moved(at, by, items.length)];
    if (next !== undefined) go({ image: next.image });
  };
  useKeys({ j: () => step(1), k: () => step(-1) });
  if (queue === undefined) return <Empty title="There is nothing to look at" />;
  const image = search.image ?? items[0]?.image;
  const runs = [
    { role: "Teacher", run: cast.teacher },
    { role: "Student", run: cast.student },
    { role: "Baseline", run: cast.baseline },
  ].flatMap(({ role, run }) => (run === null ? [] : [{ role, ...run }]));
  return (
    <Stack>
      <Group align="end" gap="md">
        <NativeSelect label="Show" data={queues.map((one) => ({ value: one.id, label: one.label }))} value={queue.id} onChange={(event) => go({ queue: QUEUES.find((one) => one === event.currentTarget.value), image: undefined })} />
        <NativeSelect label="Class" data={[{ value: "", label: "all" }, ...(query.data?.class_names ?? []).map((name) => ({ value: name, label: name }))]} value={search.only ?? ""} onChange={(event) => go({ only: event.currentTarget.value || undefined, image: undefined })} />
        <NativeSelect label="Score from" data={[...new Set([...SCORES, score])].sort((a, b) => a - b).map(String)} value={String(score)} onChange={(event) => go({ score: Number(event.currentTarget.value) === 0.3 ? undefined : Number(event.currentTarget.value) })} />
        <NativeSelect label="Overlap from (IoU)" data={[...new Set([...IOUS, iou])].sort((a, b) => a - b).map(String)} value={String(iou)} onChange={(event) => go({ iou: Number(event.currentTarget.value) === 0.5 ? undefined : Number(event.currentTarget.value) })} />
        <Chip.Group multiple value={shown} onChange={(value) => setShown(LOOKS.map((one) => one.look).filter((look) => value.includes(look)))}>
          <Group gap={6} pb={4} role="group" aria-label="Boxes">
            {LOOKS.map((one) => (
              <Chip key={one.look} value={one.look} size="xs" variant="outline">
                {one.label}
              </Chip>
            ))}
          </Group>
        </Chip.Group>
        <Switch label="Names" checked={labels} onChange={(event) => setLabels(event.currentTarget.checked)} pb={6} />
      </Group>
      <Loaded query={query} height={400}>
        {(answer) => (
          <>
            {answer.whole > answer.pictures && (
              <Alert variant="default" icon={<span aria-hidden>⚠</span>}>
                Of {integer(answer.whole)} validation images {integer(answer.pictures)}, spread evenly, have pictures; only these are looked at here.
              </Alert>
            )}
            {answer.items.length === 0 ? (
              <Empty title="No such image">Nothing is ranked here at these thresholds.</Empty>
            ) : (
              <div className="images">
                <nav aria-label="Images">
                  <Group justify="space-between" mb={4}>
                    <Text size="sm">{plural(answer.items.length, "image")}, the worst first</Text>
                    <Group gap={4}>
                      <ActionIcon variant="default" aria-label="Previous image (k)" disabled={at <= 0} onClick={() => step(-1)}>
                        ↑
                      </ActionIcon>
                      <ActionIcon variant="default" aria-label="Next image (j)" disabled={at >= items.length - 1} onClick={() => step(1)}>
                        ↓
                      </ActionIcon>
                    </Group>
                  </Group>
                  <List answer={answer} current={image} onPick={(id) => go({ image: id })} />
                </nav>
                {image !== undefined && <Panes image={image} runs={runs} thresholds={thresholds} shown={new Set(shown)} labels={labels} reasons={items[at]?.reasons ?? []} />}
              </div>
            )}
            <Sights answer={answer} />
          </>
        )}
      </Loaded>
    </Stack>
  );
}

function List({ answer, current, onPick }: { answer: Ranked; current: number | undefined; onPick: (image: number) => void }): JSX.Element {
  const marked = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    marked.current?.scrollIntoView({ block: "nearest" }); // newer browsers give a promise, which is no clean-up
  }, [current]);
  return (
    <ol className="image-list">
      {answer.items.map((one) => (
        <li key={one.image}>
          <button ref={one.image === current ? marked : null} type="button" aria-current={one.image === current ? "true" : undefined} onClick={() => onPick(one.image)}>
            <b>{one.file_name}</b>
            {one.reasons.map((reason) => (
              <span key={reason}>{reason}</span>
            ))}
          </button>
        </li>
      ))}
    </ol>
  );
}

const TYPES: [string, string, string][] = [
  ["classification", "Wrong class", "On an object of another class, well placed."],
  ["localisation", "Wrong place", "On an object of its class, with an IoU of 0.1 to 0.5."],
  ["both", "Both", "Near an object of another class, badly placed."],
  ["duplicate", "Duplicate", "On an object that a surer detection has found."],
  ["background", "Nothing there", "Near no object."],
  ["missed", "Not seen", "Objects that nothing comes near."],
];

/** How the runs do on all pictures together. */
function Sights({ answer }: { answer: Ranked }): JSX.Element {
  const rows = [answer.first, answer.second].filter((one): one is Sight => one !== null);
  const columns: Column<Sight>[] = [
    { id: "name", header: "Run", cell: (one) => one.name, value: (one) => one.name },
    { id: "right", header: "Right", align: "right", cell: (one) => integer(one.right), value: (one) => one.right },
    { id: "wrong", header: "Wrong", align: "right", cell: (one) => integer(one.wrong), value: (one) => one.wrong },
    { id: "missed", header: "Missed", help: "Objects without a right detection.", align: "right", cell: (one) => integer(one.missed), value: (one) => one.missed },
    ...(rows.every((one) => one.errors !== null)
      ? TYPES.map(([id, header, help]): Column<Sight> => ({ id, header, help, align: "right", cell: (one) => integer(one.errors?.[id]), value: (one) => one.errors?.[id] ?? null }))
      : []),
  ];
  return (
    <Section title={`On all ${integer(answer.pictures)} pictures`}>
      <DataTable caption="On all pictures" rows={rows} columns={columns} rowKey={(one) => one.job_id} />
    </Section>
  );
}
