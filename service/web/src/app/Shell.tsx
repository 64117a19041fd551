import { ActionIcon, Anchor, AppShell, Burger, Group, Menu, NavLink, Text, useMantineColorScheme } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link, useRouterState } from "@tanstack/react-router";
import { type JSX, type ReactNode, useEffect } from "react";

import { type Me, session, signOut } from "@/api/session";
import { Connection } from "@/components/Connection";

import { Generated } from "./Generated";
import { Shortcuts } from "./Shortcuts";

/** Pages in the order of the menu, with the key that follows `g`. */
export const PAGES = [
  { to: "/", label: "Overview", key: "o" },
  { to: "/jobs", label: "Jobs", key: "j" },
  { to: "/compare", label: "Compare", key: "c" },
  { to: "/sweeps", label: "Sweeps", key: "s" },
  { to: "/tables", label: "Tables", key: "b" },
  { to: "/models", label: "Models", key: "m" },
  { to: "/datasets", label: "Datasets", key: "d" },
  { to: "/new", label: "New job", key: "n" },
  { to: "/cluster", label: "Cluster", key: "l" },
  { to: "/settings", label: "Settings", key: "t" },
] as const;

export function Shell({ me, children }: { me: Me; children: ReactNode }): JSX.Element {
  const [open, { toggle, close }] = useDisclosure();
  const path = useRouterState({ select: (state) => state.location.pathname });
  useEffect(close, [path, close]);
  return (
    <AppShell
      header={{ height: 52 }}
      navbar={{ width: 190, breakpoint: "sm", collapsed: { mobile: !open } }}
      padding={{ base: "sm", sm: "md" }}
    >
      <a href="#main" className="skip">
        Skip to the content
      </a>
      <AppShell.Header>
        <Group h="100%" px="md" justify="space-between" wrap="nowrap">
          <Group gap="sm" wrap="nowrap">
            <Burger opened={open} onClick={toggle} hiddenFrom="sm" size="sm" aria-label={open ? "Close the menu" : "Open the menu"} />
            <Anchor component={Link} to="/" underline="never" c="inherit" fw={700}>
              bcd
            </Anchor>
            <Text size="sm" c="dimmed" visibleFrom="md">
              is the student better, by how much, and at what cost?
            </Text>
          </Group>
          <Group gap="xs" wrap="nowrap">
            <Connection />
            <ColorScheme />
            <UserMenu me={me} />
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs" aria-label="Pages">
        {PAGES.map((page) => (
          <NavLink
            key={page.to}
            component={Link}
            to={page.to}
            label={page.label}
            active={page.to === "/" ? path === "/" : path.startsWith(page.to)}
            aria-current={(page.to === "/" ? path === "/" : path.startsWith(page.to)) ? "page" : undefined}
          />
        ))}
      </AppShell.Navbar>
      <AppShell.Main id="main" tabIndex={-1} style={{ outline: "none" }}>
        <Generated />
        {children}
      </AppShell.Main>
      <Shortcuts />
    </AppShell>
  );
}

function ColorScheme(): JSX.Element {
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const next = ({ auto: "light", light: "dark", dark: "auto" } as const)[colorScheme];
  const sign = { auto: "◐", light: "☀", dark: "☾" }[colorScheme];
  return (
    <ActionIcon
      variant="default"
      size="lg"
      onClick={() => setColorScheme(next)}
      aria-label={`Colours: ${colorScheme}; change to ${next}`}
      title={`Colours: ${colorScheme}`}
    >
      <span aria-hidden>{sign}</span>
    </ActionIcon>
  );
}

function UserMenu({ me }: { me: Me }): JSX.Element {
  const client = useQueryClient();
  const leave = useMutation({
    mutationFn: signOut,
    onSuccess: () => {
      client.setQueryData(session.queryKey, null);
      client.removeQueries({ predicate: (query) => query.queryKey[0] !== session.queryKey[0] });
    },
  });
  return (
    <Menu position="bottom-end">
      <Menu.Target>
        <ActionIcon variant="default" size="lg" aria-label={`Signed in as ${me.user}`} title={`Signed in as ${me.user}`}>
          <span aria-hidden>{me.user.slice(0, 1).toUpperCase()}</span>
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>
          {me.user} ({me.scope})
        </Menu.Label>
        <Menu.Item component={Link} to="/settings">
          Settings
        </Menu.Item>
        <Menu.Item component="a" href="/docs">
          API reference
        </Menu.Item>
        <Menu.Item onClick={() => leave.mutate()}>Sign out</Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
