import { Anchor, Button, Code, CopyButton, Drawer, Group, Stack, Table, Text } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { type JSX, useMemo, useState } from "react";

import { api, ApiError, body, type Schemas } from "@/api/client";
import { type Column, DataTable } from "@/components/DataTable";
import { ExportMenu } from "@/components/ExportMenu";
import { Filter } from "@/components/Filter";
import { Page as Frame } from "@/components/Page";
import { Empty, Failure, Loaded } from "@/components/States";
import { ago, bytes, compact, DASH, moment, number, plural, short } from "@/lib/format";
import { sortOf, sortText } from "@/lib/sort";

type Model = Schemas["ModelOut"];
const route = getRouteApi("/models");
const PAGE = 100;

export default function Page(): JSX.Element {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const q = search.q ?? "";
  const sort = search.sort ?? "-created";
  const [selected, setSelected] = useState<Set<string>>(new Set());
  const [open, setOpen] = useState<Model | null>(null);
  const models = useInfiniteQuery({
    queryKey: ["models", q, sort],
    queryFn: ({ pageParam, signal }) => body(api.GET("/api/v1/models", { params: { query: { filter: q, sort, limit: PAGE, ...(pageParam === null ? {} : { cursor: pageParam }) } }, signal })),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor,
  });
  const rows = useMemo(() => models.data?.pages.flatMap((page) => page.items) ?? [], [models.data]);
  const refusal = models.error instanceof ApiError && models.error.status === 422 ? models.error : null;
  const columns = useMemo(() => columnsOf(setOpen), []);
  return (
    <Frame title="Models" name="Models" actions={<ExportMenu name="models" columns={columns} rows={rows} />}>
      <Text size="sm" c="dimmed">
        Finished students. Each is a plain file that loads without its teacher, without the method and without this service.
      </Text>
      <Filter key={q} value={q} example="method:bckd AP>30 seed:0 tag:approved" refused={refusal?.message} onApply={(text) => void navigate({ search: (before) => ({ ...before, q: text || undefined }) })} />
      {selected.size > 0 && (
        <Group gap="xs" role="group" aria-label={plural(selected.size, "selected model")}>
          <Text size="sm">{selected.size} selected</Text>
          <Button component={Link} to={`/compare?runs=${[...selected].slice(0, 100).join(",")}`} size="compact-sm" disabled={selected.size < 2}>
            Compare
          </Button>
          <Button size="compact-sm" variant="subtle" onClick={() => setSelected(new Set())}>
            Clear
          </Button>
        </Group>
      )}
      {refusal !== null ? (
        <Failure error={refusal} />
      ) : (
        <Loaded query={models} height={480}>
          {() =>
            rows.length === 0 ? (
              q === "" ? (
                <Empty title="No model yet">
                  A job that succeeds leaves one. <Anchor component={Link} to="/new">Submit a job</Anchor>.
                </Empty>
              ) : (
                <Empty title="No model passes this filter" />
              )
            ) : (
              <DataTable
                caption="Models"
                rows={rows}
                columns={columns}
                rowKey={(model) => model.job.id}
                rowLabel={(model) => model.job.name}
                sort={sortOf(sort)}
                onSort={(next) => void navigate({ search: (before) => ({ ...before, sort: sortText(next) === "-created" ? undefined : sortText(next) }) })}
                selected={selected}
                onSelect={setSelected}
                onEnd={() => {
                  if (models.hasNextPage && !models.isFetchingNextPage) void models.fetchNextPage();
                }}
              />
            )
          }
        </Loaded>
      )}
      <Drawer opened={open !== null} onClose={() => setOpen(null)} title={open?.job.name} position="right" size="lg" closeButtonProps={{ "aria-label": "Close" }}>
        {open !== null && <One model={open} />}
      </Drawer>
    </Frame>
  );
}

