import { describe, expect, it } from "vitest";

import type { Schemas } from "@/api/client";

import { objectMarks, seenMarks, summary } from "./marks";
import type { Look } from "./Pane";

const image: Schemas["ImageOut"] = {
  image: 1,
  file_name: "a.png",
  width: 100,
  height: 100,
  objects: [
    { box: [0, 0, 10, 10], label: "cat", ignore: false },
    { box: [20, 20, 40, 40], label: "dog", ignore: false },
    { box: [50, 50, 60, 60], label: "dog", ignore: true },
  ],
  views: [],
};
const seen: Schemas["SeenBy"] = {
  job_id: "job_1",
  detections: [
    { box: [0, 0, 10, 10], label: "cat", score: 0.912, verdict: "right" },
    { box: [70, 70, 80, 80], label: "dog", score: 0.5, verdict: "background" },
    { box: [50, 50, 60, 60], label: "dog", score: 0.4, verdict: "ignored" },
  ],
  found: [true, false, false],
};
const all = new Set<Look>(["right", "wrong", "missed", "ignored"]);

describe("marks", () => {
  it("tell in words what is right, wrong and missed", () => {
    expect(seenMarks(image, seen, all).map((mark) => mark.label)).toEqual(["dog 0.40 (ignored)", "dog 0.50 ✗ nothing there", "cat 0.91", "missed dog"]);
    expect(summary(image, seen)).toBe("1 right, 1 wrong, 1 missed");
    expect(objectMarks(image).map((mark) => mark.label)).toEqual(["cat", "dog", "dog (ignored)"]);
  });
  it("can be left out", () => {
    expect(seenMarks(image, seen, new Set<Look>(["missed"])).map((mark) => mark.label)).toEqual(["missed dog"]);
  });
});
