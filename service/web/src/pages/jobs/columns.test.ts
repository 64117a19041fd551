import { describe, expect, it } from "vitest";

import { colsOf, metricOf, shownOf, toggled, USUAL } from "./columns";

const known = [...USUAL, "tags", "group"];

describe("columns", () => {
  it("are the usual ones where the address says nothing, and then it says nothing", () => {
    expect(shownOf(undefined, known)).toEqual([...USUAL]);
    expect(colsOf([...USUAL])).toBeUndefined();
  });
  it("leave out what there is not, and what comes twice, and keep the name", () => {
    expect(shownOf(["AP", "colour", "AP", "best.loss"], known)).toEqual(["name", "AP", "best.loss"]);
  });
  it("go back to their place when they are shown again", () => {
    const less = toggled([...USUAL], "seed");
    expect(less).not.toContain("seed");
    expect(toggled(less, "seed")).toEqual([...USUAL]);
    expect(toggled(["name"], "last.loss")).toEqual(["name", "last.loss"]);
    expect(colsOf(toggled(["name"], "tags"))).toEqual(["name", "tags"]);
  });
  it("of metrics say which value", () => {
    expect(metricOf("best.AP/cells")).toEqual({ which: "best", key: "AP/cells" });
    expect(metricOf("seed")).toBeNull();
  });
});