function columnsOf(open: (model: Model) => void): Column<Model>[] {
  const value = (model: Model, key: string): number | null => model.job.evaluation?.[key] ?? null;
  return [
    {
      id: "name",
      header: "Model",
      serverSort: "name",
      cell: (model) => (
        <Anchor component="button" type="button" size="sm" onClick={() => open(model)}>
          {model.job.name}
        </Anchor>
      ),
      value: (model) => model.job.name,
      width: 320,
    },
    { id: "method", header: "Method", cell: (model) => model.job.methods.join(" + ") || "labels alone", value: (model) => model.job.methods.join(" + ") },
    { id: "detector", header: "Detector", serverSort: "detector", cell: (model) => model.job.detector, value: (model) => model.job.detector },
    { id: "seed", header: "Seed", serverSort: "seed", align: "right", cell: (model) => model.job.seed, value: (model) => model.job.seed },
    { id: "AP", header: "AP", help: "Of the final evaluation, in points. Compare within a protocol only.", serverSort: "best.AP", align: "right", cell: (model) => number(value(model, "AP")), value: (model) => value(model, "AP") },
    { id: "AP50", header: "AP50", align: "right", cell: (model) => number(value(model, "AP50")), value: (model) => value(model, "AP50") },
    { id: "protocol", header: "Protocol", help: "How AP was measured: data, thresholds, precision. Equal letters: comparable.", cell: (model) => <Code>{model.protocol?.slice(0, 6) ?? DASH}</Code>, value: (model) => model.protocol },
    { id: "parameters", header: "Parameters", serverSort: "last.parameters", align: "right", cell: (model) => short(model.parameters), value: (model) => model.parameters },
    { id: "gflops", header: "GFLOPs", help: "Of one image; a multiply-add counts as two.", serverSort: "last.gflops", align: "right", cell: (model) => compact(model.gflops), value: (model) => model.gflops },
    { id: "latency", header: "ms an image", help: "From its bytes to detections, on the device that trained it: hover for its name.", serverSort: "last.latency_ms", align: "right", cell: (model) => <span title={model.device ?? ""}>{compact(model.latency_ms)}</span>, value: (model) => model.latency_ms },
    { id: "size", header: "File", align: "right", cell: (model) => (model.file === null ? "gone" : bytes(model.file.size)), value: (model) => model.file?.size ?? null },
    { id: "teaches", header: "Teaches", help: "Jobs that have it as their teacher.", align: "right", cell: (model) => (model.teaches === 0 ? "" : model.teaches), value: (model) => model.teaches },
    { id: "created", header: "Submitted", serverSort: "created", align: "right", cell: (model) => ago(model.job.created_at), value: (model) => model.job.created_at },
  ];
}

/** What can be done with a model, and what it rests on. */
function One({ model }: { model: Model }): JSX.Element {
  const { job, file } = model;
  const use = `bcd download ${job.id}\nbcd export ${file?.name ?? "student.safetensors"} --out student.onnx`;
  const facts: [string, string | null][] = [
    ["Job", job.id],
    ["AP", number(job.evaluation?.["AP"])],
    ["Weights of step", file === null ? null : String(file.step)],
    ["SHA-256", file?.sha256 ?? null],
    ["Size", file === null ? null : bytes(file.size)],
    ["Parameters", short(model.parameters)],
    ["Latency", model.latency_ms === null ? null : `${compact(model.latency_ms)} ms on ${model.device ?? "a device that was not told"}`],
    ["Protocol", model.protocol],
    ["Data version", model.data_version],
    ["Code", model.git_commit],
    ["Submitted", moment(job.created_at)],
  ];
  return (
    <Stack>
      <Group gap="xs">
        {file !== null && (
          <Button component="a" href={`/api/v1/artifacts/${encodeURIComponent(file.artifact_id)}/content`} download={file.name} size="sm">
            Download
          </Button>
        )}
        <Button component={Link} to={`/jobs/${job.id}`} variant="default" size="sm">
          Its job
        </Button>
        {file !== null && (
          <Button component={Link} to={`/new?teacher=${job.id}`} variant="default" size="sm">
            Use as teacher
          </Button>
        )}
        {job.teacher_job_id !== null && (
          <Button component={Link} to={`/jobs/${job.teacher_job_id}`} variant="default" size="sm">
            Its teacher
          </Button>
        )}
      </Group>
      <Table>
        <Table.Tbody>
          {facts.map(([name, value]) => (
            <Table.Tr key={name}>
              <Table.Th>{name}</Table.Th>
              <Table.Td style={{ overflowWrap: "anywhere" }}>{value ?? DASH}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
      <Text size="sm">For other runtimes, on the command line:</Text>
      <Code block>{use}</Code>
      <CopyButton value={use}>
        {({ copied, copy }) => (
          <Button variant="default" size="compact-sm" onClick={copy} style={{ alignSelf: "flex-start" }}>
            {copied ? "Copied" : "Copy"}
          </Button>
        )}
      </CopyButton>
    </Stack>
  );
}
