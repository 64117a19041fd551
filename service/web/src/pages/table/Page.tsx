import { Anchor, Button, Group, Stack, Tabs, Text } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { type JSX, useState } from "react";

import { api, body, type Schemas } from "@/api/client";
import { useLive } from "@/api/live";
import { type Column, DataTable } from "@/components/DataTable";
import { ExportMenu } from "@/components/ExportMenu";
import { Page as Frame } from "@/components/Page";
import { Section } from "@/components/Section";
import { Failure, Loaded, Loading } from "@/components/States";
import { DASH, interval, meanStd, number, plural, signed } from "@/lib/format";
import { ManifestForm } from "@/pages/tables/Page";

import { TABS } from "./search";

type Table = Schemas["ResultTableOut"];
type Row = Schemas["RowOut"];
type Cell = Schemas["CellOut"];

const route = getRouteApi("/tables/$id");
const SIGNS: Record<Cell["state"], string> = { done: "✓", "under way": "…", failed: "✗", stale: "~", missing: "·" };

export default function Page(): JSX.Element {
  const { id } = route.useParams();
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const client = useQueryClient();
  const query = useQuery({ queryKey: ["table", id], queryFn: ({ signal }) => body(api.GET("/api/v1/tables/{table_id}", { params: { path: { table_id: id } }, signal })) });
  useLive(["job.state"], () => void client.invalidateQueries({ queryKey: ["table", id] }));
  return (
    <Loaded query={query} height={400}>
      {(table) => (
        <Frame title={table.name} name={table.name} actions={<Actions table={table} />}>
          <Text>{told(table)}</Text>
          <Tabs value={search.tab ?? "results"} keepMounted={false} onChange={(value) => void navigate({ search: { tab: TABS.find((one) => one === value && one !== "results") } })}>
            <Tabs.List mb="md">
              <Tabs.Tab value="results">Results</Tabs.Tab>
              <Tabs.Tab value="cells">Cells</Tabs.Tab>
              <Tabs.Tab value="manifest">Manifest</Tabs.Tab>
            </Tabs.List>
            <Tabs.Panel value="results">
              <Results table={table} />
            </Tabs.Panel>
            <Tabs.Panel value="cells">
              <Cells table={table} />
            </Tabs.Panel>
            <Tabs.Panel value="manifest">
              <Edit key={table.updated_at} table={table} />
            </Tabs.Panel>
          </Tabs>
        </Frame>
      )}
    </Loaded>
  );
}

function told(table: Table): string {
  const total = table.cells.length;
  const parts = Object.entries(table.counts).flatMap(([state, count]) => (count > 0 ? [`${String(count)} ${state}`] : []));
  const published = table.rows.filter((row) => row.published !== null && row.mean !== null);
  const good = published.filter((row) => row.verdict === "reproduced").length;
  return `${plural(total, "cell")}: ${parts.join(", ")}.${published.length > 0 ? ` ${String(good)} of ${plural(published.length, "published figure")} reproduced within ${number(table.tolerance)} points.` : ""}`;
}

function Actions({ table }: { table: Table }): JSX.Element {
  const client = useQueryClient();
  const wanted = table.cells.filter((cell) => ["missing", "stale", "failed"].includes(cell.state)).length;
  const submit = useMutation({
    mutationFn: () => body(api.POST("/api/v1/tables/{table_id}/submit", { params: { path: { table_id: table.id } } })),
    onSettled: () => void client.invalidateQueries({ queryKey: ["table", table.id] }),
  });
  return (
    <Stack gap="xs" align="end">
      <Group gap="xs">
        <Button component={Link} to={`/compare?group=${encodeURIComponent(table.group)}`} size="sm" variant="default">
          Compare its runs
        </Button>
        <Button size="sm" disabled={wanted === 0} loading={submit.isPending} onClick={() => submit.mutate()}>
          {wanted === 0 ? "Nothing to submit" : `Submit ${plural(wanted, "cell")}`}
        </Button>
      </Group>
      {submit.isError && <Failure error={submit.error} />}
    </Stack>
  );
}

