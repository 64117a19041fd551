import { Button, Checkbox, Group, NativeSelect, Popover, Select, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { type JSX, useState } from "react";

import { api, body } from "@/api/client";

import { metricOf, toggled } from "./columns";

interface Props {
  known: readonly { id: string; header: string }[];
  shown: readonly string[];
  onShown: (shown: string[]) => void;
}

/** Choose the columns of the list, also any metric's best or last value. */
export function ColumnPicker({ known, shown, onShown }: Props): JSX.Element {
  const fields = useQuery({ queryKey: ["filter-fields"], queryFn: ({ signal }) => body(api.GET("/api/v1/filter-fields", { signal })), staleTime: 60_000 });
  const [which, setWhich] = useState<"best" | "last">("best");
  const [key, setKey] = useState<string | null>(null);
  const metrics = shown.filter((id) => metricOf(id) !== null);
  return (
    <Popover width={300} position="bottom-end" trapFocus>
      <Popover.Target>
        <Button size="sm" variant="default">
          Columns
        </Button>
      </Popover.Target>
      <Popover.Dropdown style={{ maxHeight: "70vh", overflow: "auto" }}>
        <Stack gap={6}>
          {known.map(({ id, header }) => (
            <Checkbox key={id} size="sm" label={header} checked={shown.includes(id)} disabled={id === "name"} onChange={() => onShown(toggled(shown, id))} />
          ))}
          {metrics.map((id) => (
            <Checkbox key={id} size="sm" label={id.replace(".", " ")} checked onChange={() => onShown(toggled(shown, id))} />
          ))}
          <Text size="sm" fw={600} mt={6}>
            Any metric
          </Text>
          <Group gap={6} align="end" wrap="nowrap">
            <NativeSelect aria-label="Which value" data={["best", "last"]} value={which} onChange={(event) => setWhich(event.currentTarget.value === "best" ? "best" : "last")} />
            <Select aria-label="Metric" placeholder="metric" data={fields.data?.metrics ?? []} value={key} onChange={setKey} searchable comboboxProps={{ withinPortal: false }} />
          </Group>
          <Button
            size="compact-sm"
            variant="default"
            disabled={key === null || shown.includes(`${which}.${key}`)}
            onClick={() => {
              if (key !== null) onShown(toggled(shown, `${which}.${key}`));
              setKey(null);
            }}
          >
            Add
          </Button>
        </Stack>
      </Popover.Dropdown>
    </Popover>
  );
}
