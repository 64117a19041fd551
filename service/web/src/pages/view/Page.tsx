import { useQuery } from "@tanstack/react-query";
import { getRouteApi, useRouter } from "@tanstack/react-router";
import { type JSX, useEffect } from "react";

import { api, body } from "@/api/client";
import { Loaded } from "@/components/States";

const route = getRouteApi("/v/$id");

/** A saved view: goes on to the address that it keeps. */
export default function Page(): JSX.Element {
  const { id } = route.useParams();
  const router = useRouter();
  const query = useQuery({ queryKey: ["view", id], queryFn: ({ signal }) => body(api.GET("/api/v1/views/{view_id}", { params: { path: { view_id: id } }, signal })), staleTime: Infinity });
  const address = query.data?.address;
  useEffect(() => {
    if (address !== undefined) router.history.replace(address);
  }, [address, router]);
  return <Loaded query={query}>{() => null}</Loaded>;
}
