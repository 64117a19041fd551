import { Alert, Button, Code, Group, Skeleton, Stack, Text, Title } from "@mantine/core";
import { type JSX, type ReactNode, useEffect, useState } from "react";

import { ApiError } from "@/api/client";

/** What failed, the request's id, and a way to try again. */
export function Failure({ error, retry }: { error: Error; retry?: () => void }): JSX.Element {
  const known = error instanceof ApiError ? error : null;
  const title = known === null ? "Something went wrong" : known.status === 0 ? "No connection" : known.status === 404 ? "Not found" : known.status === 403 ? "Not allowed" : "The service refused this";
  return (
    <Alert color="red" variant="default" title={title} role="alert" maw={720}>
      <Stack gap="xs" align="flex-start">
        <Text size="sm">{error.message}</Text>
        {known?.errors.map((one) => (
          <Text size="sm" key={one.pointer + one.detail}>
            <Code>{one.pointer || "/"}</Code> {one.detail}
          </Text>
        ))}
        {known?.requestId != null && (
          <Text size="xs" c="dimmed">
            request {known.requestId}
          </Text>
        )}
        {retry !== undefined && (
          <Button size="xs" variant="default" onClick={retry}>
            Try again
          </Button>
        )}
      </Stack>
    </Alert>
  );
}

/** Nothing is here yet: what would be, and the one thing that fills it. */
export function Empty({ title, children }: { title: string; children?: ReactNode }): JSX.Element {
  return (
    <Stack align="center" gap="xs" py="xl" ta="center">
      <Title order={2} size="h3">
        {title}
      </Title>
      <Text component="div" c="dimmed" maw={560}>
        {children}
      </Text>
    </Stack>
  );
}

/** A grey place of the final size; not before 150 ms, so that what comes at once does not flicker. */
export function Loading({ height = 200, label = "Loading" }: { height?: number; label?: string }): JSX.Element {
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), 150);
    return () => clearTimeout(timer);
  }, []);
  return (
    <div role="status" aria-label={label} style={{ minHeight: height }}>
      {late && <Skeleton height={height} radius="sm" />}
    </div>
  );
}

/** Data that could not be asked for again: it stays, and says how old it is. */
export function Stale({ since, error, retry }: { since: number; error: Error; retry: () => void }): JSX.Element {
  return (
    <Group gap="xs" role="status">
      <Text size="sm">
        Not up to date since {new Date(since).toLocaleTimeString()}: {error.message}
      </Text>
      <Button size="compact-xs" variant="default" onClick={retry}>
        Try again
      </Button>
    </Group>
  );
}

interface Query<T> {
  data: T | undefined;
  error: Error | null;
  isPending: boolean;
  isError: boolean;
  dataUpdatedAt: number;
  refetch: () => unknown;
}

/** A query's data once it is there; else what is the matter with it. */
export function Loaded<T>({ query, height, children }: { query: Query<T>; height?: number; children: (data: T) => ReactNode }): JSX.Element {
  if (query.data !== undefined)
    return (
      <>
        {query.isError && query.error !== null && <Stale since={query.dataUpdatedAt} error={query.error} retry={() => void query.refetch()} />}
        {children(query.data)}
      </>
    );
  if (query.isError && query.error !== null) return <Failure error={query.error} retry={() => void query.refetch()} />;
  return <Loading height={height ?? 200} />;
}
