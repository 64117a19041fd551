import { Button, CopyButton, Group, Stack } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { type JSX, useMemo } from "react";

import { Loading } from "@/components/States";
import { download } from "@/lib/download";

import type { Sweep } from "./sweep";

/** The whole sweep spec, as a file that can be submitted again. */
export function SpecTab({ sweep }: { sweep: Sweep }): JSX.Element {
  const yaml = useQuery({ queryKey: ["yaml"], queryFn: () => import("yaml"), staleTime: Infinity, gcTime: Infinity });
  const text = useMemo(() => yaml.data?.stringify(sweep.spec) ?? null, [yaml.data, sweep.spec]);
  if (text === null) return <Loading height={400} label="Loading the spec" />;
  return (
    <Stack>
      <Group gap="xs">
        <CopyButton value={text}>
          {({ copied, copy }) => (
            <Button variant="default" size="compact-sm" onClick={copy}>
              {copied ? "Copied" : "Copy"}
            </Button>
          )}
        </CopyButton>
        <Button variant="default" size="compact-sm" onClick={() => download(`${sweep.name.replaceAll(/[^\w.-]+/g, "-")}.yaml`, text)}>
          Save as a file for bcd sweep submit
        </Button>
      </Group>
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls */}
      <pre tabIndex={0} aria-label="Spec" role="region" className="table-frame" style={{ margin: 0, padding: 12, maxHeight: "65vh", fontSize: 13 }}>
        {text}
      </pre>
    </Stack>
  );
}
