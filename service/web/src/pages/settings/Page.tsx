import { Stack, Switch, Text, Title } from "@mantine/core";
import type { JSX } from "react";

import { Page as Frame } from "@/components/Page";
import { usePreference } from "@/lib/preferences";

import { Tokens } from "./Tokens";
import { Views } from "./Views";

export default function Page(): JSX.Element {
  const [keys, setKeys] = usePreference("shortcuts", true);
  return (
    <Frame title="Settings" name="Settings">
      <Stack gap="xl">
        <Tokens />
        <Views />
        <section>
          <Title order={2} size="h3" mb="xs">
            Keyboard
          </Title>
          <Switch label="Single keys, such as g j for the list of jobs" description="? shows all of them." checked={keys} onChange={(event) => setKeys(event.currentTarget.checked)} />
        </section>
        <Text size="sm">
          <a href="/docs">Reference of the API</a>, <a href="/openapi.json">its OpenAPI document</a>
        </Text>
      </Stack>
    </Frame>
  );
}
