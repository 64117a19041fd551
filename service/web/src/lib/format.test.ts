import { describe, expect, it } from "vitest";

import { ago, bytes, compact, DASH, duration, interval, meanStd, number, percent, plural, short, signed } from "./format";

describe("numbers", () => {
  it("are rounded and carry a real minus sign", () => {
    expect(number(39.66)).toBe("39.7");
    expect(number(-0.04)).toBe("0.0");
    expect(number(-1.25, 2)).toBe("−1.25");
    expect(number(null)).toBe(DASH);
    expect(number(NaN)).toBe(DASH);
  });
  it("show the sign of differences", () => {
    expect([signed(4.66), signed(-0.3), signed(0)]).toEqual(["+4.7", "−0.3", "0.0"]);
  });
  it("are compact with three digits", () => {
    expect([compact(0.00123456), compact(12.345), compact(1234.5), compact(0.00001234), compact(-0.5)]).toEqual([
      "0.00123", "12.3", "1,235", "1.23e−5", "−0.5",
    ]); // prettier-ignore
  });
  it("come as mean and deviation, interval, share", () => {
    expect(meanStd(39.66, 0.51)).toBe("39.7 ± 0.5");
    expect(meanStd(39.66, null)).toBe("39.7");
    expect(interval(1.5, 7.8)).toBe("[+1.5, +7.8]");
    expect(percent(0.362)).toBe("36 %");
  });
});

describe("times and sizes", () => {
  it("use the two largest units", () => {
    expect([duration(0.85), duration(12), duration(200), duration(7500), duration(273600)]).toEqual([
      "850 ms", "12 s", "3 min 20 s", "2 h 5 min", "3 d 4 h",
    ]); // prettier-ignore
    expect(ago(1000, 1003)).toBe("just now");
    expect(ago(1000, 8500)).toBe("2 h ago");
  });
  it("are decimal bytes", () => {
    expect([bytes(0), bytes(1234), bytes(999_950), bytes(2.5e9)]).toEqual(["0 B", "1.23 kB", "1 MB", "2.5 GB"]);
  });
  it("agree with their number", () => {
    expect([plural(1, "run"), plural(1200, "run"), plural(2, "query", "queries")]).toEqual(["1 run", "1,200 runs", "2 queries"]);
  });
});

describe("short", () => {
  it("writes millions and billions", () => {
    expect([610_000, 999_400, 2_410_000, 1.5e9, 3].map(short)).toEqual(["610,000", "999,400", "2.41 M", "1.5 G", "3"]);
    expect(short(null)).toBe("–");
  });
});
