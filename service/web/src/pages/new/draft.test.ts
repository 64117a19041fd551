import { describe, expect, it } from "vitest";

import { isDistilled, keyOf, nonce, seedsOf, specsOf, taughtBy } from "./draft";

describe("seedsOf", () => {
  it("reads numbers and ranges", () => {
    expect(seedsOf("2, 0, 4-6, 5")).toEqual([0, 2, 4, 5, 6]);
  });
  it.each(["", "a", "1,,2", "3-1", "0-99", "-1"])("refuses %j with what to write", (text) => {
    expect(() => seedsOf(text)).toThrow();
  });
});

describe("specsOf", () => {
  const spec = { name: "x", teacher: { job: "job_1" }, methods: [{ type: "bckd" }], schedule: { steps: 5 } };
  it("is one for each seed", () => {
    expect(specsOf(spec, [0, 1], false).map((one) => one["seed"])).toEqual([0, 1]);
  });
  it("adds the same student on labels alone over the same seeds", () => {
    const found = specsOf(spec, [0, 1], true);
    expect(found).toHaveLength(4);
    expect(found[2]).toEqual({ name: "x-baseline", schedule: { steps: 5 }, seed: 0 });
  });
  it("adds nothing to what is no distillation", () => {
    expect(isDistilled({ name: "x" })).toBe(false);
    expect(specsOf({ name: "x" }, [0], true)).toHaveLength(1);
  });
});

describe("keyOf", () => {
  it("is the same for the same submission of a visit, and no other", () => {
    const visit = nonce();
    expect(keyOf(visit, { seed: 1 })).toBe(keyOf(visit, { seed: 1 }));
    expect(keyOf(visit, { seed: 1 })).not.toBe(keyOf(visit, { seed: 2 }));
    expect(keyOf(visit, { seed: 1 })).not.toBe(keyOf(nonce(), { seed: 1 }));
  });
  it("is FNV-1a", () => {
    // of the three bytes "a" in JSON, by the published parameters
    expect(keyOf("v", "a")).toBe(`web-v-${fnv([0x22, 0x61, 0x22])}`);
  });
});

function fnv(bytes: number[]): string {
  return bytes.reduce((hash, byte) => ((hash ^ BigInt(byte)) * 1099511628211n) % (1n << 64n), 14695981039346656037n).toString(16);
}

describe("a student of a student", () => {
  it("has the teacher's data and schedule, its method and a name of its own", () => {
    expect(taughtBy("job_1", { name: "big", seed: 3, data: { type: "voc" }, methods: [], teacher: null })).toEqual({ name: "student-of-big", data: { type: "voc" }, teacher: { job: "job_1" }, methods: [{ type: "bckd" }] });
  });
});
