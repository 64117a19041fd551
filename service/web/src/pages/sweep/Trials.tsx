import { Anchor, Button, Group, Select, Stack, Text } from "@mantine/core";
import { getRouteApi, Link } from "@tanstack/react-router";
import { type JSX, useMemo, useState } from "react";

import { ends, Parallel } from "@/charts/Parallel";
import { type Column, DataTable, type Sort, sorted } from "@/components/DataTable";
import { ExportMenu } from "@/components/ExportMenu";
import { StateBadge } from "@/components/StateBadge";
import { Empty } from "@/components/States";
import { integer, number, plural } from "@/lib/format";

import { type Axis, axesOf, brushesOf, brushesText, kept, position, short, VALUE } from "./axes";
import { outcome, searched, type Sweep, type Trial, valueOf, whole, wordText } from "./sweep";

const route = getRouteApi("/sweeps/$id");
const TOPS = [
  { value: "100", label: "all trials" },
  { value: "50", label: "the best 50 %" },
  { value: "25", label: "the best 25 %" },
  { value: "10", label: "the best 10 %" },
];

/** Every trial of the search: as a line over the axes of the space, and as a row; a brush keeps a part of both. */
export function Trials({ sweep, trials }: { sweep: Sweep; trials: Trial[] }): JSX.Element {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const [sort, setSort] = useState<Sort>({ id: VALUE, descending: true });
  const all = useMemo(() => searched(trials), [trials]);
  const larger = (sweep.spec["objectives"] as { mode?: string | null }[] | undefined)?.[0]?.mode !== "min";
  const objective = sweep.objectives[0] ?? "value";
  const axes = useMemo(() => axesOf((sweep.spec["space"] ?? {}) as Parameters<typeof axesOf>[0], objective, all), [sweep.spec, objective, all]);
  const brushes = brushesOf(search.brush);
  const ranked = useMemo(() => byValue(all, larger), [all, larger]);
  const top = new Set(ranked.slice(0, Math.ceil((ranked.length * (search.top ?? 100)) / 100)).map((trial) => trial.job_id));
  const shown = kept(all, axes, brushes).filter((trial) => search.top === undefined || top.has(trial.job_id));
  const ids = new Set(shown.map((trial) => trial.job_id));
  const columns = columnsOf(sweep, axes);
  if (all.length === 0) return <Empty title="No trial yet">The first one comes as soon as the search has begun.</Empty>;
  const keep = (next: Record<string, readonly [number, number]>): void => void navigate({ replace: true, search: (before) => ({ ...before, brush: Object.keys(next).length > 0 ? brushesText(next) : undefined }) });
  return (
    <Stack>
      <Group justify="space-between" align="flex-end">
        <Text size="sm" c="dimmed" aria-live="polite">
          {shown.length === all.length ? plural(all.length, "trial") : `${integer(shown.length)} of ${plural(all.length, "trial")}`}. Drag along an axis to keep a part of it; dashed: did not run to its end.
        </Text>
        <Group gap="xs" align="flex-end">
          {(search.brush !== undefined || search.top !== undefined) && (
            <Button size="sm" variant="default" onClick={() => void navigate({ replace: true, search: (before) => ({ ...before, brush: undefined, top: undefined }) })}>
              Show all
            </Button>
          )}
          <Select
            aria-label="Which trials"
            size="sm"
            w={160}
            allowDeselect={false}
            data={TOPS}
            value={String(search.top ?? 100)}
            onChange={(value) => void navigate({ replace: true, search: (before) => ({ ...before, top: value === "100" ? undefined : Number(value) }) })}
          />
          <ExportMenu name="trials" columns={columns} rows={shown} />
        </Group>
      </Group>
      <Parallel
        title="Trials"
        axes={axes.map((axis) => ({ id: axis.id, label: axis.label, ticks: axis.kind === "words" ? axis.words.map((text, i) => ({ at: axis.words.length === 1 ? 0.5 : i / (axis.words.length - 1), text })) : ends(axis.low, axis.high) }))}
        lines={all.map((trial) => ({
          id: trial.job_id,
          label: `#${String(trial.number)}: ${objective} ${number(valueOf(trial), 2)}`,
          at: axes.map((axis) => position(axis, trial)),
          good: 1 - ranked.indexOf(trial) / Math.max(1, ranked.length - 1),
          dashed: !whole(trial),
          faint: !ids.has(trial.job_id),
        }))}
        brushes={brushes}
        onBrush={(id, brush) => {
          const next = Object.fromEntries(Object.entries(brushes).filter(([other]) => other !== id));
          keep(brush === null ? next : { ...next, [id]: brush });
        }}
      />
      <DataTable caption="Trials" rows={sorted(shown, columns, sort)} columns={columns} rowKey={(trial) => trial.job_id} sort={sort} onSort={setSort} />
    </Stack>
  );
}

/** The best first: those that ran to their end, then the others, each by value. */
function byValue(trials: readonly Trial[], larger: boolean): Trial[] {
  const sign = larger ? -1 : 1;
  const key = (trial: Trial): number => valueOf(trial) ?? (larger ? -Infinity : Infinity);
  return [...trials].sort((a, b) => Number(whole(b)) - Number(whole(a)) || sign * (key(a) - key(b)));
}

function columnsOf(sweep: Sweep, axes: readonly Axis[]): Column<Trial>[] {
  return [
    {
      id: "number",
      header: "Trial",
      align: "right",
      cell: (trial) => (
        <Anchor component={Link} to={`/jobs/${trial.job_id}`} size="sm">
          #{trial.number}
        </Anchor>
      ),
      value: (trial) => trial.number,
    },
    { id: "state", header: "State", cell: (trial) => <StateBadge state={trial.state} />, value: (trial) => trial.state },
    ...sweep.objectives.map((name, i): Column<Trial> => ({
      id: i === 0 ? VALUE : name,
      header: name,
      ...(i === 0 ? { help: "Of the final evaluation; of a trial that did not run to its end, its newest one." } : {}),
      align: "right",
      cell: (trial) => number(i === 0 ? valueOf(trial) : trial.values?.[i], 2),
      value: (trial) => (i === 0 ? valueOf(trial) : trial.values?.[i]),
    })),
    ...axes
      .filter((axis) => axis.id !== VALUE)
      .map((axis): Column<Trial> => ({ id: axis.id, header: short(axis.id), help: axis.id, align: "right", cell: (trial) => wordText(trial.params[axis.id]), value: (trial) => sortable(trial.params[axis.id]) })),
    { id: "step", header: "Steps", align: "right", cell: (trial) => `${integer(trial.step)} of ${integer(trial.total_steps)}`, value: (trial) => trial.step },
    { id: "outcome", header: "Outcome", cell: (trial) => <Text size="sm" truncate maw={380} title={outcome(trial)}>{outcome(trial)}</Text>, value: outcome },
  ];
}

function sortable(word: Trial["params"][string] | undefined): string | number | null {
  return word === undefined || word === null ? null : typeof word === "boolean" ? String(word) : word;
}
