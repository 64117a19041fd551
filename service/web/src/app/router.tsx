import { createRootRoute, createRoute, createRouter, lazyRouteComponent } from "@tanstack/react-router";

import { parseSearch, stringifySearch } from "@/lib/search";
import { compareSearch } from "@/pages/compare/search";
import { datasetsSearch } from "@/pages/datasets/search";
import { jobSearch } from "@/pages/job/search";
import { jobsSearch } from "@/pages/jobs/search";
import { modelsSearch } from "@/pages/models/search";
import { newSearch } from "@/pages/new/search";
import { sweepSearch } from "@/pages/sweep/search";
import { tableSearch } from "@/pages/table/search";

import { Root } from "./Root";

const root = createRootRoute({ component: Root });

// One line for each page; what an address may hold stands in the page's own search.ts.
const routes = [
  createRoute({ getParentRoute: () => root, path: "/", component: lazyRouteComponent(() => import("@/pages/overview/Page")) }),
  createRoute({ getParentRoute: () => root, path: "/jobs", validateSearch: jobsSearch, component: lazyRouteComponent(() => import("@/pages/jobs/Page")) }),
  createRoute({ getParentRoute: () => root, path: "/jobs/$id", validateSearch: jobSearch, component: lazyRouteComponent(() => import("@/pages/job/Page")) }),
  createRoute({ getParentRoute: () => root, path: "/compare", validateSearch: compareSearch, component: lazyRouteComponent(() => import("@/pages/compare/Page")) }),
  createRoute({ getParentRoute: () => root, path: "/sweeps", component: lazyRouteComponent(() => import("@/pages/sweeps/Page")) }),
  createRoute({ getParentRoute: () => root, path: "/sweeps/$id", validateSearch: sweepSearch, component: lazyRouteComponent(() => import("@/pages/sweep/Page")) }),
  createRoute({ getParentRoute: () => root, path: "/tables", component: lazyRouteComponent(() => import("@/pages/tables/Page")) }),
  createRoute({ getParentRoute: () => root, path: "/tables/$id", validateSearch: tableSearch, component: lazyRouteComponent(() => import("@/pages/table/Page")) }),
  createRoute({ getParentRoute: () => root, path: "/v/$id", component: lazyRouteComponent(() => import("@/pages/view/Page")) }),
  createRoute({ getParentRoute: () => root, path: "/models", validateSearch: modelsSearch, component: lazyRouteComponent(() => import("@/pages/models/Page")) }),
  createRoute({ getParentRoute: () => root, path: "/datasets", validateSearch: datasetsSearch, component: lazyRouteComponent(() => import("@/pages/datasets/Page")) }),
  createRoute({ getParentRoute: () => root, path: "/new", validateSearch: newSearch, component: lazyRouteComponent(() => import("@/pages/new/Page")) }),
  createRoute({ getParentRoute: () => root, path: "/cluster", component: lazyRouteComponent(() => import("@/pages/cluster/Page")) }),
  createRoute({ getParentRoute: () => root, path: "/settings", component: lazyRouteComponent(() => import("@/pages/settings/Page")) }),
] as const;

export const router = createRouter({
  routeTree: root.addChildren(routes),
  parseSearch,
  stringifySearch,
  defaultPreload: "intent",
  scrollRestoration: true,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
