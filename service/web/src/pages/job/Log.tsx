import { Button, Group, Select, Switch, Text, TextInput } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import { useVirtualizer } from "@tanstack/react-virtual";
import { getRouteApi } from "@tanstack/react-router";
import { type JSX, useEffect, useMemo, useRef, useState } from "react";

import { api, body } from "@/api/client";
import { Empty, Loaded } from "@/components/States";
import { integer } from "@/lib/format";

import type { Job } from "./job";
import { type JobSearch, LEVELS } from "./search";

const route = getRouteApi("/jobs/$id");
const LINES = 1000;
const LOOK_EVERY = 2_000;
const ENDED = new Set(["succeeded", "failed", "cancelled"]);

/** The run's log: from its end, followed while it runs, searched by the service. */
export function Log({ job }: { job: Job }): JSX.Element {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const [follow, setFollow] = useState(true);
  const [draft, setDraft] = useState(search.q ?? "");
  const wanted = { q: search.q, level: search.level, attempt: search.attempt };
  const log = useInfiniteQuery({
    queryKey: ["job", job.id, "logs", wanted],
    queryFn: ({ pageParam, signal }) => {
      const query = { ...given(wanted), ...(pageParam === null ? { tail: LINES } : pageParam > 0 ? { after: pageParam, limit: LINES } : { before: -pageParam, limit: LINES }) };
      return body(api.GET("/api/v1/jobs/{job_id}/logs", { params: { path: { job_id: job.id }, query }, signal }));
    },
    initialPageParam: null as number | null,
    // Positive: lines behind this one; negative: lines before.
    getNextPageParam: (page) => page.next,
    getPreviousPageParam: (page) => (page.previous === null || page.lines.length === 0 ? null : -page.previous),
    refetchOnWindowFocus: false,
    staleTime: Infinity,
  });
  const { fetchNextPage, isFetchingNextPage, isSuccess } = log;
  const live = follow && !ENDED.has(job.state);
  useEffect(() => {
    if (!live || !isSuccess) return undefined;
    const timer = setInterval(() => {
      if (!document.hidden && !isFetchingNextPage) void fetchNextPage();
    }, LOOK_EVERY);
    return () => clearInterval(timer);
  }, [live, isSuccess, isFetchingNextPage, fetchNextPage]);
  const lines = useMemo(() => log.data?.pages.flatMap((page) => page.lines) ?? [], [log.data]);
  const frame = useRef<HTMLDivElement>(null);
  // eslint-disable-next-line react-hooks/incompatible-library -- its functions are used in this render only
  const rolls = useVirtualizer({ count: lines.length, getScrollElement: () => frame.current, estimateSize: () => 20, overscan: 30 });
  const count = lines.length;
  useEffect(() => {
    if (follow && count > 0) rolls.scrollToIndex(count - 1);
    // eslint-disable-next-line react-hooks/exhaustive-deps -- `rolls` is another object in every render
  }, [follow, count]);
  return (
    <>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void navigate({ search: (before) => ({ ...before, tab: "log", q: draft.trim() || undefined }) });
        }}
      >
        <Group align="flex-end" gap="sm" mb="sm">
          <TextInput label="Search" value={draft} onChange={(event) => setDraft(event.currentTarget.value)} />
          <Button type="submit" variant="default">
            Search
          </Button>
          <Select label="Level" placeholder="all" clearable data={LEVELS} value={search.level ?? null} onChange={(value) => void navigate({ search: (before) => ({ ...before, tab: "log", level: LEVELS.find((one) => one === value) }) })} clearButtonProps={{ "aria-label": "All levels" }} />
          {job.attempts.length > 1 && (
            <Select label="Attempt" placeholder="all" clearable data={job.attempts.map((one) => String(one.number))} value={search.attempt === undefined ? null : String(search.attempt)} onChange={(value) => void navigate({ search: (before) => ({ ...before, tab: "log", attempt: value === null ? undefined : Number(value) }) })} clearButtonProps={{ "aria-label": "All attempts" }} />
          )}
          <Switch label="Follow" checked={follow} onChange={(event) => setFollow(event.currentTarget.checked)} mb={8} />
        </Group>
      </form>
      <Loaded query={log} height={480}>
        {() =>
          lines.length === 0 ? (
            <Empty title={search.q === undefined && search.level === undefined ? "Nothing was logged yet" : "No line passes this search"} />
          ) : (
            <>
              <Group justify="space-between" mb={4}>
                <Text size="sm" c="dimmed">
                  {integer(lines.length)} lines
                </Text>
                {log.hasPreviousPage && (
                  <Button size="compact-sm" variant="default" loading={log.isFetchingPreviousPage} onClick={() => { setFollow(false); void log.fetchPreviousPage(); }}>
                    Earlier lines
                  </Button>
                )}
              </Group>
              {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls */}
              <div ref={frame} className="table-frame" role="log" aria-live="off" aria-label="Log" tabIndex={0} style={{ height: "60vh", fontFamily: "var(--mantine-font-family-monospace)", fontSize: 13 }}>
                <div style={{ height: rolls.getTotalSize(), position: "relative", minWidth: "max-content" }}>
                  {rolls.getVirtualItems().map((item) => {
                    const line = lines[item.index];
                    if (line === undefined) return null;
                    const loud = line.level === "error" || line.level === "warning";
                    return (
                      <div key={line.id} style={{ position: "absolute", top: 0, transform: `translateY(${item.start}px)`, height: 20, whiteSpace: "pre", padding: "0 8px", fontWeight: loud ? 650 : 400 }}>
                        {new Date(line.time * 1000).toLocaleTimeString("en-GB")} {loud ? `${line.level.toUpperCase()} ` : ""}
                        {line.text}
                      </div>
                    );
                  })}
                </div>
              </div>
            </>
          )
        }
      </Loaded>
    </>
  );
}

type Wanted = Pick<JobSearch, "q" | "level" | "attempt">;

/** What is searched for, without what is not: `undefined` would be sent as a word. */
function given({ q, level, attempt }: Wanted): Wanted {
  return { ...(q === undefined ? {} : { q }), ...(level === undefined ? {} : { level }), ...(attempt === undefined ? {} : { attempt }) };
}
