import { Group, Stack, Title } from "@mantine/core";
import { useDocumentTitle } from "@mantine/hooks";
import type { JSX, ReactNode } from "react";

/** A page's heading, what can be done there, and its content. */
export function Page({ title, name, actions, children }: { title: ReactNode; name: string; actions?: ReactNode; children: ReactNode }): JSX.Element {
  useDocumentTitle(`${name} · bcd`);
  return (
    <Stack gap="md">
      <Group justify="space-between" align="flex-start" gap="sm">
        <Title order={1} style={{ overflowWrap: "anywhere" }}>
          {title}
        </Title>
        {actions !== undefined && <Group gap="xs">{actions}</Group>}
      </Group>
      {children}
    </Stack>
  );
}
