/** A method's mark. Told apart by its shape, not by its colour alone. */
import type { JSX } from "react";

import type { Look } from "./palette";

interface Props {
  shape: Look["marker"];
  x: number;
  y: number;
  /** Half of its width, in pixels. */
  size: number;
  color: string;
  filled: boolean;
}

const OPEN = new Set<Look["marker"]>(["cross", "plus", "star", "wye"]);

export function Mark({ shape, x, y, size, color, filled }: Props): JSX.Element {
  const open = OPEN.has(shape);
  const common = { fill: filled && !open ? color : "var(--mantine-color-body)", stroke: color, strokeWidth: open && filled ? 3.5 : 2 };
  if (shape === "circle") return <circle cx={x} cy={y} r={size} {...common} />;
  if (shape === "square") return <rect x={x - size} y={y - size} width={2 * size} height={2 * size} {...common} />;
  const at = (points: readonly (readonly [number, number])[]): string => points.map(([dx, dy]) => `${x + dx * size},${y + dy * size}`).join(" ");
  if (shape === "triangle") return <polygon points={at([[0, -1.1], [1.05, 0.8], [-1.05, 0.8]])} {...common} />;
  if (shape === "diamond") return <polygon points={at([[0, -1.3], [1.1, 0], [0, 1.3], [-1.1, 0]])} {...common} />;
  const angles = { cross: [45, 135, 225, 315], plus: [0, 90, 180, 270], star: [30, 90, 150, 210, 270, 330], wye: [90, 210, 330] }[shape];
  return (
    <g stroke={color} strokeWidth={common.strokeWidth}>
      {angles.map((angle) => (
        <line key={angle} x1={x} y1={y} x2={x + 1.2 * size * Math.cos((angle * Math.PI) / 180)} y2={y - 1.2 * size * Math.sin((angle * Math.PI) / 180)} />
      ))}
    </g>
  );
}
