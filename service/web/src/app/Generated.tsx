import { Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import type { JSX } from "react";

import { api, body } from "@/api/client";

/** A line on every page of an installation that `bcd seed-demo` has filled: nobody takes its numbers for results. */
export function Generated(): JSX.Element | null {
  const projects = useQuery({ queryKey: ["projects"], queryFn: ({ signal }) => body(api.GET("/api/v1/projects", { signal })), staleTime: Infinity });
  if (projects.data?.items.some((one) => one.id === "generated") !== true) return null;
  return (
    <Text size="sm" role="note" mb="sm" p={6} style={{ border: "1px dashed currentColor", borderRadius: 4 }}>
      ⚠ Generated data (bcd seed-demo): nothing in the project “generated” was ever trained.
    </Text>
  );
}
