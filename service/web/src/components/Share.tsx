/** Give the view on this page to somebody else: as its address, or kept under a name and a short address. */
import { Alert, Button, Code, Group, Popover, Stack, Text, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type JSX, useState } from "react";

import { api, body } from "@/api/client";

import { Failure } from "./States";

export function Share({ name }: { name: string }): JSX.Element {
  const client = useQueryClient();
  const [open, setOpen] = useState(false);
  const [title, setTitle] = useState(name);
  const [copied, setCopied] = useState(false);
  const save = useMutation({
    mutationFn: () => body(api.POST("/api/v1/views", { body: { name: title.trim() || name, address: window.location.pathname + window.location.search } })),
    onSuccess: () => void client.invalidateQueries({ queryKey: ["views"] }),
  });
  const copy = (text: string): void => void navigator.clipboard.writeText(text).then(() => setCopied(true));
  const short = save.data === undefined ? null : `${window.location.origin}/v/${save.data.id}`;
  return (
    <Popover
      opened={open}
      onChange={setOpen}
      position="bottom-end"
      width={360}
      trapFocus
      onClose={() => {
        save.reset();
        setCopied(false);
      }}
    >
      <Popover.Target>
        <Button variant="default" size="sm" onClick={() => setOpen(!open)}>
          Share
        </Button>
      </Popover.Target>
      <Popover.Dropdown>
        <Stack gap="xs">
          <Text size="sm">The address is the view: whoever opens it sees the same, as far as they may.</Text>
          <Button variant="default" size="sm" onClick={() => copy(window.location.href)}>
            {copied ? "Copied" : "Copy link"}
          </Button>
          <TextInput label="Or keep it under a name" value={title} onChange={(event) => setTitle(event.currentTarget.value)} maxLength={100} />
          <Group gap="xs">
            <Button size="sm" loading={save.isPending} onClick={() => save.mutate()}>
              Save view
            </Button>
          </Group>
          {save.isError && <Failure error={save.error} />}
          {short !== null && (
            <Alert variant="default" title="Saved">
              <Code>{short}</Code>
            </Alert>
          )}
        </Stack>
      </Popover.Dropdown>
    </Popover>
  );
}
