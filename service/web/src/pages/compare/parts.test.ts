import { describe, expect, it } from "vitest";

import type { Schemas } from "@/api/client";

import { across, clear } from "./parts";

function part(name: string, mean: number): Schemas["Part"] {
  return { name, mean, distilled: 30 + mean, baseline: 30, teacher: null, n: 3, paired: true, low: null, high: null, p: null, p_adjusted: null, verdict: "no clear difference" };
}

describe("classes over comparisons", () => {
  it("stand side by side though one comparison lacks some", () => {
    const rows = across([{ classes: [part("cat", 1)] }, { classes: [part("cat", 2), part("dog", 3)] }]);
    expect(rows.map((row) => [row.name, ...row.parts.map((one) => one?.mean)])).toEqual([
      ["cat", 1, 2],
      ["dog", undefined, 3],
    ]);
  });
  it("are clear by their verdict alone", () => {
    expect([clear({ verdict: "better" }), clear({ verdict: "worse" }), clear({ verdict: "no clear difference" }), clear({ verdict: "not enough seeds" })]).toEqual([true, true, false, false]);
  });
});
