import { describe, expect, it } from "vitest";

import { charts } from "./metrics";

describe("charts", () => {
  it("never mix losses with accuracy", () => {
    const found = charts(["loss", "AP", "loss/qfl", "AP50", "lr", "images_per_second"]);
    expect(found.map((chart) => chart.keys)).toEqual([["AP", "AP50"], ["loss", "loss/qfl"], ["images_per_second"], ["lr"]]);
    expect(found.filter((chart) => chart.accuracy)).toHaveLength(1);
  });
  it("are none for a run without values", () => {
    expect(charts([])).toEqual([]);
  });
});
