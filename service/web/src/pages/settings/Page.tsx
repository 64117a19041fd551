import { Stack, Switch, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import type { JSX } from "react";

import { session } from "@/api/session";
import { Page as Frame } from "@/components/Page";
import { usePreference } from "@/lib/preferences";

import { Projects } from "./Projects";
import { Tokens } from "./Tokens";
import { Users } from "./Users";
import { Views } from "./Views";

export default function Page(): JSX.Element {
  const me = useQuery(session);
  const [keys, setKeys] = usePreference("shortcuts", true);
  return (
    <Frame title="Settings" name="Settings">
      <Stack gap="xl">
        <Tokens />
        <Views />
        {me.data?.is_admin === true && me.data.scope === "admin" && <Users myself={me.data.user} />}
        <Projects admin={me.data?.is_admin === true && me.data.scope === "admin"} />
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
