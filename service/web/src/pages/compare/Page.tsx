import { Anchor, Tabs, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { type JSX, useMemo } from "react";

import { api, body } from "@/api/client";
import { Page as Frame } from "@/components/Page";
import { Share } from "@/components/Share";
import { Empty, Loaded } from "@/components/States";
import { plural } from "@/lib/format";

import { Classes } from "./Classes";
import { Costs } from "./Costs";
import { Curves } from "./Curves";
import { Looks } from "./Looks";
import { TABS } from "./search";
import { Specs } from "./Specs";
import { Verdict } from "./Verdict";

const route = getRouteApi("/compare");
const MOST = 100;
const LABELS = { verdict: "Verdict", classes: "Classes and sizes", costs: "Cost", images: "Images", curves: "Curves", specs: "Specs" } as const;

export default function Page(): JSX.Element {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const wanted = useMemo(() => search.runs ?? [], [search.runs]);
  const filter = search.group === undefined ? null : `group=${JSON.stringify(search.group)}`;
  const members = useQuery({
    queryKey: ["compare", "members", filter, wanted],
    queryFn: async ({ signal }) => {
      const query = filter === null ? { filter: `id:${wanted.slice(0, MOST).join(",")}`, limit: 200 } : { filter, limit: MOST };
      return (await body(api.GET("/api/v1/jobs", { params: { query }, signal }))).items;
    },
    enabled: filter !== null || wanted.length > 0,
  });
  const known = useMemo(
    () => new Map((members.data ?? []).map((job) => [job.id, { id: job.id, name: `${job.name} (seed ${job.seed})`, method: job.methods[0] ?? "baseline" }])),
    [members.data],
  );
  const runs = useMemo(() => (filter === null ? wanted.slice(0, MOST) : [...known.keys()]), [filter, wanted, known]);
  const tab = search.tab ?? "verdict";
  const title = search.group === undefined ? "Compare" : `Compare ${search.group}`;
  if (filter === null && wanted.length === 0)
    return (
      <Frame title="Compare" name="Compare">
        <Empty title="No runs are chosen">
          Choose runs in the <Anchor component={Link} to="/jobs">list of jobs</Anchor> and press Compare. A distilled student is compared with the same student trained on labels alone, over the same seeds.
        </Empty>
      </Frame>
    );
  return (
    <Frame
      title={title}
      name={title}
      actions={
        <Share name={title} />
      }
    >
      <Loaded query={members} height={300}>
        {(jobs) => (
          <>
            <Text size="sm" c="dimmed">
              {plural(runs.length, "run")}
              {wanted.length > MOST ? ` (the first ${MOST} of ${wanted.length})` : ""}
              {jobs.length < runs.length ? `; ${plural(runs.length - jobs.length, "run")} of them cannot be found` : ""}
            </Text>
            {runs.length === 0 ? (
              <Empty title="This group has no runs">It may have been renamed.</Empty>
            ) : (
              <Tabs value={tab} onChange={(value) => void navigate({ search: (before) => ({ ...before, tab: value === "verdict" ? undefined : TABS.find((one) => one === value) }) })} keepMounted={false}>
                <Tabs.List mb="md">
                  {Object.entries(LABELS).map(([value, label]) => (
                    <Tabs.Tab key={value} value={value}>
                      {label}
                    </Tabs.Tab>
                  ))}
                </Tabs.List>
                <Tabs.Panel value="verdict">
                  <Verdict runs={runs} />
                </Tabs.Panel>
                <Tabs.Panel value="classes">
                  <Classes runs={runs} />
                </Tabs.Panel>
                <Tabs.Panel value="costs">
                  <Costs runs={runs} />
                </Tabs.Panel>
                <Tabs.Panel value="images">
                  <Looks runs={runs} />
                </Tabs.Panel>
                <Tabs.Panel value="curves">
                  <Curves runs={runs} known={known} />
                </Tabs.Panel>
                <Tabs.Panel value="specs">
                  <Specs runs={runs} />
                </Tabs.Panel>
              </Tabs>
            )}
          </>
        )}
      </Loaded>
    </Frame>
  );
}
