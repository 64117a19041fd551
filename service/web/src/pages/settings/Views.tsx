import { Anchor, Button, Stack, Text } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { JSX } from "react";

import { api, body, type Schemas } from "@/api/client";
import { type Column, DataTable } from "@/components/DataTable";
import { Section } from "@/components/Section";
import { Failure, Loaded } from "@/components/States";
import { ago } from "@/lib/format";

type View = Schemas["ViewOut"];

/** Saved views of everybody: "Share" on a page makes one. */
export function Views(): JSX.Element {
  const client = useQueryClient();
  const query = useQuery({ queryKey: ["views"], queryFn: ({ signal }) => body(api.GET("/api/v1/views", { signal })) });
  const remove = useMutation({
    mutationFn: (id: string) => body(api.DELETE("/api/v1/views/{view_id}", { params: { path: { view_id: id } } })),
    onSuccess: () => void client.invalidateQueries({ queryKey: ["views"] }),
  });
  const columns: Column<View>[] = [
    {
      id: "name",
      header: "View",
      cell: (view) => (
        <Anchor component={Link} to={`/v/${view.id}`} size="sm">
          {view.name}
        </Anchor>
      ),
      value: (view) => view.name,
      width: 420,
    },
    { id: "by", header: "By", cell: (view) => view.created_by ?? "", value: (view) => view.created_by },
    { id: "saved", header: "Saved", align: "right", cell: (view) => ago(view.created_at), value: (view) => view.created_at },
    {
      id: "remove",
      header: "Remove",
      cell: (view) => (
        <Button size="compact-xs" variant="default" aria-label={`Remove ${view.name}`} onClick={() => remove.mutate(view.id)}>
          Remove
        </Button>
      ),
    },
  ];
  return (
    <Section title="Saved views">
      <Stack gap="xs">
        {remove.isError && <Failure error={remove.error} />}
        <Loaded query={query} height={100}>
          {({ items }) =>
            items.length === 0 ? (
              <Text size="sm" c="dimmed">
                None yet: Share, on a page such as Compare, keeps its view under a short address.
              </Text>
            ) : (
              <DataTable caption="Saved views" rows={items} columns={columns} rowKey={(view) => view.id} maxHeight="40vh" />
            )
          }
        </Loaded>
      </Stack>
    </Section>
  );
}
