import { Button, Code, CopyButton, Group, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type JSX, useMemo } from "react";

import { Loading } from "@/components/States";
import { download } from "@/lib/download";
import { differing } from "@/pages/compare/specs";

import { type Job, jobQuery } from "./job";

/** The whole spec with every default filled in, and what differs from the job that it was made from. */
export function Spec({ job }: { job: Job }): JSX.Element {
  // The writer of YAML is large: it comes when somebody looks at a spec.
  const yaml = useQuery({ queryKey: ["yaml"], queryFn: () => import("yaml"), staleTime: Infinity, gcTime: Infinity });
  const parent = useQuery({ ...jobQuery(job.parent_id ?? ""), enabled: job.parent_id !== null });
  const text = useMemo(() => yaml.data?.stringify(job.spec) ?? null, [yaml.data, job.spec]);
  if (text === null) return <Loading height={400} label="Loading the spec" />;
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
      <Group gap="xs">
        <CopyButton value={text}>
          {({ copied, copy }) => (
            <Button variant="default" size="compact-sm" onClick={copy}>
              {copied ? "Copied" : "Copy"}
            </Button>
          )}
        </CopyButton>
        <Button variant="default" size="compact-sm" onClick={() => download(`${job.name.replaceAll(/[^\w.-]+/g, "-")}.yaml`, text)}>
          Save as a file for bcd submit
        </Button>
      </Group>
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls */}
      <pre tabIndex={0} aria-label="Spec" role="region" className="table-frame" style={{ margin: 0, padding: 12, maxHeight: "65vh", fontSize: 13 }}>
        {text}
      </pre>
    </Stack>
  );
}
