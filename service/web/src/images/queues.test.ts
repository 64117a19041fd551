import { describe, expect, it } from "vitest";

import { moved, queuesOf } from "./queues";

const [student, teacher, baseline] = ["s", "t", "b"].map((id) => ({ id, name: id }));

describe("queues", () => {
  it("ask only about runs that are there", () => {
    if (student === undefined || teacher === undefined || baseline === undefined) throw new Error();
    expect(queuesOf({ student, teacher, baseline }).map((one) => one.id)).toEqual(["teacher-right", "student-right", "both-wrong", "gap", "lost", "won", "mistakes"]);
    expect(queuesOf({ student, teacher: null, baseline }).map((one) => one.id)).toEqual(["lost", "won", "mistakes"]);
    expect(queuesOf({ student, teacher: null, baseline: null })).toEqual([{ id: "mistakes", label: "Most mistakes", first: student, second: null, kind: "mistakes" }]);
  });
});

describe("moving", () => {
  it("stays inside the list", () => {
    expect([moved(-1, 1, 5), moved(0, -1, 5), moved(4, 1, 5), moved(2, 1, 5)]).toEqual([0, 0, 4, 3]);
  });
});
