import { Alert, Button, Checkbox, Code, Group, Stack, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type JSX, useState } from "react";

import { api, body, type Schemas } from "@/api/client";
import { type Column, DataTable } from "@/components/DataTable";
import { Section } from "@/components/Section";
import { Failure, Loaded } from "@/components/States";
import { ago } from "@/lib/format";

type User = Schemas["UserOut"];
type Change = { is_admin?: boolean; disabled?: boolean };

const DAY = 86_400;

/** Who may come in; for administrators. A user signs in with a token, which is shown once. */
export function Users({ myself }: { myself: string }): JSX.Element {
  const client = useQueryClient();
  const query = useQuery({ queryKey: ["users"], queryFn: ({ signal }) => body(api.GET("/api/v1/users", { params: { query: { limit: 200 } }, signal })) });
  const [name, setName] = useState("");
  const [admin, setAdmin] = useState(false);
  const again = (): void => void client.invalidateQueries({ queryKey: ["users"] });
  const add = useMutation({
    mutationFn: () => body(api.POST("/api/v1/users", { body: { name: name.trim(), is_admin: admin } })),
    onSuccess: () => {
      setName("");
      setAdmin(false);
      again();
    },
  });
  const change = useMutation({
    mutationFn: ({ user, to }: { user: string; to: Change }) => body(api.PATCH("/api/v1/users/{user}", { params: { path: { user } }, body: to })),
    onSuccess: again,
  });
  const token = useMutation({
    mutationFn: (user: string) => body(api.POST("/api/v1/tokens", { body: { name: "first sign-in", user, scope: "write", expires_in: 7 * DAY } })),
  });
  const columns: Column<User>[] = [
    { id: "name", header: "User", cell: (user) => user.name, value: (user) => user.name },
    { id: "role", header: "Kind", cell: (user) => (user.is_admin ? "administrator" : "user"), value: (user) => (user.is_admin ? "administrator" : "user") },
    { id: "state", header: "State", cell: (user) => (user.disabled_at === null ? "enabled" : `disabled ${ago(user.disabled_at)}`), value: (user) => (user.disabled_at === null ? "enabled" : "disabled") },
    {
      id: "act",
      header: "Change",
      cell: (user) => (
        <Group gap={6} wrap="nowrap">
          <Button size="compact-xs" variant="default" aria-label={`A token for ${user.name}`} disabled={user.disabled_at !== null} onClick={() => token.mutate(user.name)}>
            Token
          </Button>
          {user.name !== myself && (
            <>
              <Button size="compact-xs" variant="default" aria-label={`${user.disabled_at === null ? "Disable" : "Enable"} ${user.name}`} onClick={() => change.mutate({ user: user.name, to: { disabled: user.disabled_at === null } })}>
                {user.disabled_at === null ? "Disable" : "Enable"}
              </Button>
              <Button size="compact-xs" variant="default" aria-label={`Make ${user.name} ${user.is_admin ? "a plain user" : "an administrator"}`} onClick={() => change.mutate({ user: user.name, to: { is_admin: !user.is_admin } })}>
                {user.is_admin ? "No administrator" : "Administrator"}
              </Button>
            </>
          )}
        </Group>
      ),
    },
  ];
  return (
    <Section title="Users">
      <Stack>
        <form
          onSubmit={(event) => {
            event.preventDefault();
            add.mutate();
          }}
        >
          <Group align="flex-end" gap="sm">
            <TextInput label="Name of a new user" value={name} maxLength={100} required onChange={(event) => setName(event.currentTarget.value)} />
            <Checkbox label="Administrator" checked={admin} onChange={(event) => setAdmin(event.currentTarget.checked)} pb={8} />
            <Button type="submit" loading={add.isPending} disabled={name.trim() === ""}>
              Add
            </Button>
          </Group>
        </form>
        {[add, change, token].map((act, i) => act.isError && <Failure key={i} error={act.error} />)}
        {token.isSuccess && (
          <Alert variant="default" title={`A token of ${token.variables} for 7 days: hand it over now, it is not shown again`} withCloseButton closeButtonLabel="Close" onClose={() => token.reset()}>
            <Code style={{ overflowWrap: "anywhere" }}>{token.data.token}</Code>
          </Alert>
        )}
        <Loaded query={query} height={120}>
          {({ items }) => <DataTable caption="Users" rows={items} columns={columns} rowKey={(user) => user.name} maxHeight="40vh" />}
        </Loaded>
      </Stack>
    </Section>
  );
}
