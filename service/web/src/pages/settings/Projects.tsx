import { Button, Group, NativeSelect, Stack, Text, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type JSX, useState } from "react";

import { api, body, type Schemas } from "@/api/client";
import { type Column, DataTable } from "@/components/DataTable";
import { Section } from "@/components/Section";
import { Failure, Loaded } from "@/components/States";
import { DASH } from "@/lib/format";

import { Webhooks } from "./Webhooks";

type Project = Schemas["ProjectOut"];
type Member = Schemas["MemberOut"];
type Role = Schemas["Role"];

const ROLES: readonly Role[] = ["viewer", "editor", "admin"];

/** Projects, who may do what in them, and who is told of their jobs. */
export function Projects({ admin }: { admin: boolean }): JSX.Element {
  const client = useQueryClient();
  const query = useQuery({ queryKey: ["projects"], queryFn: ({ signal }) => body(api.GET("/api/v1/projects", { signal })), staleTime: Infinity });
  const [id, setId] = useState("");
  const [chosen, choose] = useState<string | null>(null);
  const add = useMutation({
    mutationFn: () => body(api.POST("/api/v1/projects", { body: { id: id.trim() } })),
    onSuccess: (project) => {
      setId("");
      choose(project.id);
      void client.invalidateQueries({ queryKey: ["projects"] });
    },
  });
  const columns: Column<Project>[] = [
    { id: "id", header: "Project", cell: (one) => one.id, value: (one) => one.id },
    { id: "description", header: "What for", cell: (one) => one.description, value: (one) => one.description, width: 360 },
    { id: "jobs", header: "Jobs at a time", align: "right", cell: (one) => one.max_jobs ?? DASH, value: (one) => one.max_jobs },
    { id: "gpus", header: "GPUs at a time", align: "right", cell: (one) => one.max_gpus ?? DASH, value: (one) => one.max_gpus },
    { id: "role", header: "You are", cell: (one) => one.role ?? "administrator", value: (one) => one.role },
  ];
  return (
    <Section title="Projects">
      <Stack>
        {admin && (
          <form
            onSubmit={(event) => {
              event.preventDefault();
              add.mutate();
            }}
          >
            <Group align="flex-end" gap="sm">
              <TextInput label="Id of a new project" value={id} maxLength={40} required onChange={(event) => setId(event.currentTarget.value)} />
              <Button type="submit" loading={add.isPending} disabled={id.trim() === ""}>
                Add
              </Button>
            </Group>
          </form>
        )}
        {add.isError && <Failure error={add.error} />}
        <Loaded query={query} height={120}>
          {({ items }) => {
            const mine = items.filter((one) => admin || one.role === "admin");
            const open = mine.find((one) => one.id === chosen) ?? mine[0];
            return (
              <>
                <DataTable caption="Projects" rows={items} columns={columns} rowKey={(one) => one.id} maxHeight="30vh" />
                {open !== undefined && (
                  <>
                    <NativeSelect label="Members and webhooks of" maw={280} value={open.id} data={mine.map((one) => one.id)} onChange={(event) => choose(event.currentTarget.value)} />
                    <Members key={`members ${open.id}`} project={open.id} />
                    <Webhooks key={`webhooks ${open.id}`} project={open.id} />
                  </>
                )}
              </>
            );
          }}
        </Loaded>
      </Stack>
    </Section>
  );
}

function Members({ project }: { project: string }): JSX.Element {
  const client = useQueryClient();
  const key = ["members", project];
  const query = useQuery({ queryKey: key, queryFn: ({ signal }) => body(api.GET("/api/v1/projects/{project_id}/members", { params: { path: { project_id: project }, query: { limit: 200 } }, signal })) });
  const [user, setUser] = useState("");
  const again = (): void => void client.invalidateQueries({ queryKey: key });
  const put = useMutation({
    mutationFn: (one: Member) => body(api.PUT("/api/v1/projects/{project_id}/members/{user}", { params: { path: { project_id: project, user: one.user } }, body: { role: one.role } })),
    onSuccess: () => {
      setUser("");
      again();
    },
  });
  const remove = useMutation({
    mutationFn: (name: string) => body(api.DELETE("/api/v1/projects/{project_id}/members/{user}", { params: { path: { project_id: project, user: name } } })),
    onSuccess: again,
  });
  const columns: Column<Member>[] = [
    { id: "user", header: "Member", cell: (one) => one.user, value: (one) => one.user },
    {
      id: "role",
      header: "Role",
      cell: (one) => <NativeSelect size="xs" aria-label={`Role of ${one.user}`} data={[...ROLES]} value={one.role} onChange={(event) => put.mutate({ user: one.user, role: ROLES.find((role) => role === event.currentTarget.value) ?? one.role })} />,
      value: (one) => one.role,
    },
    {
      id: "remove",
      header: "Take out",
      cell: (one) => (
        <Button size="compact-xs" variant="default" aria-label={`Take ${one.user} out`} onClick={() => remove.mutate(one.user)}>
          Take out
        </Button>
      ),
    },
  ];
  return (
    <Stack gap="xs">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          put.mutate({ user: user.trim(), role: "editor" });
        }}
      >
        <Group align="flex-end" gap="sm">
          <TextInput label="User who becomes a member" value={user} maxLength={100} required onChange={(event) => setUser(event.currentTarget.value)} />
          <Button type="submit" variant="default" loading={put.isPending} disabled={user.trim() === ""}>
            Add as editor
          </Button>
        </Group>
      </form>
      {[put, remove].map((act, i) => act.isError && <Failure key={i} error={act.error} />)}
      <Loaded query={query} height={80}>
        {({ items }) =>
          items.length === 0 ? (
            <Text size="sm" c="dimmed">
              No members: only administrators of the installation see this project.
            </Text>
          ) : (
            <DataTable caption={`Members of ${project}`} rows={items} columns={columns} rowKey={(one) => one.user} maxHeight="30vh" />
          )
        }
      </Loaded>
    </Stack>
  );
}
