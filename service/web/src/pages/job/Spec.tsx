import { Code, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { JSX } from "react";

import { YamlFile } from "@/components/YamlFile";
import { differing } from "@/pages/compare/specs";

import { type Job, jobQuery } from "./job";

/** The whole spec with every default filled in, and what differs from the job that it was made from. */
export function Spec({ job }: { job: Job }): JSX.Element {
  const parent = useQuery({ ...jobQuery(job.parent_id ?? ""), enabled: job.parent_id !== null });
  const changes = parent.data === undefined ? [] : differing([parent.data.spec, job.spec]);
  return (
    <Stack>
      {job.parent_id !== null && (
        <section>
          <Text size="sm">
            {job.origin === "retry" ? "Takes up the work of " : "Made from "}
            <Link to="/jobs/$id" params={{ id: job.parent_id }}>
              {parent.data?.name ?? job.parent_id}
            </Link>
            {parent.data === undefined ? "" : changes.length === 0 ? ", unchanged." : ":"}
          </Text>
          {changes.map((change) => (
            <Text size="sm" key={change.path}>
              <Code>{change.path}</Code> {change.values[0]} → {change.values[1]}
            </Text>
          ))}
        </section>
      )}
      <YamlFile value={job.spec} name={job.name} command="bcd submit" />
    </Stack>
  );
}
