/** Which images are worth a look: each queue asks about one run, or about two. */
import type { QueueId } from "./search";

export interface Seen {
  id: string;
  name: string;
}

/** The runs that are looked at side by side. */
export interface Cast {
  student: Seen;
  teacher: Seen | null;
  baseline: Seen | null;
}

export interface Queue {
  id: QueueId;
  label: string;
  first: Seen;
  second: Seen | null;
  kind: "mistakes" | "first right" | "second right" | "both wrong" | "largest gap";
}

/** Those that make sense for these runs; the first one is what is shown at first. */
export function queuesOf({ student, teacher, baseline }: Cast): Queue[] {
  const out: Queue[] = [];
  if (teacher !== null) {
    const pair = { first: teacher, second: student };
    out.push(
      { id: "teacher-right", label: "Teacher right, student wrong", ...pair, kind: "first right" },
      { id: "student-right", label: "Student right, teacher wrong", ...pair, kind: "second right" },
      { id: "both-wrong", label: "Both wrong", ...pair, kind: "both wrong" },
      { id: "gap", label: "Largest difference to the teacher", ...pair, kind: "largest gap" },
    );
  }
  if (baseline !== null) {
    const pair = { first: baseline, second: student };
    out.push(
      { id: "lost", label: "Lost: baseline right, student wrong", ...pair, kind: "first right" },
      { id: "won", label: "Won: student right, baseline wrong", ...pair, kind: "second right" },
    );
  }
  out.push({ id: "mistakes", label: "Most mistakes", first: student, second: null, kind: "mistakes" });
  return out;
}

/** The place after or before one in a list; from nowhere the first. */
export function moved(at: number, by: 1 | -1, count: number): number {
  return at < 0 ? 0 : Math.min(count - 1, Math.max(0, at + by));
}
