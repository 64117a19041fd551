import { Button, Center, Code, Paper, PasswordInput, Stack, Text, Title } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type JSX, useState } from "react";

import { session, signIn } from "@/api/session";

/** Asks for an API token; there are no passwords. */
export default function SignIn({ refusal }: { refusal: Error | null }): JSX.Element {
  const client = useQueryClient();
  const [token, setToken] = useState("");
  const attempt = useMutation({
    mutationFn: signIn,
    onSuccess: (me) => client.setQueryData(session.queryKey, me),
  });
  const error = attempt.error ?? refusal;
  return (
    <Center component="main" mih="100vh" p="md">
      <Paper withBorder p="xl" maw={460} w="100%">
        <form
          onSubmit={(event) => {
            event.preventDefault();
            attempt.mutate(token.trim());
          }}
        >
          <Stack>
            <Title order={1}>Sign in to bcd</Title>
            <Text size="sm">
              With an API token. On the machine where bcd runs, <Code>bcd up</Code> prints a link that signs you in; the
              token itself is in <Code>run/api-token</Code> of its home folder.
            </Text>
            <PasswordInput
              label="API token"
              value={token}
              onChange={(event) => setToken(event.currentTarget.value)}
              error={error?.message}
              autoComplete="current-password"
              data-autofocus
              required
              visibilityToggleButtonProps={{ "aria-label": "Show the token" }}
            />
            <Button type="submit" loading={attempt.isPending} disabled={token.trim() === ""}>
              Sign in
            </Button>
          </Stack>
        </form>
      </Paper>
    </Center>
  );
}
