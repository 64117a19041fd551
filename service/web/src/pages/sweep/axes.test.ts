import { describe, expect, it } from "vitest";

import { at, type Axis, axesOf, brushesOf, brushesText, kept, position, VALUE } from "./axes";
import { searched, type Trial } from "./sweep";

const SPACE = {
  "schedule.optimizer.lr": { type: "loguniform", low: 0.001, high: 0.1 },
  "student.width": { type: "integer", low: 4, high: 12 },
  methods: { type: "choice", values: [[{ type: "bckd" }], [{ type: "ld" }]], labels: ["bckd", "ld"] },
  "schedule.ema": { type: "choice", values: [0.9, true, null] },
};

function trial(number: number, params: Trial["params"], value: number | null, seed = 0): Trial {
  return { number, seed, job_id: `job_${String(number)}_${String(seed)}`, params, state: "succeeded", step: 4, total_steps: 4, values: value === null ? null : [value], last: null, stopped: null, cause: null, started_at: 0, ended_at: 1 };
}

const TRIALS = [
  trial(1, { "schedule.optimizer.lr": 0.001, "student.width": 4, methods: "bckd", "schedule.ema": 0.9 }, 10),
  trial(2, { "schedule.optimizer.lr": 0.01, "student.width": 8, methods: "ld", "schedule.ema": true }, 30),
  trial(3, { "schedule.optimizer.lr": 0.1, "student.width": 12, methods: "ld" }, null),
];

describe("axes", () => {
  const axes = axesOf(SPACE, "AP", TRIALS);
  const of = (id: string): Axis => {
    const found = axes.find((axis) => axis.id === id);
    if (found === undefined) throw new Error(id);
    return found;
  };

  it("puts a logarithmic range, a linear one, words and the objective from 0 to 1", () => {
    expect(axes.map((axis) => axis.label)).toEqual(["optimizer.lr", "student.width", "methods", "schedule.ema", "AP"]);
    expect(TRIALS.map((one) => position(of("schedule.optimizer.lr"), one)?.toFixed(3))).toEqual(["0.000", "0.500", "1.000"]);
    expect(TRIALS.map((one) => position(of("student.width"), one))).toEqual([0, 0.5, 1]);
    expect(TRIALS.map((one) => position(of("methods"), one))).toEqual([0, 1, 1]);
    expect(TRIALS.map((one) => position(of(VALUE), one))).toEqual([0, 1, null]);
  });

  it("knows words of every type, and that a parameter is missing", () => {
    expect(of("schedule.ema").words).toEqual(["0.9", "true", "null"]);
    expect(TRIALS.map((one) => position(of("schedule.ema"), one))).toEqual([0, 0.5, null]);
  });

  it("finds the value at a place again", () => {
    expect(at(of("schedule.optimizer.lr"), 0.5)).toBeCloseTo(0.01);
    expect(at(of("methods"), 1)).toBe("ld");
    expect(at(of("student.width"), 0.25)).toBe(6);
  });

  it("keeps what passes every brush, never what has no value there", () => {
    expect(kept(TRIALS, axes, {}).length).toBe(3);
    expect(kept(TRIALS, axes, { methods: [0.5, 1] }).map((one) => one.number)).toEqual([2, 3]);
    expect(kept(TRIALS, axes, { methods: [0.5, 1], "schedule.ema": [0, 1] }).map((one) => one.number)).toEqual([2]);
    expect(kept(TRIALS, axes, { [VALUE]: [0.9, 1] }).map((one) => one.number)).toEqual([2]);
  });

  it("writes brushes into an address and reads them again", () => {
    const texts = brushesText({ "student.width": [0.25, 1] });
    expect(texts).toEqual(["student.width:0.25:1"]);
    expect(brushesOf(texts)).toEqual({ "student.width": [0.25, 1] });
    expect(brushesOf(["x", "y:1:0", ":0:1", "z:a:b"])).toEqual({});
  });
});

describe("searched", () => {
  it("takes the search's own run of each number, not its repeats or the default", () => {
    const all = [trial(0, {}, 5, 1), trial(1, {}, 10), trial(1, {}, 9, 1), trial(2, {}, 8)];
    expect(searched(all).map((one) => one.job_id)).toEqual(["job_1_0", "job_2_0"]);
  });
});
