import { describe, expect, it } from "vitest";

import type { Schemas } from "@/api/client";

import { casts } from "./casts";

const group = (role: Schemas["GroupOut"]["role"], label: string, ...jobs: [string, number][]): Schemas["GroupOut"] => ({
  role, label, protocol: "p", n: jobs.length, mean: 1, std: null, low: null, high: null,
  jobs: jobs.map(([id, seed]) => ({ id, name: id, seed, AP: 1, AP50: null, AP75: null, APs: null, APm: null, APl: null })),
});

describe("casts", () => {
  it("put each student beside its teacher and the baseline of its seed", () => {
    const answer = {
      groups: [group("distilled", "d", ["d0", 0], ["d2", 2]), group("baseline", "b", ["b0", 0], ["b1", 1]), group("teacher", "t", ["t", 0])],
      comparisons: [{ label: "d", baseline_label: "b", teacher_label: "t" } as Schemas["ComparisonOut"]],
    };
    const ids = casts(answer).map((one) => [one.student.id, one.teacher?.id, one.baseline?.id]);
    expect(ids).toEqual([["d0", "t", "b0"], ["d2", "t", "b0"], ["b0", undefined, undefined], ["b1", undefined, undefined], ["t", undefined, undefined]]);
  });
});
