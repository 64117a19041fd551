/** Who is signed in. A link may carry a token behind `#token=`: it is swapped for a cookie and leaves the address. */
import { queryOptions } from "@tanstack/react-query";

import { api, ApiError, body, type Schemas } from "./client";

export type Me = Schemas["SessionOut"];

export const session = queryOptions({
  queryKey: ["session"],
  queryFn: async (): Promise<Me | null> => {
    try {
      return await body(api.GET("/api/v1/session"));
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return null;
      throw error;
    }
  },
  staleTime: Infinity,
  retry: false,
});

export async function signIn(token: string): Promise<Me> {
  return body(api.POST("/api/v1/session", { body: { token } }));
}

export async function signOut(): Promise<void> {
  await body(api.DELETE("/api/v1/session"));
}

/** The token that the address carries, taken out of it and out of the history. */
export function takeToken(): string | null {
  const found = /^#token=([\w.-]+)$/.exec(window.location.hash);
  if (found === null) return null;
  window.history.replaceState(null, "", window.location.pathname + window.location.search);
  return found[1] ?? null;
}
