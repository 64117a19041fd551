import { describe, expect, it } from "vitest";

import { differing } from "./specs";

const spec = (changes: Record<string, unknown>): Record<string, unknown> => ({ name: "a", seed: 0, data: { image_size: 64 }, methods: [], schedule: { steps: 10 }, ...changes });

describe("differing", () => {
  it("leaves names and seeds out", () => {
    expect(differing([spec({}), spec({ name: "b", seed: 1 })])).toEqual([]);
  });
  it("tells what was meant from what was not, the latter first", () => {
    const rows = differing([spec({}), spec({ methods: [{ type: "bckd" }], schedule: { steps: 20 } })]);
    expect(rows.map((row) => [row.path, row.expected])).toEqual([
      ["schedule.steps", false],
      ["methods", true],
      ["methods.0.type", true],
    ]);
    expect(rows[2]?.values).toEqual(["–", "\"bckd\""]);
  });
});
