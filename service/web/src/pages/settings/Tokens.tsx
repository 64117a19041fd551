import { Alert, Button, Code, CopyButton, Group, Modal, Select, Stack, Text, TextInput, Title } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type JSX, useState } from "react";

import { api, body, type Schemas } from "@/api/client";
import { type Column, DataTable } from "@/components/DataTable";
import { Failure, Loaded } from "@/components/States";
import { ago, DASH, moment } from "@/lib/format";

type Token = Schemas["TokenOut"];
type Scope = Schemas["Scope"];

const DAY = 86_400;
const ENDS = [
  { value: "0", label: "never" },
  { value: String(30 * DAY), label: "in 30 days" },
  { value: String(90 * DAY), label: "in 90 days" },
  { value: String(365 * DAY), label: "in a year" },
];
const SCOPES: { value: Scope; label: string }[] = [
  { value: "read", label: "read: look at everything" },
  { value: "write", label: "write: run jobs" },
  { value: "admin", label: "admin: all that I may do" },
];

/** One's own tokens: list, make (shown once), revoke. */
export function Tokens(): JSX.Element {
  const client = useQueryClient();
  const tokens = useQuery({ queryKey: ["tokens"], queryFn: ({ signal }) => body(api.GET("/api/v1/tokens", { params: { query: { limit: 200 } }, signal })) });
  const [name, setName] = useState("");
  const [scope, setScope] = useState<Scope>("write");
  const [ends, setEnds] = useState(String(90 * DAY));
  const [revoking, setRevoking] = useState<Token | null>(null);
  const again = (): void => void client.invalidateQueries({ queryKey: ["tokens"] });
  const make = useMutation({
    mutationFn: () => body(api.POST("/api/v1/tokens", { body: { name: name.trim(), scope, ...(ends === "0" ? {} : { expires_in: Number(ends) }) } })),
    onSuccess: () => {
      setName("");
      again();
    },
  });
  const revoke = useMutation({
    mutationFn: (id: string) => body(api.DELETE("/api/v1/tokens/{token_id}", { params: { path: { token_id: id } } })),
    onSuccess: () => {
      setRevoking(null);
      again();
    },
  });
  const columns: Column<Token>[] = [
    { id: "name", header: "Name", cell: (one) => one.name, value: (one) => one.name },
    { id: "type", header: "Kind", cell: (one) => (one.type === "session" ? "browser" : "API"), value: (one) => one.type },
    { id: "scope", header: "May", cell: (one) => one.scope, value: (one) => one.scope },
    { id: "project", header: "Project", cell: (one) => one.project ?? "all", value: (one) => one.project },
    { id: "used", header: "Last used", cell: (one) => (one.last_used_at === null ? "never" : ago(one.last_used_at)), value: (one) => one.last_used_at },
    { id: "ends", header: "Ends", cell: (one) => (one.revoked_at !== null ? `revoked ${ago(one.revoked_at)}` : one.expires_at === null ? DASH : moment(one.expires_at)), value: (one) => one.expires_at },
    {
      id: "act",
      header: "Revoke",
      cell: (one) =>
        one.revoked_at === null ? (
          <Button size="compact-sm" variant="default" aria-label={`Revoke ${one.name}`} onClick={() => setRevoking(one)}>
            Revoke
          </Button>
        ) : (
          DASH
        ),
    },
  ];
  return (
    <section>
      <Title order={2} size="h3" mb="xs">
        Tokens
      </Title>
      <Stack>
        <form
          onSubmit={(event) => {
            event.preventDefault();
            make.mutate();
          }}
        >
          <Group align="flex-end" gap="sm">
            <TextInput label="What it is for" value={name} maxLength={100} required onChange={(event) => setName(event.currentTarget.value)} />
            <Select label="What it may do" data={SCOPES} value={scope} allowDeselect={false} onChange={(value) => setScope(SCOPES.find((one) => one.value === value)?.value ?? "write")} />
            <Select label="Ends" data={ENDS} value={ends} allowDeselect={false} onChange={(value) => setEnds(value ?? "0")} />
            <Button type="submit" loading={make.isPending} disabled={name.trim() === ""}>
              Make a token
            </Button>
          </Group>
        </form>
        {make.isError && <Failure error={make.error} />}
        {make.isSuccess && (
          <Alert variant="default" title={`Token ${make.data.name}: copy it now, it is not shown again`} withCloseButton closeButtonLabel="Close" onClose={() => make.reset()}>
            <Group gap="xs">
              <Code style={{ overflowWrap: "anywhere" }}>{make.data.token}</Code>
              <CopyButton value={make.data.token}>
                {({ copied, copy }) => (
                  <Button size="compact-sm" variant="default" onClick={copy}>
                    {copied ? "Copied" : "Copy"}
                  </Button>
                )}
              </CopyButton>
            </Group>
          </Alert>
        )}
        <Loaded query={tokens} height={200}>
          {(data) => <DataTable caption="Tokens" rows={data.items} columns={columns} rowKey={(one) => one.id} />}
        </Loaded>
      </Stack>
      <Modal opened={revoking !== null} onClose={() => setRevoking(null)} title={`Revoke ${revoking?.name ?? ""}?`} closeButtonProps={{ "aria-label": "Close" }}>
        <Stack>
          <Text size="sm">Whatever uses it is refused from now on, and so is every browser that was signed in with it. This cannot be undone.</Text>
          {revoke.isError && <Failure error={revoke.error} />}
          <Button color="red" loading={revoke.isPending} onClick={() => revoking !== null && revoke.mutate(revoking.id)}>
            Revoke
          </Button>
        </Stack>
      </Modal>
    </section>
  );
}
