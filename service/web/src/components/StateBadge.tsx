import { Badge } from "@mantine/core";
import type { JSX } from "react";

// Sign, so that no state is told by colour alone.
const SIGNS: Record<string, [string, string]> = {
  waiting: ["◷", "gray"],
  queued: ["◷", "gray"],
  starting: ["▷", "blue"],
  running: ["▶", "blue"],
  pausing: ["❚❚", "yellow"],
  paused: ["❚❚", "yellow"],
  cancelling: ["◼", "yellow"],
  succeeded: ["✓", "green"],
  failed: ["✕", "red"],
  searching: ["▶", "blue"],
  repeating: ["↻", "blue"],
  stopped: ["◼", "gray"],
  cancelled: ["◼", "gray"],
};

export function StateBadge({ state }: { state: string }): JSX.Element {
  const [sign, color] = SIGNS[state] ?? ["?", "gray"];
  return (
    <Badge
      variant="default"
      size="md"
      tt="none"
      fw={500}
      miw="max-content"
      leftSection={
        <span aria-hidden style={{ color: `var(--mantine-color-${color}-text)` }}>
          {sign}
        </span>
      }
    >
      {state}
    </Badge>
  );
}
