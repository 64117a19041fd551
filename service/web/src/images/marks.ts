/** What is drawn for one run on one image. */
import type { Schemas } from "@/api/client";

import type { Look, Mark } from "./Pane";

type Image = Schemas["ImageOut"];
type Seen = Schemas["SeenBy"];

const WORDS: Record<string, string> = { classification: "wrong class", localisation: "wrong place", both: "wrong class and place", duplicate: "duplicate", background: "nothing there", wrong: "wrong" };

export function lookOf(verdict: Schemas["DetectionOut"]["verdict"]): Look {
  return verdict === "right" || verdict === "ignored" ? verdict : "wrong";
}

export function objectMarks(image: Image): Mark[] {
  return image.objects.map((one, i) => ({ key: `o${String(i)}`, box: one.box, look: one.ignore ? "ignored" : "object", label: one.ignore ? `${one.label} (ignored)` : one.label }));
}

/** The kinds in `shown` only; what is missed last, so that it lies on top. */
export function seenMarks(image: Image, seen: Seen, shown: ReadonlySet<Look>): Mark[] {
  const detections = seen.detections.map((one, i): Mark => {
    const look = lookOf(one.verdict);
    const word = look === "wrong" ? ` ✗ ${WORDS[one.verdict] ?? one.verdict}` : look === "ignored" ? " (ignored)" : "";
    return { key: `d${String(i)}`, box: one.box, look, label: `${one.label} ${one.score.toFixed(2)}${word}` };
  });
  const missed = image.objects.flatMap((one, i): Mark[] => (one.ignore || seen.found[i] === true ? [] : [{ key: `m${String(i)}`, box: one.box, look: "missed", label: `missed ${one.label}` }]));
  // The surest detection last, on top of the others.
  return [...detections.reverse(), ...missed].filter((mark) => shown.has(mark.look));
}

/** 3 right, 1 wrong, 2 missed */
export function summary(image: Image, seen: Seen): string {
  const looks = seen.detections.map((one) => lookOf(one.verdict));
  const count = (look: Look): number => looks.filter((one) => one === look).length;
  const missed = image.objects.filter((one, i) => !one.ignore && seen.found[i] !== true).length;
  return `${String(count("right"))} right, ${String(count("wrong"))} wrong, ${String(missed)} missed`;
}
