import { QueryCache, QueryClient } from "@tanstack/react-query";

import { ApiError } from "@/api/client";
import { session } from "@/api/session";

/** One cache for the page. A refusal is not asked for again; a service that is away is, a few times. */
export const queries = new QueryClient({
  queryCache: new QueryCache({
    // A session that has ended: the next render shows the sign-in page, at the same address.
    onError: (error, query) => {
      if (error instanceof ApiError && error.status === 401 && query.queryKey[0] !== "session")
        queries.setQueryData(session.queryKey, null);
    },
  }),
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      gcTime: 5 * 60_000,
      refetchOnWindowFocus: true,
      retry: (count, error) => count < 2 && (!(error instanceof ApiError) || error.status === 0 || error.status >= 500),
      retryDelay: (count) => Math.min(1000 * 2 ** count, 10_000),
    },
    mutations: { retry: false },
  },
});
