import { Stack } from "@mantine/core";
import type { JSX } from "react";

import { YamlFile } from "@/components/YamlFile";

import type { Sweep } from "./sweep";

/** The whole sweep spec, as a file that can be submitted again. */
export function SpecTab({ sweep }: { sweep: Sweep }): JSX.Element {
  return (
    <Stack>
      <YamlFile value={sweep.spec} name={sweep.name} command="bcd sweep submit" />
    </Stack>
  );
}
