import { Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type JSX, useState } from "react";

import { type Column, DataTable, type Sort, sorted } from "@/components/DataTable";
import { ExportMenu } from "@/components/ExportMenu";
import { Empty } from "@/components/States";
import { compact, DASH, number, signed } from "@/lib/format";

import { type Job, jobQuery, result } from "./job";

interface Row {
  name: string;
  value: number | null;
  teacher: number | null;
}

const MEASURES = ["AP", "AP50", "AP75", "APs", "APm", "APl"];
const WIDTH = 160;

/** The final evaluation, beside that of the teacher where there is one. */
export function Results({ job }: { job: Job }): JSX.Element {
  const teacher = useQuery({ ...jobQuery(job.teacher_job_id ?? ""), enabled: job.teacher_job_id !== null });
  const [sort, setSort] = useState<Sort>({ id: "value", descending: true });
  if (job.evaluation === null) return <Empty title="No results yet">The final evaluation comes at the end of the run.</Empty>;
  const pairs = (keys: string[], of: (one: Job | undefined, key: string) => number | null): Row[] => keys.map((key) => ({ name: key, value: of(job, key), teacher: of(teacher.data, key) }));
  const measures = pairs(MEASURES, result);
  const classes = pairs(Object.keys(perClass(job)), (one, key) => perClass(one)[key] ?? null);
  const others = Object.entries(job.evaluation).filter((entry): entry is [string, number] => typeof entry[1] === "number" && !MEASURES.includes(entry[0]));
  const columns = columnsOf(job.teacher_job_id !== null);
  return (
    <Stack>
      <Section title="Measures" columns={columns} rows={measures} />
      {classes.length > 0 && <Section title="Classes" columns={columns} rows={sorted(classes, columns, sort)} sort={sort} onSort={setSort} />}
      {others.length > 0 && (
        <Text size="sm">
          {others.map(([key, value]) => `${key} ${compact(value)}`).join(", ")}
        </Text>
      )}
      {job.teacher_job_id !== null && (
        <Text size="sm">
          Its teacher:{" "}
          <Link to="/jobs/$id" params={{ id: job.teacher_job_id }}>
            {teacher.data?.name ?? job.teacher_job_id}
          </Link>
        </Text>
      )}
    </Stack>
  );
}

function Section({ title, columns, rows, sort, onSort }: { title: string; columns: Column<Row>[]; rows: Row[]; sort?: Sort; onSort?: (sort: Sort) => void }): JSX.Element {
  return (
    <section>
      <div style={{ display: "flex", justifyContent: "space-between", alignItems: "center", marginBottom: 8 }}>
        <Text component="h2" fw={650}>
          {title}
        </Text>
        <ExportMenu name={title.toLowerCase()} columns={columns} rows={rows} />
      </div>
      <DataTable caption={title} rows={rows} columns={columns} rowKey={(row) => row.name} sort={sort} {...(onSort === undefined ? {} : { onSort })} />
    </section>
  );
}

function columnsOf(taught: boolean): Column<Row>[] {
  return [
    { id: "name", header: "Name", cell: (row) => row.name, value: (row) => row.name },
    { id: "value", header: "This run", help: "In points, 0 to 100.", align: "right", cell: (row) => number(row.value), value: (row) => row.value },
    { id: "bar", header: "0 to 100", cell: (row) => <Bar row={row} /> },
    ...(taught
      ? [
          { id: "teacher", header: "Teacher", align: "right", cell: (row: Row) => number(row.teacher), value: (row: Row) => row.teacher } as const,
          { id: "difference", header: "Difference", align: "right", cell: (row: Row) => (row.value === null || row.teacher === null ? DASH : signed(row.value - row.teacher)), value: (row: Row) => (row.value === null || row.teacher === null ? null : row.value - row.teacher) } as const,
        ]
      : []),
  ];
}

function Bar({ row }: { row: Row }): JSX.Element {
  return (
    <svg width={WIDTH} height={14} aria-hidden>
      <rect width={WIDTH} height={14} fill="var(--bcd-ground)" stroke="var(--bcd-line)" />
      {row.value !== null && <rect width={(WIDTH * row.value) / 100} height={14} fill="var(--bcd-gain)" />}
      {row.teacher !== null && <line x1={(WIDTH * row.teacher) / 100} x2={(WIDTH * row.teacher) / 100} y1={0} y2={14} stroke="currentColor" strokeWidth={2} />}
    </svg>
  );
}

function perClass(job: Job | undefined): Record<string, number | null> {
  const found = job?.evaluation?.["per_class"];
  return typeof found === "object" && found !== null ? (found as Record<string, number | null>) : {};
}