function Results({ table }: { table: Table }): JSX.Element {
  const cellsOf = (row: Row): Cell[] => table.cells.filter((cell) => cell.student === row.student && cell.method === row.method);
  const columns: Column<Row>[] = [
    { id: "student", header: "Student", cell: (row) => row.student, value: (row) => row.student },
    { id: "method", header: "Method", cell: (row) => row.method, value: (row) => row.method },
    {
      id: "cells",
      header: "Seeds",
      help: "✓ done, … under way, ✗ failed, ~ stale (trained from another spec), · missing.",
      cell: (row) => (
        <span style={{ letterSpacing: 4 }}>
          {cellsOf(row).map((cell) => (
            <span key={cell.seed} title={`seed ${String(cell.seed)}: ${cell.state}`} role="img" aria-label={`seed ${String(cell.seed)}: ${cell.state}`}>
              {SIGNS[cell.state]}
            </span>
          ))}
        </span>
      ),
      value: (row) => row.n,
    },
    { id: "mean", header: table.metric, help: "Mean ± sample standard deviation over seeds, in points.", align: "right", cell: (row) => meanStd(row.mean, row.std), value: (row) => row.mean },
    { id: "interval", header: "95 % interval", help: "Of the mean; from 3 seeds on.", cell: (row) => (row.low === null || row.high === null ? DASH : `${number(row.low)} to ${number(row.high)}`), value: (row) => (row.low === null || row.high === null ? null : `${number(row.low)} to ${number(row.high)}`) },
    { id: "published", header: "Published", align: "right", cell: (row) => number(row.published), value: (row) => row.published },
    { id: "difference", header: "Difference", align: "right", cell: (row) => signed(row.difference), value: (row) => row.difference },
    { id: "verdict", header: "Verdict", help: `reproduced: at most ${number(table.tolerance)} points from the published figure.`, cell: (row) => <b>{row.verdict}</b>, value: (row) => row.verdict },
    { id: "gain", header: "Gain", help: "Over the same student on labels alone; paired by seed where there are at least 3.", align: "right", cell: (row) => (row.gain === null ? DASH : `${signed(row.gain)}${row.gain_low === null ? "" : ` ${interval(row.gain_low, row.gain_high)}`}`), value: (row) => row.gain },
    { id: "published_gain", header: "Published gain", align: "right", cell: (row) => signed(row.published_gain), value: (row) => row.published_gain },
  ];
  return (
    <Section title="Results" menu={<ExportMenu name={table.name} columns={columns} rows={table.rows} />}>
      <DataTable caption="Results" rows={table.rows} columns={columns} rowKey={(row) => `${row.student} ${row.method}`} />
    </Section>
  );
}

const CELLS: Column<Cell>[] = [
  { id: "student", header: "Student", cell: (cell) => cell.student, value: (cell) => cell.student },
  { id: "method", header: "Method", cell: (cell) => cell.method, value: (cell) => cell.method },
  { id: "seed", header: "Seed", align: "right", cell: (cell) => cell.seed, value: (cell) => cell.seed },
  { id: "state", header: "State", cell: (cell) => `${SIGNS[cell.state]} ${cell.state}`, value: (cell) => cell.state },
  { id: "value", header: "Value", align: "right", cell: (cell) => number(cell.value), value: (cell) => cell.value },
  {
    id: "job",
    header: "Job",
    cell: (cell) =>
      cell.job_id === null ? (
        ""
      ) : (
        <Anchor component={Link} to={`/jobs/${cell.job_id}`} size="sm">
          {cell.job_id}
        </Anchor>
      ),
    value: (cell) => cell.job_id,
  },
  { id: "cause", header: "Why", cell: (cell) => cell.cause ?? "", value: (cell) => cell.cause },
];

function Cells({ table }: { table: Table }): JSX.Element {
  return (
    <Section title="Cells" menu={<ExportMenu name={`${table.name} cells`} columns={CELLS} rows={table.cells} />}>
      <DataTable caption="Cells" rows={table.cells} columns={CELLS} rowKey={(cell) => `${cell.student} ${cell.method} ${String(cell.seed)}`} />
    </Section>
  );
}

function Edit({ table }: { table: Table }): JSX.Element {
  const yaml = useQuery({ queryKey: ["yaml"], queryFn: () => import("yaml"), staleTime: Infinity, gcTime: Infinity });
  const [text, setText] = useState<string | null>(null);
  if (yaml.data === undefined) return <Loading height={300} />;
  return <ManifestForm text={text ?? yaml.data.stringify(table.manifest)} onText={setText} label="Keep the change" />;
}
