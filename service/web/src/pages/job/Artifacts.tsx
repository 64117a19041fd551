import { Anchor } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import type { JSX } from "react";

import { api, body, type Schemas } from "@/api/client";
import { type Column, DataTable } from "@/components/DataTable";
import { Empty, Loaded } from "@/components/States";
import { ago, bytes, integer } from "@/lib/format";

import type { Job } from "./job";

type Artifact = Schemas["ArtifactOut"];

const COLUMNS: Column<Artifact>[] = [
  {
    id: "name",
    header: "File",
    cell: (file) => (
      <Anchor size="sm" href={`/api/v1/artifacts/${encodeURIComponent(file.id)}/content`} download={file.name}>
        {file.name}
      </Anchor>
    ),
    value: (file) => file.name,
  },
  { id: "type", header: "Kind", cell: (file) => file.type, value: (file) => file.type },
  { id: "step", header: "Step", align: "right", cell: (file) => integer(file.step), value: (file) => file.step },
  { id: "size", header: "Size", align: "right", cell: (file) => bytes(file.size), value: (file) => file.size },
  { id: "hash", header: "SHA-256", cell: (file) => <code title={file.sha256}>{file.sha256.slice(0, 12)}</code>, value: (file) => file.sha256 },
  { id: "created", header: "Stored", align: "right", cell: (file) => ago(file.created_at), value: (file) => file.created_at },
];

export function Artifacts({ job }: { job: Job }): JSX.Element {
  const files = useQuery({
    queryKey: ["job", job.id, "artifacts"],
    queryFn: ({ signal }) => body(api.GET("/api/v1/jobs/{job_id}/artifacts", { params: { path: { job_id: job.id } }, signal })),
  });
  return (
    <Loaded query={files} height={240}>
      {(data) =>
        data.items.length === 0 ? (
          <Empty title="No files yet">Checkpoints come while it trains, the student&apos;s weights at the end.</Empty>
        ) : (
          <DataTable caption="Files" rows={data.items} columns={COLUMNS} rowKey={(file) => file.id} />
        )
      }
    </Loaded>
  );
}
