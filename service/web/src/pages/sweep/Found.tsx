import { Anchor, Group, Stack, Text, Title } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { JSX } from "react";

import { api, body, type Schemas } from "@/api/client";
import { Forest, range } from "@/charts/Forest";
import { ends } from "@/charts/Parallel";
import { Scatter } from "@/charts/Scatter";
import { type Column, DataTable } from "@/components/DataTable";
import { ExportMenu } from "@/components/ExportMenu";
import { Loaded } from "@/components/States";
import { compact, interval, number, plural, probability, signed } from "@/lib/format";

import { type Report, searched, spent, trialsQuery, wordText } from "./sweep";

type Ranked = Report["ranking"][number];
type Importance = Schemas["Importance"];

const nameOf = (one: Ranked): string => (one.number === 0 ? "default" : `#${String(one.number)}`);
const parameters = (one: Ranked): string => Object.entries(one.params).map(([path, word]) => `${path} = ${wordText(word)}`).join(", ");

/** The answer first: who won, by how much beyond noise; then how it got there, what mattered and what it cost. */
export function Found({ report }: { report: Report }): JSX.Element {
  return (
    <Stack gap="xl">
      <Stack gap={4}>
        <Text fw={600}>{report.sentence}</Text>
        <Text size="sm" c="dimmed">
          {spent(report)}
        </Text>
        {Object.entries(report.failures).map(([cause, count]) => (
          <Text size="sm" key={cause} c="var(--mantine-color-error)">
            {plural(count, "trial")} failed: {cause}
          </Text>
        ))}
      </Stack>
      {report.ranking.length > 0 && <Ranking report={report} />}
      {report.sweep.objectives.slice(1).map((_, i) => (
        <Front key={i} report={report} against={i + 1} />
      ))}
      <Progress report={report} />
      <Mattered report={report} />
    </Stack>
  );
}

function Ranking({ report }: { report: Report }): JSX.Element {
  const rows = report.ranking;
  const intervals = rows.map((one) => ({ label: nameOf(one), mean: one.difference, low: one.difference_low, high: one.difference_high }));
  const within = range(intervals);
  const columns: Column<Ranked>[] = [
    { id: "trial", header: "Trial", cell: nameOf, value: nameOf },
    { id: "mean", header: "Mean", align: "right", cell: (one) => number(one.mean, 2), value: (one) => one.mean },
    { id: "std", header: "Std", help: "Sample standard deviation over seeds (n - 1).", align: "right", cell: (one) => number(one.std, 2), value: (one) => one.std },
    { id: "n", header: "Seeds", align: "right", cell: (one) => String(one.n), value: (one) => one.n },
    { id: "search", header: "In the search", help: "On the search's one seed. It was chosen for this value, so the mean is usually lower.", align: "right", cell: (one) => number(one.search_value, 2), value: (one) => one.search_value },
    { id: "difference", header: "Δ default", help: "Against the base spec as it is, paired by seed.", align: "right", cell: (one) => signed(one.difference, 2), value: (one) => one.difference },
    { id: "interval", header: "95 % interval", cell: (one) => interval(one.difference_low, one.difference_high, 2), value: (one) => interval(one.difference_low, one.difference_high, 2) },
    { id: "forest", header: "worse ← 0 → better", cell: (one) => <Forest row={{ label: nameOf(one), mean: one.difference, low: one.difference_low, high: one.difference_high }} within={within} filled={one.verdict === "better" || one.verdict === "worse"} /> },
    { id: "p", header: "p", help: "Two-sided; from three trials on after Holm's correction.", align: "right", cell: (one) => probability(one.p_adjusted), value: (one) => one.p_adjusted },
    { id: "verdict", header: "Verdict", cell: (one) => one.verdict ?? "", value: (one) => one.verdict },
    { id: "params", header: "Parameters", cell: (one) => <Text size="sm" truncate maw={380} title={parameters(one)}>{parameters(one)}</Text>, value: parameters },
  ];
  return (
    <section aria-label="Best trials again on more seeds">
      <Group justify="space-between" mb="xs">
        <Title order={2} size="h3">
          Best trials again on more seeds
        </Title>
        <Group gap="xs">
          <Anchor component={Link} to={`/compare?group=${encodeURIComponent(report.sweep.group)}`} size="sm">
            Compare its jobs
          </Anchor>
          <ExportMenu name="ranking" columns={columns} rows={rows} />
        </Group>
      </Group>
      <DataTable caption="Best trials again on more seeds" rows={rows} columns={columns} rowKey={(one) => String(one.number)} />
    </section>
  );
}

