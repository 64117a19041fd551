/** A spec as YAML: to be read, copied, or saved as a file for the command line. */
import { Button, CopyButton, Group } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { type JSX, useMemo } from "react";

import { Loading } from "@/components/States";
import { download } from "@/lib/download";

interface Props {
  value: unknown;
  name: string;
  /** The command that takes the file. */
  command: string;
}

export function YamlFile({ value, name, command }: Props): JSX.Element {
  // The writer of YAML is large: it comes when somebody looks at a spec.
  const yaml = useQuery({ queryKey: ["yaml"], queryFn: () => import("yaml"), staleTime: Infinity, gcTime: Infinity });
  const text = useMemo(() => yaml.data?.stringify(value) ?? null, [yaml.data, value]);
  if (text === null) return <Loading height={400} label="Loading the spec" />;
  return (
    <>
      <Group gap="xs">
        <CopyButton value={text}>
          {({ copied, copy }) => (
            <Button variant="default" size="compact-sm" onClick={copy}>
              {copied ? "Copied" : "Copy"}
            </Button>
          )}
        </CopyButton>
        <Button variant="default" size="compact-sm" onClick={() => download(`${name.replaceAll(/[^\w.-]+/g, "-")}.yaml`, text)}>
          Save as a file for {command}
        </Button>
      </Group>
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls */}
      <pre tabIndex={0} aria-label="Spec" role="region" className="table-frame" style={{ margin: 0, padding: 12, maxHeight: "65vh", fontSize: 13 }}>
        {text}
      </pre>
    </>
  );
}
