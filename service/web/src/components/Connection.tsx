import { Badge } from "@mantine/core";
import type { JSX } from "react";

import { useLiveState } from "@/api/live";

/** Says when the page is not being kept up to date by the service; silent while all is well. */
export function Connection(): JSX.Element | null {
  const state = useLiveState();
  if (state === "open" || state === "idle") return null;
  return (
    <Badge variant="default" tt="none" role="status" leftSection={<span aria-hidden>⚠</span>}>
      {state === "lost" ? "connection lost, trying again" : "connecting"}
    </Badge>
  );
}