function Progress({ report }: { report: Report }): JSX.Element | null {
  const points = report.best_so_far;
  if (points.length === 0) return null;
  const values = points.map((point) => point.value);
  const x = (i: number): number => (points.length === 1 ? 0.5 : i / (points.length - 1));
  const metric = report.sweep.objectives[0] ?? "value";
  return (
    <section aria-label="Best so far">
      <Title order={2} size="h3" mb="xs">
        Best so far
      </Title>
      <Scatter
        title="Best so far"
        xLabel="trials that ran to their end, in the order in which they ended"
        yLabel={metric}
        xTicks={[
          { at: x(0), text: "1" },
          { at: x(points.length - 1), text: String(points.length) },
        ]}
        range={[Math.min(...values), Math.max(...values)]}
        dots={points.map((point, i) => ({ id: String(point.number), label: `#${String(point.number)}: ${metric} ${number(point.value, 2)}`, x: x(i), y: point.value, filled: true }))}
        steps={points.map((point, i) => ({ x: x(i), y: point.best }))}
      />
    </section>
  );
}

/** The first objective against another one; the trials that none beats in one without losing in another stand out. */
function Front({ report, against }: { report: Report; against: number }): JSX.Element {
  const query = useQuery(trialsQuery(report.sweep.id));
  const [first, other] = [report.sweep.objectives[0] ?? "", report.sweep.objectives[against] ?? ""];
  return (
    <section aria-label={`${first} against ${other}`}>
      <Title order={2} size="h3" mb="xs">
        {first} against {other}
      </Title>
      <Loaded query={query} height={220}>
        {(found) => {
          const points = searched(found.items).flatMap((trial) => {
            const [y, x] = [trial.values?.[0], trial.values?.[against]];
            return y == null || x == null ? [] : [{ number: trial.number, x, y }];
          });
          if (points.length === 0) return <Text c="dimmed">No trial has run to its end yet.</Text>;
          const [low, high] = [Math.min(...points.map((point) => point.x)), Math.max(...points.map((point) => point.x))];
          return (
            <>
              <Scatter
                title={`${first} against ${other}`}
                xLabel={other}
                yLabel={first}
                xTicks={ends(low, high)}
                range={[Math.min(...points.map((point) => point.y)), Math.max(...points.map((point) => point.y))]}
                dots={points.map((point) => ({ id: String(point.number), label: `#${String(point.number)}: ${first} ${number(point.y, 2)}, ${other} ${compact(point.x)}`, x: high > low ? (point.x - low) / (high - low) : 0.5, y: point.y, filled: report.front.includes(point.number), mark: report.front.includes(point.number) }))}
              />
              <Text size="sm" c="dimmed">
                Filled: the Pareto front ({report.front.map((one) => `#${String(one)}`).join(", ")}); no other trial is better in one objective without being worse in another.
              </Text>
            </>
          );
        }}
      </Loaded>
    </section>
  );
}

function Mattered({ report }: { report: Report }): JSX.Element {
  // Asked for again when another trial has run to its end: it takes the service a second.
  const id = report.sweep.id;
  const query = useQuery({
    queryKey: ["importance", id, report.best.length],
    queryFn: ({ signal }) => body(api.GET("/api/v1/sweeps/{sweep_id}/importance", { params: { path: { sweep_id: id } }, signal })),
    placeholderData: keepPreviousData,
    staleTime: Infinity,
  });
  const columns: Column<Importance>[] = [
    { id: "path", header: "Parameter", cell: (one) => one.path, value: (one) => one.path },
    { id: "value", header: "Importance", help: "Share of what separates good trials from others (PED-ANOVA); all together 1.", align: "right", cell: (one) => number(one.value, 2), value: (one) => one.value },
    { id: "interval", header: "95 % interval", help: "Over resampled trials. Wide: too few trials to tell.", cell: (one) => (one.low === null || one.high === null ? "" : `${number(one.low, 2)} to ${number(one.high, 2)}`), value: (one) => (one.low === null || one.high === null ? "" : `${number(one.low, 2)} to ${number(one.high, 2)}`) },
    { id: "bar", header: "0 to 1", cell: (one) => <Bar one={one} /> },
  ];
  return (
    <section aria-label="Which parameters matter">
      <Title order={2} size="h3" mb="xs">
        Which parameters matter
      </Title>
      <Loaded query={query} height={80}>
        {(found) =>
          found.items.length === 0 ? (
            <Text c="dimmed">Not known yet: {found.note}.</Text>
          ) : (
            <DataTable caption="Which parameters matter" rows={found.items} columns={columns} rowKey={(one) => one.path} />
          )
        }
      </Loaded>
    </section>
  );
}

const WIDTH = 240;

function Bar({ one }: { one: Importance }): JSX.Element {
  return (
    <svg width={WIDTH} height={22} role="img" aria-label={`${one.path}: ${number(one.value, 2)}`}>
      <rect x={0} y={5} width={WIDTH * one.value} height={12} fill="var(--bcd-gain)" fillOpacity={0.55} />
      {one.low !== null && one.high !== null && <line x1={WIDTH * one.low} x2={WIDTH * one.high} y1={11} y2={11} stroke="currentColor" strokeWidth={2} />}
    </svg>
  );
}
