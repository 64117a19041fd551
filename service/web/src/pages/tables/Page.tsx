import { Anchor, Button, Code, Group, Stack, Text, Textarea } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { type JSX, useState } from "react";

import { api, ApiError, body, type Schemas } from "@/api/client";
import type { paths } from "@/api/schema";
import { type Column, DataTable } from "@/components/DataTable";
import { Page as Frame } from "@/components/Page";
import { Section } from "@/components/Section";
import { Empty, Failure, Loaded } from "@/components/States";
import { ago } from "@/lib/format";

import { EXAMPLE } from "./example";

type Summary = Schemas["TableSummary"];
/** What the service takes; it checks what was written. */
type Manifest = paths["/api/v1/tables"]["post"]["requestBody"]["content"]["application/json"];

const COLUMNS: Column<Summary>[] = [
  {
    id: "name",
    header: "Table",
    cell: (one) => (
      <Anchor component={Link} to={`/tables/${one.id}`} size="sm">
        {one.name}
      </Anchor>
    ),
    value: (one) => one.name,
    width: 420,
  },
  { id: "project", header: "Project", cell: (one) => one.project, value: (one) => one.project },
  { id: "by", header: "By", cell: (one) => one.created_by ?? "", value: (one) => one.created_by },
  { id: "changed", header: "Changed", align: "right", cell: (one) => ago(one.updated_at), value: (one) => one.updated_at },
];

export default function Page(): JSX.Element {
  const query = useQuery({ queryKey: ["tables"], queryFn: ({ signal }) => body(api.GET("/api/v1/tables", { signal })) });
  const [adding, setAdding] = useState(false);
  return (
    <Frame
      title="Tables"
      name="Tables"
      actions={
        <Button size="sm" variant={adding ? "default" : "filled"} onClick={() => setAdding(!adding)}>
          {adding ? "Close" : "New table"}
        </Button>
      }
    >
      <Text size="sm" c="dimmed">
        Methods × students × seeds: which cells are there, which are missing or stale, and whether the means reproduce published figures.
      </Text>
      {adding && <Add />}
      <Loaded query={query} height={200}>
        {({ items }) =>
          items.length === 0 ? (
            <Empty title="No table yet">
              Make one here, or keep a manifest by <Code>bcd table keep FILE</Code>.
            </Empty>
          ) : (
            <DataTable caption="Tables" rows={items} columns={COLUMNS} rowKey={(one) => one.id} />
          )
        }
      </Loaded>
    </Frame>
  );
}

function Add(): JSX.Element {
  const [text, setText] = useState(EXAMPLE);
  return (
    <Section title="New table">
      <ManifestForm text={text} onText={setText} />
    </Section>
  );
}

/** A manifest as YAML, and the button that keeps it. */
export function ManifestForm({ text, onText, label = "Keep" }: { text: string; onText: (text: string) => void; label?: string }): JSX.Element {
  const navigate = useNavigate();
  const client = useQueryClient();
  const keep = useMutation({
    mutationFn: async () => {
      const yaml = await import("yaml");
      let value: unknown;
      try {
        value = yaml.parse(text);
      } catch (error) {
        throw new ApiError(422, `the manifest cannot be read: ${error instanceof Error ? error.message : String(error)}`);
      }
      return body(api.POST("/api/v1/tables", { body: value as Manifest }));
    },
    onSuccess: (table) => {
      void client.invalidateQueries({ queryKey: ["tables"] });
      client.setQueryData(["table", table.id], table);
      void navigate({ to: "/tables/$id", params: { id: table.id } });
    },
  });
  return (
    <Stack>
      <Textarea label="Manifest" description="YAML. An empty list of methods trains on labels alone. A table of the same name gets this manifest." autosize minRows={12} maxRows={40} value={text} onChange={(event) => onText(event.currentTarget.value)} styles={{ input: { fontFamily: "monospace", fontSize: 13 } }} spellCheck={false} />
      {keep.isError && <Failure error={keep.error} />}
      <Group>
        <Button loading={keep.isPending} onClick={() => keep.mutate()}>
          {label}
        </Button>
        <Text size="sm" c="dimmed">
          Nothing is submitted yet.
        </Text>
      </Group>
    </Stack>
  );
}
