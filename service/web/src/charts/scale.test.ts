import { describe, expect, it } from "vitest";

import { apart, ticks } from "./scale";

describe("ticks", () => {
  it("are round numbers around the values", () => {
    expect(ticks(31.2, 47.9).at).toEqual([30, 35, 40, 45, 50]);
    expect(ticks(0, 9000).at).toEqual([0, 2000, 4000, 6000, 8000, 10000]);
    expect(ticks(0, 0.31).at).toEqual([0, 0.1, 0.2, 0.3, 0.4]);
  });
  it("have a width where all values are one", () => {
    for (const value of [0, 5, -3]) {
      const { low, high } = ticks(value, value);
      expect(low).toBeLessThan(high);
      expect(low).toBeLessThanOrEqual(value);
      expect(high).toBeGreaterThanOrEqual(value);
    }
  });
});

describe("apart", () => {
  it("keeps what is far and moves what is near down", () => {
    expect(apart([50, 10, 12], 14)).toEqual([50, 10, 24]);
    expect(apart([], 14)).toEqual([]);
  });
});
