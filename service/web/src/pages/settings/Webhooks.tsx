import { Alert, Button, Code, Group, Stack, Text, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type JSX, useState } from "react";

import { api, body, type Schemas } from "@/api/client";
import { type Column, DataTable } from "@/components/DataTable";
import { Failure, Loaded } from "@/components/States";
import { ago } from "@/lib/format";

type Hook = Schemas["WebhookOut"];

/** Addresses that are told when jobs of a project change. */
export function Webhooks({ project }: { project: string }): JSX.Element {
  const client = useQueryClient();
  const key = ["webhooks", project];
  const query = useQuery({ queryKey: key, queryFn: ({ signal }) => body(api.GET("/api/v1/projects/{project_id}/webhooks", { params: { path: { project_id: project } }, signal })) });
  const [url, setUrl] = useState("");
  const again = (): void => void client.invalidateQueries({ queryKey: key });
  const add = useMutation({
    mutationFn: () => body(api.POST("/api/v1/projects/{project_id}/webhooks", { params: { path: { project_id: project } }, body: { url: url.trim() } })),
    onSuccess: () => {
      setUrl("");
      again();
    },
  });
  const test = useMutation({ mutationFn: (id: string) => body(api.POST("/api/v1/webhooks/{webhook_id}/test", { params: { path: { webhook_id: id } } })), onSuccess: again });
  const remove = useMutation({ mutationFn: (id: string) => body(api.DELETE("/api/v1/webhooks/{webhook_id}", { params: { path: { webhook_id: id } } })), onSuccess: again });
  const columns: Column<Hook>[] = [
    { id: "url", header: "Webhook", cell: (one) => one.url, value: (one) => one.url, width: 360 },
    { id: "states", header: "When a job is", cell: (one) => one.states.join(", "), value: (one) => one.states.join(", ") },
    { id: "state", header: "State", cell: stateOf, value: stateOf },
    {
      id: "act",
      header: "Change",
      cell: (one) => (
        <Group gap={6} wrap="nowrap">
          <Button size="compact-xs" variant="default" aria-label={`Test ${one.url}`} onClick={() => test.mutate(one.id)}>
            Test
          </Button>
          <Button size="compact-xs" variant="default" aria-label={`Remove ${one.url}`} onClick={() => remove.mutate(one.id)}>
            Remove
          </Button>
        </Group>
      ),
    },
  ];
  return (
    <Stack gap="xs">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          add.mutate();
        }}
      >
        <Group align="flex-end" gap="sm">
          <TextInput label="Address of a webhook" type="url" placeholder="https://" w={360} value={url} required onChange={(event) => setUrl(event.currentTarget.value)} />
          <Button type="submit" variant="default" loading={add.isPending} disabled={url.trim() === ""}>
            Add webhook
          </Button>
        </Group>
      </form>
      {[add, test, remove].map((act, i) => act.isError && <Failure key={i} error={act.error} />)}
      {add.isSuccess && (
        <Alert variant="default" title="Its deliveries are signed with this key: copy it now, it is not shown again" withCloseButton closeButtonLabel="Close" onClose={() => add.reset()}>
          <Code style={{ overflowWrap: "anywhere" }}>{add.data.secret}</Code>
        </Alert>
      )}
      <Loaded query={query} height={60}>
        {({ items }) =>
          items.length === 0 ? (
            <Text size="sm" c="dimmed">
              No webhooks.
            </Text>
          ) : (
            <DataTable caption={`Webhooks of ${project}`} rows={items} columns={columns} rowKey={(one) => one.id} maxHeight="30vh" />
          )
        }
      </Loaded>
    </Stack>
  );
}

function stateOf(one: Hook): string {
  if (!one.active) return "off";
  if (one.failing_since !== null) return `failing since ${ago(one.failing_since)}, ${String(one.pending)} waiting`;
  return one.delivered_at === null ? "nothing sent yet" : `last told ${ago(one.delivered_at)}`;
}
