import { NativeSelect, Stack } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import type { JSX } from "react";

import { api, body } from "@/api/client";
import { Empty, Loaded } from "@/components/States";
import { Images } from "@/images/Images";

import { casts } from "./casts";

const route = getRouteApi("/compare");

/** On which images do teacher, student and baseline differ? */
export function Looks({ runs }: { runs: string[] }): JSX.Element {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const query = useQuery({
    queryKey: ["compare", runs],
    queryFn: ({ signal }) => body(api.GET("/api/v1/compare", { params: { query: { ids: runs.join(",") } }, signal })),
  });
  return (
    <Loaded query={query} height={400}>
      {(answer) => {
        const all = casts(answer);
        const cast = all.find((one) => one.student.id === search.student) ?? all[0];
        if (cast === undefined) return <Empty title="None of these runs has a result yet">Their detections can be looked at when they have ended.</Empty>;
        return (
          <Stack>
            <NativeSelect
              label="Student"
              maw={480}
              data={all.map((one) => ({ value: one.student.id, label: one.student.name }))}
              value={cast.student.id}
              onChange={(event) => {
                const value = event.currentTarget.value;
                void navigate({ search: (before) => ({ ...before, student: value === all[0]?.student.id ? undefined : value, image: undefined }) });
              }}
            />
            <Images cast={cast} search={search} go={(change) => void navigate({ search: (before) => ({ ...before, ...change }), replace: "image" in change && change.queue === undefined })} />
          </Stack>
        );
      }}
    </Loaded>
  );
}
