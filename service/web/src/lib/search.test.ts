import { describe, expect, it } from "vitest";

import { flag, list, numeric, oneOf, parseSearch, stringifySearch, text } from "./search";

describe("addresses", () => {
  it("are written without JSON and without what is missing", () => {
    const search = { runs: ["job_1", "job_2"], q: "state:failed AP>30", smooth: 0.5, hidden: undefined, log: true, empty: "" };
    expect(stringifySearch(search)).toBe("?runs=job_1,job_2&q=state:failed+AP%3E30&smooth=0.5&log=1");
    expect(stringifySearch({})).toBe("");
  });
  it("come back as they were", () => {
    const found = parseSearch("?runs=job_1,job_2&q=state:failed+AP%3E30&smooth=0.5&log=1");
    expect(list(found["runs"])).toEqual(["job_1", "job_2"]);
    expect(text(found["q"])).toBe("state:failed AP>30");
    expect(numeric(found["smooth"])).toBe(0.5);
    expect(flag(found["log"])).toBe(true);
  });
  it("pass over nonsense", () => {
    expect(numeric("abc")).toBeUndefined();
    expect(oneOf("blue", ["step", "time"])).toBeUndefined();
    expect(list("")).toBeUndefined();
  });
});
