import { Anchor, Button, Group, SimpleGrid, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { type JSX, useState } from "react";

import { api, body, type Schemas } from "@/api/client";
import { type Column, DataTable, type Sort, sorted } from "@/components/DataTable";
import { ExportMenu } from "@/components/ExportMenu";
import { Page as Frame } from "@/components/Page";
import { Section } from "@/components/Section";
import { Empty, Loaded } from "@/components/States";
import { Pane } from "@/images/Pane";
import { whole } from "@/images/viewport";
import { ago, DASH, integer, percent, plural } from "@/lib/format";

type Dataset = Schemas["DatasetOut"];
type Class = Schemas["ClassOut"];
type Picture = Schemas["PictureOut"];
const route = getRouteApi("/datasets");

export default function Page(): JSX.Element {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const query = useQuery({ queryKey: ["datasets"], queryFn: ({ signal }) => body(api.GET("/api/v1/datasets", { signal })) });
  const columns: Column<Dataset>[] = [
    {
      id: "where",
      header: "Data",
      cell: (one) => (
        <Anchor component="button" type="button" size="sm" onClick={() => void navigate({ search: { data: one.id } })}>
          {one.where ?? one.type}
        </Anchor>
      ),
      value: (one) => one.where ?? one.type,
      width: 420,
    },
    { id: "type", header: "Form", cell: (one) => one.type, value: (one) => one.type },
    { id: "version", header: "Version", help: "Of all parts together, in the newest run.", cell: (one) => one.data_version?.slice(0, 12) ?? DASH, value: (one) => one.data_version },
    { id: "runs", header: "Runs", align: "right", cell: (one) => integer(one.runs), value: (one) => one.runs },
    { id: "used", header: "Last used", align: "right", cell: (one) => ago(one.last_used_at), value: (one) => one.last_used_at },
  ];
  return (
    <Frame title="Datasets" name="Datasets">
      <Text size="sm" c="dimmed">
        Validation sets that finished runs were judged on. Sets with equal images and objects are one, whatever their folder is called.
      </Text>
      <Loaded query={query} height={200}>
        {({ items }) => {
          const chosen = items.find((one) => one.id === search.data) ?? items[0];
          return chosen === undefined ? (
            <Empty title="No data set yet">
              They appear when a run has ended. To check one beforehand: <code>bcd data check</code>.
            </Empty>
          ) : (
            <Stack gap="xl">
              <DataTable caption="Datasets" rows={items} columns={columns} rowKey={(one) => one.id} maxHeight="30vh" />
              <One key={chosen.id} dataset={chosen} />
            </Stack>
          );
        }}
      </Loaded>
    </Frame>
  );
}

function One({ dataset }: { dataset: Dataset }): JSX.Element {
  const job = dataset.job_ids[0] ?? "";
  const query = useQuery({
    queryKey: ["data", dataset.id],
    queryFn: ({ signal }) => body(api.GET("/api/v1/jobs/{job_id}/data", { params: { path: { job_id: job }, query: { sample: 12 } }, signal })),
    staleTime: Infinity,
  });
  const [sort, setSort] = useState<Sort>({ id: "objects", descending: true });
  return (
    <Loaded query={query} height={400}>
      {(data) => {
        const most = Math.max(1, ...data.classes.map((one) => one.objects));
        const columns: Column<Class>[] = [
          { id: "name", header: "Class", cell: (one) => one.name, value: (one) => one.name },
          { id: "objects", header: "Objects", align: "right", cell: (one) => integer(one.objects), value: (one) => one.objects },
          { id: "share", header: "Share", cell: (one) => <Bar share={one.objects / most} label={`${one.name}: ${percent(one.objects / (data.objects || 1), 1)} of all objects`} /> },
          { id: "images", header: "Images", help: "That show at least one.", align: "right", cell: (one) => integer(one.images), value: (one) => one.images },
        ];
        const largest = Math.max(1, ...data.sizes.map((one) => one.objects));
        return (
          <Stack gap="xl">
            <Group justify="space-between">
              <Text>
                <b>{dataset.where ?? dataset.type}</b>: {plural(data.objects, "object")} of {plural(data.classes.length, "class", "classes")} on {plural(data.pictures, "picture")}
                {data.whole > data.pictures ? `, which stand for ${integer(data.whole)} images` : ""}
                {data.ignored > 0 ? `; ${integer(data.ignored)} more are ignored (crowds, difficult ones)` : ""}
              </Text>
              <Button component={Link} to={`/compare?runs=${dataset.job_ids.join(",")}`} size="compact-sm" variant="default" disabled={dataset.runs < 2}>
                Compare its runs
              </Button>
            </Group>
            <SimpleGrid cols={{ base: 1, lg: 2 }}>
              <Section title="Classes" menu={<ExportMenu name="classes" columns={columns} rows={data.classes} />}>
                <DataTable caption="Classes" rows={sorted(data.classes, columns, sort)} columns={columns} rowKey={(one) => one.name} sort={sort} onSort={setSort} maxHeight="40vh" />
              </Section>
              <Section title="Sizes of objects">
                <DataTable
                  caption="Sizes of objects"
                  rows={data.sizes}
                  columns={[
                    { id: "size", header: "Pixels", help: "Square root of the area of the box. COCO calls below 32 small, below 96 medium.", cell: (one) => (one.below === null ? `${integer(one.least)} and more` : `${integer(one.least)} to ${integer(one.below)}`) },
                    { id: "objects", header: "Objects", align: "right", cell: (one) => integer(one.objects) },
                    { id: "share", header: "Share", cell: (one) => <Bar share={one.objects / largest} label={percent(one.objects / (data.objects || 1), 1)} /> },
                  ]}
                  rowKey={(one) => String(one.least)}
                />
              </Section>
            </SimpleGrid>
            <Section title="Some pictures">
              <div className="panes small">
                {data.sample.map((picture) => (
                  <Small key={picture.image} picture={picture as Picture} job={job} />
                ))}
              </div>
            </Section>
          </Stack>
        );
      }}
    </Loaded>
  );
}

function Small({ picture, job }: { picture: Picture; job: string }): JSX.Element {
  const [view, setView] = useState(whole(picture.width, picture.height));
  return (
    <Pane
      title={picture.file_name}
      summary={plural(picture.objects.length, "object")}
      source={`/api/v1/jobs/${encodeURIComponent(job)}/images/${String(picture.image)}/content`}
      image={picture}
      marks={picture.objects.map((one, i) => ({ key: String(i), box: one.box, look: one.ignore ? "ignored" : "object", label: one.label }))}
      labels={picture.objects.length <= 8}
      view={view}
      onView={setView}
    />
  );
}

function Bar({ share, label }: { share: number; label: string }): JSX.Element {
  return (
    <svg width={200} height={16} role="img" aria-label={label}>
      <title>{label}</title>
      <rect x={0} y={2} width={Math.max(share > 0 ? 1 : 0, 200 * share)} height={12} fill="var(--bcd-gain)" fillOpacity={0.6} />
    </svg>
  );
}
