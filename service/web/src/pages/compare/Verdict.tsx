import { Alert, List, Popover, Stack, Text, Title, UnstyledButton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { JSX } from "react";

import { api, body, type Schemas } from "@/api/client";
import { Forest, range } from "@/charts/Forest";
import { type Column, DataTable } from "@/components/DataTable";
import { ExportMenu } from "@/components/ExportMenu";
import { Empty, Loaded } from "@/components/States";
import { DASH, interval, meanStd, number, percent, plural, probability, signed } from "@/lib/format";

type Group = Schemas["GroupOut"];
type Comparison = Schemas["ComparisonOut"];
const OTHERS = ["AP50", "AP75", "APs", "APm", "APl"] as const;
const HELP = { AP50: "At an overlap of 0.5.", AP75: "At an overlap of 0.75.", APs: "Of small objects (below 32² pixels).", APm: "Of medium objects.", APl: "Of large objects (96² pixels and more)." };

const GROUPS: Column<Group>[] = [
  { id: "label", header: "Runs", cell: (group) => group.label, value: (group) => group.label, width: 360 },
  { id: "role", header: "Role", cell: (group) => group.role, value: (group) => group.role },
  { id: "n", header: "Seeds", align: "right", cell: (group) => group.n, value: (group) => group.n },
  { id: "AP", header: "AP", help: "Mean ± sample standard deviation over seeds, of each run's final evaluation, in points.", align: "right", cell: (group) => meanStd(group.mean, group.std), value: (group) => group.mean },
  { id: "within", header: "95 % interval of the mean", help: "Student's t over seeds; not given below 3.", cell: (group) => (group.low === null || group.high === null ? DASH : `${number(group.low)} to ${number(group.high)}`), value: (group) => (group.low === null || group.high === null ? null : `${number(group.low)} to ${number(group.high)}`) },
  ...OTHERS.map(
    (key): Column<Group> => ({ id: key, header: key, help: HELP[key], align: "right", cell: (group) => number(mean(group, key)), value: (group) => mean(group, key) }),
  ),
];

const COMPARISONS: Column<Comparison>[] = [
  { id: "label", header: "Distilled", cell: (one) => one.label, value: (one) => one.label, width: 320 },
  { id: "baseline", header: "Against", cell: (one) => one.baseline_label, value: (one) => one.baseline_label, width: 320 },
  { id: "verdict", header: "Verdict", cell: (one) => <Text size="sm" fw={600} span>{one.verdict}</Text>, value: (one) => one.verdict },
  { id: "mean", header: "Δ AP", help: "Distilled minus baseline, in AP points.", align: "right", cell: (one) => <span className={(one.low ?? 0) > 0 ? "gain" : (one.high ?? 0) < 0 ? "loss" : ""}>{signed(one.mean)}</span>, value: (one) => one.mean },
  { id: "interval", header: "95 % interval", help: "Of the mean difference: Student's t over paired seeds, Welch's t where seeds do not match. Not given below 3 seeds.", cell: (one) => interval(one.low, one.high), value: (one) => interval(one.low, one.high) },
  { id: "p", header: "p", help: "Two-sided, of the same t test. From three comparisons on after Holm's correction, and the verdict follows it.", align: "right", cell: (one) => probability(one.p_adjusted ?? one.p), value: (one) => one.p_adjusted ?? one.p },
  { id: "pairs", header: "Seeds", align: "right", cell: (one) => `${one.n}${one.paired ? " paired" : ""}`, value: (one) => one.n },
  { id: "gap", header: "Gap closed", help: "(distilled − baseline) / (teacher − baseline): 100 % is as good as the teacher. In brackets its 95 % interval by resampling seeds.", align: "right", cell: (one) => (one.gap_closed === null ? <Why text={one.gap_reason} /> : gap(one)), value: (one) => one.gap_closed },
];

/** Which method is better than its baseline, by how much, and is it more than seed noise? */
export function Verdict({ runs }: { runs: string[] }): JSX.Element {
  const query = useQuery({
    queryKey: ["compare", runs],
    queryFn: ({ signal }) => body(api.GET("/api/v1/compare", { params: { query: { ids: runs.join(",") } }, signal })),
  });
  return (
    <Loaded query={query} height={320}>
      {(answer) => {
        const columns: Column<Comparison>[] = [
          ...COMPARISONS.slice(0, 5),
          { id: "forest", header: "worse ← 0 → better", cell: (one) => <Forest row={one} within={range(answer.comparisons)} /> },
          ...COMPARISONS.slice(5),
        ];
        return (
          <Stack>
            {answer.warnings.length > 0 && (
              <Alert variant="default" title="What to know before reading on" icon={<span aria-hidden>⚠</span>}>
                <List size="sm">
                  {answer.warnings.map((warning) => (
                    <List.Item key={warning}>{warning}</List.Item>
                  ))}
                </List>
              </Alert>
            )}
            {answer.comparisons.map((one) => (
              <Text key={one.label + one.baseline_label}>{one.sentence}</Text>
            ))}
            {answer.comparisons.length > 0 && (
              <section>
                <Head id="differences" title="Differences" menu={<ExportMenu name="comparison" columns={COMPARISONS} rows={answer.comparisons} />} />
                <DataTable caption="Differences" rows={answer.comparisons} columns={columns} rowKey={(one) => one.label + one.baseline_label} />
              </section>
            )}
            {answer.groups.length === 0 ? (
              <Empty title="None of these runs has a result yet">They appear here when they have ended.</Empty>
            ) : (
              <section>
                <Head id="groups" title="Groups over seeds" menu={<ExportMenu name="groups" columns={GROUPS} rows={answer.groups} />} />
                <DataTable caption="Groups over seeds" rows={answer.groups} columns={GROUPS} rowKey={(group) => group.label + group.role} />
              </section>
            )}
            <section>
              <Title order={2} size="h3" id="runs" mb="xs">
                Runs
              </Title>
              {answer.groups.map((group) => (
                <Text size="sm" key={group.label + group.role}>
                  {group.label} ({plural(group.jobs.length, "run")}):{" "}
                  {group.jobs.map((job, i) => (
                    <span key={job.id}>
                      {i > 0 && ", "}
                      <Link to="/jobs/$id" params={{ id: job.id }}>
                        seed {job.seed}: {number(job.AP)}
                      </Link>
                    </span>
                  ))}
                </Text>
              ))}
            </section>
          </Stack>
        );
      }}
    </Loaded>
  );
}

function Head({ id, title, menu }: { id: string; title: string; menu: JSX.Element }): JSX.Element {
  return (
    <div style={{ display: "flex", justifyContent: "space-between", alignItems: "center", marginBottom: 8 }}>
      <Title order={2} size="h3" id={id}>
        {title}
      </Title>
      {menu}
    </div>
  );
}

/** A dash, and on demand why there is nothing to say. */
function Why({ text }: { text: string | null }): JSX.Element {
  if (text === null) return <>{DASH}</>;
  return (
    <Popover width={320} withArrow>
      <Popover.Target>
        <UnstyledButton style={{ minWidth: 24, minHeight: 24, textDecoration: "underline dotted" }} aria-label={`Not given: ${text}`}>
          {DASH}
        </UnstyledButton>
      </Popover.Target>
      <Popover.Dropdown>
        <Text size="sm" style={{ whiteSpace: "normal" }}>
          {text}
        </Text>
      </Popover.Dropdown>
    </Popover>
  );
}

function gap(one: Comparison): string {
  const within = one.gap_low === null || one.gap_high === null ? "" : ` [${percent(one.gap_low)}, ${percent(one.gap_high)}]`;
  return percent(one.gap_closed) + within;
}

function mean(group: Group, key: (typeof OTHERS)[number]): number | null {
  const values = group.jobs.map((job) => job[key]).filter((value): value is number => value !== null);
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
}
