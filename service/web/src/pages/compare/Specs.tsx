import { Stack, Text } from "@mantine/core";
import { useQueries } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type JSX, useMemo } from "react";

import { api, body } from "@/api/client";
import { type Column, DataTable } from "@/components/DataTable";
import { ExportMenu } from "@/components/ExportMenu";
import { Empty, Failure, Loading } from "@/components/States";

import { differing } from "./specs";

const MOST = 20;

/** Where the specs of the runs differ: what was meant to, and what was not. */
export function Specs({ runs }: { runs: string[] }): JSX.Element {
  const shown = runs.slice(0, MOST);
  const jobs = useQueries({
    queries: shown.map((id) => ({
      queryKey: ["job", id],
      queryFn: ({ signal }: { signal: AbortSignal }) => body(api.GET("/api/v1/jobs/{job_id}", { params: { path: { job_id: id } }, signal })),
    })),
  });
  const loaded = jobs.map((job) => job.data).filter((job) => job !== undefined);
  const key = loaded.map((job) => job.id).join();
  // eslint-disable-next-line react-hooks/exhaustive-deps -- specs of jobs never change
  const rows = useMemo(() => differing(loaded.map((job) => job.spec)), [key]);
  const failed = jobs.find((job) => job.isError);
  if (failed?.error != null) return <Failure error={failed.error} />;
  if (loaded.length < shown.length) return <Loading height={240} label="Loading specs" />;
  const columns: Column<(typeof rows)[number]>[] = [
    { id: "path", header: "Field", cell: (row) => <code>{row.path}</code>, value: (row) => row.path },
    { id: "kind", header: "Meant?", cell: (row) => (row.expected ? "yes" : "⚠ check"), value: (row) => (row.expected ? "yes" : "check") },
    ...loaded.map(
      (job, i): Column<(typeof rows)[number]> => ({ id: job.id, header: job.name, cell: (row) => <code>{row.values[i]}</code>, value: (row) => row.values[i] ?? null, width: 240 }),
    ),
  ];
  const confounded = rows.filter((row) => !row.expected);
  return (
    <Stack>
      {runs.length > MOST && <Text size="sm">The first {MOST} of {runs.length} runs.</Text>}
      {confounded.length > 0 && (
        <Text>
          ⚠ The runs differ in more than their method: {confounded.slice(0, 6).map((row) => row.path).join(", ")}
          {confounded.length > 6 ? " and more" : ""}. A difference between them may come from there.
        </Text>
      )}
      {rows.length === 0 ? (
        <Empty title="Nothing differs but name and seed">These runs repeat one experiment.</Empty>
      ) : (
        <>
          <div>
            <ExportMenu name="specs" columns={columns} rows={rows} />
          </div>
          <DataTable caption="Fields that differ" rows={rows} columns={columns} rowKey={(row) => row.path} />
        </>
      )}
      <Text size="sm" c="dimmed">
        Names and seeds are left out. <Link to="/jobs/$id" params={{ id: shown[0] ?? "" }} search={{ tab: "spec" }}>A run&apos;s page</Link> has its whole spec.
      </Text>
    </Stack>
  );
}
