import { Anchor, Text } from "@mantine/core";
import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type JSX, useCallback, useMemo } from "react";

import { api, body, type Schemas } from "@/api/client";
import { useLive } from "@/api/live";
import { type Column, DataTable } from "@/components/DataTable";
import { ExportMenu } from "@/components/ExportMenu";
import { Page as Frame } from "@/components/Page";
import { StateBadge } from "@/components/StateBadge";
import { Empty, Loaded } from "@/components/States";
import { ago, duration, integer } from "@/lib/format";
import { how, progress } from "@/pages/sweep/sweep";

type Sweep = Schemas["SweepOut"];

const COLUMNS: Column<Sweep>[] = [
  { id: "state", header: "State", cell: (sweep) => <StateBadge state={sweep.state} />, value: (sweep) => sweep.state },
  {
    id: "name",
    header: "Name",
    width: 320,
    cell: (sweep) => (
      <Anchor component={Link} to={`/sweeps/${sweep.id}`} size="sm">
        {sweep.name}
      </Anchor>
    ),
    value: (sweep) => sweep.name,
  },
  { id: "how", header: "Search", cell: how, value: how },
  { id: "objectives", header: "Objective", cell: (sweep) => sweep.objectives.join(", "), value: (sweep) => sweep.objectives.join(", ") },
  { id: "jobs", header: "Jobs", help: "That have ended, of those that there are. A sweep makes more as it goes on.", align: "right", cell: progress, value: progress },
  { id: "failed", header: "Failed", align: "right", cell: (sweep) => integer(sweep.jobs["failed"] ?? 0), value: (sweep) => sweep.jobs["failed"] ?? 0 },
  { id: "searched", header: "Searched for", align: "right", cell: (sweep) => duration(sweep.searched_seconds), value: (sweep) => sweep.searched_seconds },
  { id: "created", header: "Submitted", align: "right", cell: (sweep) => ago(sweep.created_at), value: (sweep) => sweep.created_at },
  { id: "why", header: "Why", cell: (sweep) => <Text size="sm" truncate maw={420} title={sweep.cause ?? ""}>{sweep.cause}</Text>, value: (sweep) => sweep.cause },
];

export default function Page(): JSX.Element {
  const client = useQueryClient();
  const sweeps = useInfiniteQuery({
    queryKey: ["sweeps"],
    queryFn: ({ pageParam, signal }) => body(api.GET("/api/v1/sweeps", { params: { query: { limit: 200, ...(pageParam === null ? {} : { cursor: pageParam }) } }, signal })),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor,
  });
  useLive(["sweep.state", "job.state"], () => void client.invalidateQueries({ queryKey: ["sweeps"] }));
  const rows = useMemo(() => sweeps.data?.pages.flatMap((page) => page.items) ?? [], [sweeps.data]);
  const { hasNextPage, isFetchingNextPage, fetchNextPage } = sweeps;
  const more = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);
  return (
    <Frame title="Sweeps" name="Sweeps" actions={<ExportMenu name="sweeps" columns={COLUMNS} rows={rows} />}>
      <Loaded query={sweeps} height={320}>
        {() =>
          rows.length === 0 ? (
            <Empty title="No sweeps yet">
              A sweep searches for the best settings of a job. Submit one with <code>bcd sweep submit FILE</code>; ready-made ones are in <code>recipes/sweeps/</code>.
            </Empty>
          ) : (
            <DataTable caption="Sweeps" rows={rows} columns={COLUMNS} rowKey={(sweep) => sweep.id} onEnd={more} />
          )
        }
      </Loaded>
    </Frame>
  );
}
