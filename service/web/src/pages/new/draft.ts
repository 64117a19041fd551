/** What a person is about to submit: a spec as YAML, over seeds, with or without the comparison that it needs. */

export interface Draft {
  text: string;
  seeds: string;
  group: string;
  tags: string;
  fair: boolean;
}

export const START: Draft = {
  text: `name: digits-small
data:
  type: digits-scenes-v1   # generated scenes of handwritten digits: needs no files
  train_images: 128
  val_images: 64
  image_size: 96
student:
  backbone: tiny
  width: 8
  fpn_channels: 16
  stacked_convs: 1
  strides: [8, 16]
schedule:
  steps: 200
  batch_size: 8
`,
  seeds: "0",
  group: "",
  tags: "",
  fair: false,
};

const MOST_SEEDS = 50;

/** "0, 1, 4-6" as numbers, in order, each once. Throws with what to write. */
export function seedsOf(text: string): number[] {
  const found = new Set<number>();
  for (const part of text.split(",").map((one) => one.trim())) {
    const match = /^(\d{1,9})(?:\s*-\s*(\d{1,9}))?$/.exec(part);
    if (match === null) throw new Error("write seeds as 0, 1, 2 or 0-4");
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    if (last < first) throw new Error(`${part} runs backwards: write ${last}-${first}`);
    if (found.size + last - first >= MOST_SEEDS) throw new Error(`at most ${MOST_SEEDS} seeds at once`);
    for (let seed = first; seed <= last; seed++) found.add(seed);
  }
  return [...found].sort((a, b) => a - b);
}

export type Spec = Record<string, unknown>;

/** The specs to submit, one for each seed; with `fair` also the same student on labels alone, over the same seeds. */
export function specsOf(spec: Spec, seeds: readonly number[], fair: boolean): Spec[] {
  const distilled = seeds.map((seed) => ({ ...spec, seed }));
  if (!fair || !isDistilled(spec)) return distilled;
  const alone = Object.fromEntries(Object.entries(spec).filter(([key]) => key !== "teacher" && key !== "methods"));
  const name = typeof spec["name"] === "string" ? spec["name"] : "run";
  return [...distilled, ...seeds.map((seed) => ({ ...alone, name: `${name}-baseline`, seed }))];
}

/** The spec of a job as that of a student of its student: on the same data, to be made smaller by whoever reads it. */
export function taughtBy(id: string, spec: Spec): Spec {
  const name = typeof spec["name"] === "string" ? spec["name"] : "run";
  const rest = Object.fromEntries(Object.entries(spec).filter(([key]) => !["name", "seed", "teacher", "methods"].includes(key)));
  return { name: `student-of-${name}`.slice(0, 100), ...rest, teacher: { job: id }, methods: [{ type: "bckd" }] };
}

export function isDistilled(spec: Spec | null): boolean {
  const methods = spec?.["methods"];
  return Array.isArray(methods) && methods.length > 0;
}

/** A word that no other visit of the page has. (`crypto.randomUUID` is missing on plain http.) */
export function nonce(): string {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The idempotency key of one submission: pressing again after a lost answer makes no second job, a change does. */
export function keyOf(visit: string, content: unknown): string {
  let hash = 0xcbf29ce484222325n; // FNV-1a
  for (const byte of new TextEncoder().encode(JSON.stringify(content))) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return `web-${visit}-${hash.toString(16)}`;
}
