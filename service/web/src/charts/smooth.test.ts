import { describe, expect, it } from "vitest";

import { smooth } from "./smooth";

describe("smooth", () => {
  it("leaves a constant line where it is, from its first point on", () => {
    expect(smooth([5, 5, 5, 5], 0.9).map((value) => value?.toFixed(9))).toEqual(Array(4).fill("5.000000000"));
  });
  it("weighs as worked out by hand", () => {
    // (0.5*0.5*1 + 0.5*3) / (0.5*0.5 + 0.5)
    expect(smooth([1, 3], 0.5)[1]).toBeCloseTo(1.75 / 0.75, 12);
  });
  it("passes over holes and does nothing with weight 0", () => {
    expect(smooth([1, null, 3], 0)).toEqual([1, null, 3]);
    expect(smooth([1, null, 1], 0.5)[2]).toBeCloseTo(1, 12);
  });
});
