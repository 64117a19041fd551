import { Anchor, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { JSX } from "react";

import { api, body, type Schemas } from "@/api/client";
import { type Column, DataTable } from "@/components/DataTable";
import { Section } from "@/components/Section";
import { Loaded } from "@/components/States";
import { compact, DASH, integer, meanStd, percent, plural, short, signed } from "@/lib/format";

type Board = Schemas["Board"];
type Row = Schemas["BoardRow"];

const SHOWN = 2; // boards; older ones are in Compare

const COLUMNS: Column<Row>[] = [
  {
    id: "label",
    header: "Runs",
    cell: (row) => (
      <Anchor component={Link} to={row.job_ids.length === 1 ? `/jobs/${row.job_ids[0] ?? ""}` : `/compare?runs=${row.job_ids.join(",")}`} size="sm">
        {row.label}
      </Anchor>
    ),
    width: 320,
  },
  { id: "role", header: "Role", cell: (row) => row.role },
  { id: "n", header: "Seeds", align: "right", cell: (row) => row.n },
  { id: "AP", header: "AP", help: "Mean ± sample standard deviation over seeds.", align: "right", cell: (row) => meanStd(row.mean, row.std) },
  { id: "difference", header: "Δ baseline", help: "Against the same student on labels alone.", align: "right", cell: (row) => signed(row.difference) },
  { id: "verdict", header: "Verdict", cell: (row) => row.verdict ?? "" },
  { id: "gap", header: "Gap closed", help: "100 %: as good as the teacher.", cell: (row) => (row.gap_closed === null ? DASH : <Gap share={row.gap_closed} label={row.label} />) },
  { id: "parameters", header: "Parameters", align: "right", cell: (row) => short(row.parameters) },
  { id: "latency", header: "ms an image", help: "On the device that is named when you point at it; compare within one only.", align: "right", cell: (row) => <span title={row.latencies.map((one) => one.device).join(", ")}>{compact(row.latencies[0]?.milliseconds)}</span> },
];

/** What is best so far? Of the newest finished runs, over seeds, one table for each protocol. */
export function Leaderboard(): JSX.Element {
  const query = useQuery({ queryKey: ["leaderboard"], queryFn: ({ signal }) => body(api.GET("/api/v1/leaderboard", { signal })), staleTime: 15_000 });
  return (
    <Loaded query={query} height={160}>
      {({ boards, runs }) =>
        boards.length === 0 ? null : (
          <Section title="Best so far">
            {boards.slice(0, SHOWN).map((board) => (
              <One key={board.protocol} board={board} />
            ))}
            <Text size="sm" c="dimmed">
              Of the newest {plural(runs, "finished run")}.{boards.length > SHOWN ? ` ${integer(boards.length - SHOWN)} more protocols are left out.` : ""}
            </Text>
          </Section>
        )
      }
    </Loaded>
  );
}

function One({ board }: { board: Board }): JSX.Element {
  const name = `${board.data}, protocol ${board.protocol.slice(0, 6)}`;
  return (
    <div style={{ marginBottom: 12 }}>
      <Text size="sm" mb={4}>
        {name}
        {board.groups > board.rows.length ? `: the best ${integer(board.rows.length)} of ${integer(board.groups)}` : ""}
      </Text>
      <DataTable caption={`Best so far: ${name}`} rows={board.rows} columns={COLUMNS} rowKey={(row) => row.label + row.role} />
    </div>
  );
}

const WIDTH = 90;

function Gap({ share, label }: { share: number; label: string }): JSX.Element {
  const width = WIDTH * Math.min(1, Math.max(0, share));
  return (
    <span style={{ display: "inline-flex", gap: 6, alignItems: "center" }}>
      <svg width={WIDTH} height={12} role="img" aria-label={`${label}: ${percent(share)} of the gap to the teacher`}>
        <rect x={0.5} y={0.5} width={WIDTH - 1} height={11} fill="none" stroke="var(--bcd-line)" />
        <rect x={0} y={0} width={width} height={12} fill="var(--bcd-gain)" fillOpacity={0.6} />
      </svg>
      {percent(share)}
    </span>
  );
}
