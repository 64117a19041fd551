import { describe, expect, it } from "vitest";

import { write } from "./table";

const table = { headers: ["method", "AP"], rows: [["bckd_100%", 39.66], ["=1+1, \"x\"", null]] as (string | number | null)[][] };

describe("a table as text", () => {
  it("is CSV that a spreadsheet does not run", () => {
    expect(write(table, "csv", "s")).toBe("method,AP\r\nbckd_100%,39.66\r\n\"'=1+1, \"\"x\"\"\",\r\n");
  });
  it("is LaTeX with its special characters escaped and its source as a comment", () => {
    const text = write(table, "tex", "from here");
    expect(text.startsWith("% from here\n\\begin{tabular}{lr}")).toBe(true);
    expect(text).toContain("bckd\\_100\\% & 39.66 \\\\");
    expect(text).toContain("\"x\" & -- \\\\");
  });
  it("is Markdown with numbers to the right", () => {
    expect(write(table, "md", "s").split("\n").slice(0, 3)).toEqual(["| method | AP |", "| --- | ---: |", "| bckd_100% | 39.66 |"]);
  });
  it("is JSON with its source", () => {
    expect(JSON.parse(write(table, "json", "s"))).toEqual({ source: "s", rows: [{ method: "bckd_100%", AP: 39.66 }, { method: "=1+1, \"x\"", AP: null }] });
  });
});
