import { Alert, List, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { type JSX, useState } from "react";

import { api, body, type Schemas } from "@/api/client";
import { Forest, range } from "@/charts/Forest";
import { type Column, DataTable, type Sort, sorted } from "@/components/DataTable";
import { ExportMenu } from "@/components/ExportMenu";
import { Empty, Loaded } from "@/components/States";
import { interval, number, plural, probability, signed } from "@/lib/format";

import { type Across, across, clear } from "./parts";

type Part = Schemas["Part"];
type Comparison = Schemas["PartsOfComparison"];

/** Which classes and sizes gain or lose, of each distilled group against its baseline. */
export function Classes({ runs }: { runs: string[] }): JSX.Element {
  const query = useQuery({
    queryKey: ["compare", "parts", runs],
    queryFn: ({ signal }) => body(api.GET("/api/v1/compare/parts", { params: { query: { ids: runs.join(",") } }, signal })),
  });
  return (
    <Loaded query={query} height={320}>
      {(answer) => (
        <Stack gap="xl">
          {answer.warnings.length > 0 && (
            <Alert variant="default" title="What to know before reading on" icon={<span aria-hidden>⚠</span>}>
              <List size="sm">
                {answer.warnings.map((warning) => (
                  <List.Item key={warning}>{warning}</List.Item>
                ))}
              </List>
            </Alert>
          )}
          {answer.comparisons.length === 0 && <Empty title="Nothing can be compared yet">A distilled student and its baseline, both finished and judged under one protocol, are needed.</Empty>}
          {answer.comparisons.length > 1 && <Overview comparisons={answer.comparisons} />}
          {answer.comparisons.map((one) => (
            <One key={one.label + one.baseline_label} comparison={one} />
          ))}
          <Text size="sm" c="dimmed">
            Means over runs, in AP points. Differences and intervals are over seeds; p is after Holm&apos;s correction over the classes of a table. A filled dot: clear after the correction. Classes and sizes without objects in the validation data are left out.
          </Text>
        </Stack>
      )}
    </Loaded>
  );
}

/** Classes by methods: who gains where. */
function Overview({ comparisons }: { comparisons: Comparison[] }): JSX.Element {
  const rows = across(comparisons);
  const [sort, setSort] = useState<Sort>({ id: "name", descending: false });
  const columns: Column<Across>[] = [
    { id: "name", header: "Class", cell: (row) => row.name, value: (row) => row.name },
    ...comparisons.map(
      (one, i): Column<Across> => ({
        id: `c${i}`,
        header: `Δ ${one.label}`,
        help: `Against ${one.baseline_label}. Bold: clear after the correction.`,
        align: "right",
        cell: (row) => <Delta part={row.parts[i]} />,
        value: (row) => row.parts[i]?.mean ?? null,
      }),
    ),
  ];
  return <Section title="Classes by method" columns={columns} rows={sorted(rows, columns, sort)} rowKey={(row) => row.name} sort={sort} onSort={setSort} />;
}

function One({ comparison }: { comparison: Comparison }): JSX.Element {
  const { classes, sizes } = comparison;
  const [sort, setSort] = useState<Sort>({ id: "mean", descending: true });
  const columns = columnsOf("Class", classes, comparison.teacher_label !== null);
  const gains = classes.filter((part) => part.verdict === "better").length;
  const losses = classes.filter((part) => part.verdict === "worse").length;
  return (
    <section aria-label={comparison.label}>
      <Title order={2} size="h3" mb="xs">
        {comparison.label} against {comparison.baseline_label}
      </Title>
      <Text mb="md">
        {classes.some((part) => part.verdict !== "not enough seeds")
          ? `Of ${plural(classes.length, "class", "classes")} ${gains} clearly ${gains === 1 ? "gains" : "gain"} and ${losses} clearly ${losses === 1 ? "loses" : "lose"}.`
          : "Not enough seeds to tell which classes gain: at least 3 are needed."}
      </Text>
      <Stack>
        {sizes.length > 0 && <Section title="Sizes of objects" columns={columnsOf("Size", sizes, comparison.teacher_label !== null)} rows={sizes} rowKey={(part) => part.name} />}
        {classes.length > 0 && <Section title="Classes" columns={columns} rows={sorted(classes, columns, sort)} rowKey={(part) => part.name} sort={sort} onSort={setSort} />}
      </Stack>
    </section>
  );
}

interface SectionProps<Row> {
  title: string;
  columns: Column<Row>[];
  rows: readonly Row[];
  rowKey: (row: Row) => string;
  sort?: Sort;
  onSort?: (sort: Sort) => void;
}

function Section<Row>({ title, columns, rows, rowKey, sort, onSort }: SectionProps<Row>): JSX.Element {
  return (
    <section>
      <div style={{ display: "flex", justifyContent: "space-between", alignItems: "center", marginBottom: 8 }}>
        <Title order={3} size="h4">
          {title}
        </Title>
        <ExportMenu name={title.toLowerCase()} columns={columns} rows={rows} />
      </div>
      <DataTable caption={title} rows={rows} columns={columns} rowKey={rowKey} sort={sort} {...(onSort === undefined ? {} : { onSort })} />
    </section>
  );
}

function columnsOf(kind: string, parts: Part[], taught: boolean): Column<Part>[] {
  const within = range(parts.map((part) => ({ ...part, label: part.name })));
  return [
    { id: "name", header: kind, cell: (part) => part.name, value: (part) => part.name },
    { id: "baseline", header: "Baseline", align: "right", cell: (part) => number(part.baseline), value: (part) => part.baseline },
    { id: "distilled", header: "Distilled", align: "right", cell: (part) => number(part.distilled), value: (part) => part.distilled },
    ...(taught ? [{ id: "teacher", header: "Teacher", align: "right", cell: (part: Part) => number(part.teacher), value: (part: Part) => part.teacher } as const] : []),
    { id: "mean", header: "Δ AP", help: "Distilled minus baseline; over paired seeds where there are at least 3.", align: "right", cell: (part) => <Delta part={part} />, value: (part) => part.mean },
    { id: "interval", header: "95 % interval", help: "Of this single difference, over seeds.", cell: (part) => interval(part.low, part.high), value: (part) => interval(part.low, part.high) },
    { id: "forest", header: "worse ← 0 → better", cell: (part) => <Forest row={{ ...part, label: part.name }} within={within} filled={clear(part)} /> },
    { id: "p", header: "p", help: "Two-sided; from three rows on after Holm's correction.", align: "right", cell: (part) => probability(part.p_adjusted ?? part.p), value: (part) => part.p_adjusted ?? part.p },
    { id: "verdict", header: "Verdict", cell: (part) => part.verdict, value: (part) => part.verdict },
  ];
}

function Delta({ part }: { part: Part | undefined }): JSX.Element {
  if (part === undefined) return <>{number(null)}</>;
  const text = signed(part.mean);
  return clear(part) ? <b className={part.verdict === "better" ? "gain" : "loss"}>{text}</b> : <>{text}</>;
}
