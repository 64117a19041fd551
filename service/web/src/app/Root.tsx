import { Center, Loader } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Outlet } from "@tanstack/react-router";
import { type JSX, lazy, Suspense, useEffect, useState } from "react";

import { session, signIn, takeToken } from "@/api/session";
import { Failure } from "@/components/States";

import { Shell } from "./Shell";

// Who is signed in does not need it.
const SignIn = lazy(() => import("./SignIn"));

/** Signed in: the shell and its page. Else: the sign-in page, at the same address. */
export function Root(): JSX.Element {
  const client = useQueryClient();
  const [token] = useState(takeToken);
  const [swapped, setSwapped] = useState(token === null);
  const [refusal, setRefusal] = useState<Error | null>(null);
  useEffect(() => {
    if (token === null) return;
    signIn(token)
      .then((me) => client.setQueryData(session.queryKey, me))
      .catch((error: unknown) => setRefusal(error instanceof Error ? error : new Error(String(error))))
      .finally(() => setSwapped(true));
  }, [client, token]);
  const me = useQuery({ ...session, enabled: swapped });
  if (!swapped || me.isPending)
    return (
      <Center h="100vh">
        <Loader aria-label="Loading" />
      </Center>
    );
  if (me.isError)
    return (
      <Center h="100vh">
        <Failure error={me.error} retry={() => void me.refetch()} />
      </Center>
    );
  if (me.data === null)
    return (
      <Suspense>
        <SignIn refusal={refusal} />
      </Suspense>
    );
  return (
    <Shell me={me.data}>
      <Outlet />
    </Shell>
  );
}
