/** Ground truth and runs side by side on one image; they zoom and move together. */
import { Button, Group, Stack, Text } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { type JSX, useState } from "react";

import { api, body, type Schemas } from "@/api/client";
import { type Column, DataTable } from "@/components/DataTable";
import { Loaded } from "@/components/States";
import { plural } from "@/lib/format";

import { lookOf, objectMarks, seenMarks, summary } from "./marks";
import { type Look, Pane } from "./Pane";
import { type Viewport, whole, zoomed } from "./viewport";

type Image = Schemas["ImageOut"];

interface Props {
  image: number;
  runs: readonly { role: string; id: string; name: string }[];
  thresholds: { score: number; iou: number; label?: string };
  shown: ReadonlySet<Look>;
  labels: boolean;
  reasons: readonly string[];
}

export function Panes({ image, runs, thresholds, shown, labels, reasons }: Props): JSX.Element {
  const ids = runs.map((run) => run.id).join(",");
  const query = useQuery({
    queryKey: ["image", image, ids, thresholds],
    // The client's types make plain arrays of the boxes.
    queryFn: async ({ signal }) => (await body(api.GET("/api/v1/compare/images/{image}", { params: { path: { image }, query: { ids, ...thresholds } }, signal }))) as Image,
    placeholderData: keepPreviousData,
    staleTime: Infinity,
  });
  return (
    <div style={{ minWidth: 0 }}>
      <Loaded query={query} height={400}>
        {(found) => <Beside key={found.image} found={found} runs={runs} shown={shown} labels={labels} reasons={reasons} />}
      </Loaded>
    </div>
  );
}

function Beside({ found, runs, shown, labels, reasons }: Omit<Props, "image" | "thresholds"> & { found: Image }): JSX.Element {
  const [view, setView] = useState<Viewport>(() => whole(found.width, found.height));
  const centre = { x: view.x + view.width / 2, y: view.y + view.height / 2 };
  const source = `/api/v1/jobs/${encodeURIComponent(runs[0]?.id ?? "")}/images/${String(found.image)}/content`;
  const common = { source, image: found, labels, view, onView: setView };
  const asked = found.objects.filter((one) => !one.ignore).length;
  return (
    <Stack gap="sm">
      <Group justify="space-between" align="start" wrap="nowrap">
        <div style={{ minWidth: 0 }}>
          <Text fw={600}>{found.file_name}</Text>
          {reasons.map((reason) => (
            <Text size="sm" key={reason}>
              {reason}
            </Text>
          ))}
        </div>
        <Button.Group>
          <Button variant="default" size="compact-sm" aria-label="Zoom in" onClick={() => setView(zoomed(view, 1.5, centre, found))}>
            +
          </Button>
          <Button variant="default" size="compact-sm" aria-label="Zoom out" onClick={() => setView(zoomed(view, 1 / 1.5, centre, found))}>
            −
          </Button>
          <Button variant="default" size="compact-sm" onClick={() => setView(whole(found.width, found.height))}>
            Whole
          </Button>
        </Button.Group>
      </Group>
      <div className="panes">
        <Pane title="Ground truth" summary={plural(asked, "object")} marks={objectMarks(found)} {...common} />
        {runs.map((run, i) => {
          const seen = found.views[i];
          return seen === undefined ? null : <Pane key={run.id} title={`${run.role}: ${run.name}`} summary={summary(found, seen)} marks={seenMarks(found, seen, shown)} {...common} />;
        })}
      </div>
      <Text size="sm" c="dimmed">
        Solid blue: right. Dashed orange: wrong, and why. Dotted yellow: an object that is missed. Drag to move; double-click, or Ctrl and the wheel, to zoom.
      </Text>
      <details>
        <summary>As a table</summary>
        <DataTable caption="Detections on this image" rows={lines(found, runs)} columns={COLUMNS} rowKey={(one) => one.key} />
      </details>
    </Stack>
  );
}

interface Line {
  key: string;
  run: string;
  label: string;
  score: number | null;
  verdict: string;
  box: readonly number[];
}

const COLUMNS: Column<Line>[] = [
  { id: "run", header: "Run", cell: (one) => one.run, value: (one) => one.run },
  { id: "label", header: "Class", cell: (one) => one.label, value: (one) => one.label },
  { id: "score", header: "Score", align: "right", cell: (one) => one.score?.toFixed(2) ?? "", value: (one) => one.score },
  { id: "verdict", header: "Verdict", cell: (one) => one.verdict, value: (one) => one.verdict },
  { id: "box", header: "Box", help: "Left, top, right and bottom, in pixels of the original image.", cell: (one) => one.box.map((value) => value.toFixed(0)).join(", "), value: (one) => one.box.join(" ") },
];

function lines(found: Image, runs: Props["runs"]): Line[] {
  return runs.flatMap((run, i) => {
    const seen = found.views[i];
    if (seen === undefined) return [];
    const name = `${run.role}: ${run.name}`;
    const detections = seen.detections.map((one, n) => ({ key: `${run.id} d${String(n)}`, run: name, label: one.label, score: one.score, verdict: lookOf(one.verdict) === "wrong" ? `wrong (${one.verdict})` : one.verdict, box: one.box }));
    const missed = found.objects.flatMap((one, g) => (one.ignore || seen.found[g] === true ? [] : [{ key: `${run.id} m${String(g)}`, run: name, label: one.label, score: null, verdict: "missed", box: one.box }]));
    return [...detections, ...missed];
  });
}
