/** One image with the boxes of one run, or with its objects. What is right and wrong is told by line and word, too. */
import { Text } from "@mantine/core";
import { useElementSize } from "@mantine/hooks";
import { type JSX, type PointerEvent, useEffect, useRef } from "react";

import type { Schemas } from "@/api/client";

import { panned, type Viewport, zoomed } from "./viewport";

type Box = Schemas["ObjectOut"]["box"];
export type Look = "right" | "wrong" | "missed" | "ignored" | "object";

export interface Mark {
  key: string;
  box: Box;
  look: Look;
  /** Written beside the box. */
  label: string;
}

interface Props {
  title: string;
  summary: string;
  source: string;
  image: { width: number; height: number };
  marks: readonly Mark[];
  labels: boolean;
  view: Viewport;
  onView: (view: Viewport) => void;
}

const STYLES: Record<Look, { color: string; dash: string; width: number }> = {
  right: { color: "#56b4e9", dash: "", width: 2.5 },
  wrong: { color: "#ff8f4a", dash: "7 4", width: 2.5 },
  missed: { color: "#ffe14d", dash: "2 4", width: 3.5 },
  ignored: { color: "#c4c4c4", dash: "1 3", width: 1.5 },
  object: { color: "#ffffff", dash: "", width: 2 },
};

export function Pane({ title, summary, source, image, marks, labels, view, onView }: Props): JSX.Element {
  const { ref, width } = useElementSize();
  const svg = useRef<SVGSVGElement>(null);
  const drag = useRef<{ x: number; y: number; view: Viewport } | null>(null);
  const height = width * (image.height / image.width);
  const scale = width > 0 ? view.width / width : 1; // pixels of the image for one of the screen
  const at = (x: number, y: number): { x: number; y: number } => {
    const frame = svg.current?.getBoundingClientRect();
    return { x: view.x + (x - (frame?.left ?? 0)) * scale, y: view.y + (y - (frame?.top ?? 0)) * scale };
  };
  useEffect(() => {
    const element = svg.current;
    if (element === null) return undefined;
    // Not React's handler, which cannot keep the page from zooming. The wheel alone scrolls the page, as everywhere.
    const wheel = (event: WheelEvent): void => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      onView(zoomed(view, event.deltaY < 0 ? 1.25 : 0.8, at(event.clientX, event.clientY), image));
    };
    element.addEventListener("wheel", wheel, { passive: false });
    return () => element.removeEventListener("wheel", wheel);
  });
  const move = (event: PointerEvent): void => {
    if (drag.current !== null) onView(panned(drag.current.view, (drag.current.x - event.clientX) * scale, (drag.current.y - event.clientY) * scale, image));
  };
  return (
    <figure style={{ margin: 0, minWidth: 0 }}>
      <Text component="figcaption" size="sm" mb={4}>
        <b>{title}</b> · {summary}
      </Text>
      <div ref={ref} style={{ overflow: "hidden", borderRadius: 4, background: "#222", minHeight: 60 }}>
        {width > 0 && (
          <svg
            ref={svg}
            width={width}
            height={height}
            viewBox={`${view.x} ${view.y} ${view.width} ${view.height}`}
            role="img"
            aria-label={`${title}: ${summary}`}
            style={{ display: "block", cursor: view.width < image.width ? "grab" : "zoom-in", touchAction: view.width < image.width ? "none" : "auto" }}
            onDoubleClick={(event) => onView(zoomed(view, 2, at(event.clientX, event.clientY), image))}
            onPointerDown={(event) => {
              drag.current = { x: event.clientX, y: event.clientY, view };
              event.currentTarget.setPointerCapture(event.pointerId);
            }}
            onPointerMove={move}
            onPointerUp={() => (drag.current = null)}
            onPointerCancel={() => (drag.current = null)}
          >
            <image href={source} width={image.width} height={image.height} preserveAspectRatio="none" style={{ imageRendering: scale < 0.4 ? "pixelated" : "auto" }} />
            {marks.map((mark) => (
              <Rectangle key={mark.key} mark={mark} scale={scale} labels={labels} top={view.y} />
            ))}
          </svg>
        )}
      </div>
    </figure>
  );
}

function Rectangle({ mark, scale, labels, top }: { mark: Mark; scale: number; labels: boolean; top: number }): JSX.Element {
  const [x1, y1, x2, y2] = mark.box;
  const { color, dash, width } = STYLES[mark.look];
  const shape = { x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1), fill: "none", vectorEffect: "non-scaling-stroke" } as const;
  const above = y1 - 5 * scale - 11 * scale > top;
  return (
    <g>
      <title>{mark.label}</title>
      <rect {...shape} stroke="#000" strokeOpacity={0.65} strokeWidth={width + 2.5} />
      <rect {...shape} stroke={color} strokeWidth={width} strokeDasharray={dash} />
      {labels && (
        <text x={x1} y={above ? y1 - 5 * scale : y1 + 13 * scale} fontSize={11.5 * scale} fontWeight={600} fill={color} stroke="#000" strokeWidth={3 * scale} strokeOpacity={0.8} paintOrder="stroke" style={{ pointerEvents: "none" }}>
          {mark.label}
        </text>
      )}
    </g>
  );
}
