import { describe, expect, it } from "vitest";

import { panned, whole, zoomed } from "./viewport";

const image = { width: 200, height: 100 };

describe("the viewport", () => {
  it("keeps the point under the pointer where it is", () => {
    const view = zoomed(whole(200, 100), 2, { x: 50, y: 50 }, image);
    expect(view).toEqual({ x: 25, y: 25, width: 100, height: 50 });
  });
  it("never leaves the image", () => {
    const near = zoomed(whole(200, 100), 4, { x: 200, y: 100 }, image);
    expect(near).toEqual({ x: 150, y: 75, width: 50, height: 25 });
    expect(panned(near, 500, -500, image)).toEqual({ x: 150, y: 0, width: 50, height: 25 });
    expect(zoomed(near, 0.01, { x: 0, y: 0 }, image)).toEqual(whole(200, 100));
    expect(zoomed(near, 1000, { x: 150, y: 75 }, image).width).toBe(10);
  });
});
