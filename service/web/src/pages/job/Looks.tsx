import { useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import type { JSX } from "react";

import { Empty } from "@/components/States";
import { Images } from "@/images/Images";

import { type Job, jobQuery } from "./job";

const route = getRouteApi("/jobs/$id");

/** What this run sees, beside its teacher where that is a job. */
export function Looks({ job }: { job: Job }): JSX.Element {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const teacher = useQuery({ ...jobQuery(job.teacher_job_id ?? ""), enabled: job.teacher_job_id !== null });
  if (job.state !== "succeeded") return <Empty title="No images yet">They come with the result, when the job has ended.</Empty>;
  return (
    <Images
      cast={{ student: { id: job.id, name: job.name }, teacher: teacher.data === undefined ? null : { id: teacher.data.id, name: teacher.data.name }, baseline: null }}
      search={search}
      go={(change) => void navigate({ search: (before) => ({ ...before, ...change }), replace: "image" in change && change.queue === undefined })}
    />
  );
}
