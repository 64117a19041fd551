import { describe, expect, it } from "vitest";

import { linesOf } from "./curves";

const curve = { group: null, metric: "AP", runs: ["job_1"], points: 3, width: null, x: [1, 2, 3], last: [1, 3, 3], min: [1, 3, 3], max: [1, 3, 3], mean: null, std: null, n: null };
const runs = new Map([["job_1", { id: "job_1", name: "bckd 0", method: "bckd" }]]);

describe("linesOf", () => {
  it("names a run by its job", () => {
    expect(linesOf([curve], runs, 0)[0]).toMatchObject({ label: "bckd 0", method: "bckd", y: [1, 3, 3] });
  });
  it("smooths the line and leaves the band as it is", () => {
    const grouped = { ...curve, group: "bckd", last: null, mean: [1, 3, 3], std: [null, 1, 1], n: [1, 2, 2] };
    const [line] = linesOf([grouped], runs, 0.5);
    expect(line?.y[1]).not.toBe(3);
    expect([line?.low, line?.high]).toEqual([[null, 2, 2], [null, 4, 4]]);
  });
});
