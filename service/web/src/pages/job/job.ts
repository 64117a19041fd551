import { queryOptions } from "@tanstack/react-query";

import { api, body, type Schemas } from "@/api/client";

export type Job = Schemas["JobOut"];

export function jobQuery(id: string) {
  return queryOptions({
    queryKey: ["job", id],
    queryFn: ({ signal }) => body(api.GET("/api/v1/jobs/{job_id}", { params: { path: { job_id: id } }, signal })),
  });
}

/** A number of the final evaluation, null where there is none. */
export function result(job: Job | undefined, key: string): number | null {
  const value = job?.evaluation?.[key];
  return typeof value === "number" ? value : null;
}
