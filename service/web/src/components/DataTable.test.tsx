import { MantineProvider } from "@mantine/core";
import { render, screen } from "@testing-library/react";
import { describe, expect, it } from "vitest";

import { type Column, DataTable, sorted } from "./DataTable";

interface Row {
  id: string;
  ap: number | null;
}
const columns: Column<Row>[] = [
  { id: "id", header: "Run", cell: (row) => row.id, value: (row) => row.id },
  { id: "ap", header: "AP", cell: (row) => row.ap ?? "–", value: (row) => row.ap, align: "right" },
];
const rows: Row[] = [
  { id: "run 10", ap: 3 },
  { id: "run 2", ap: null },
  { id: "run 1", ap: 12 },
];

describe("sorted", () => {
  it("puts what has no value last in both directions", () => {
    expect(sorted(rows, columns, { id: "ap", descending: true }).map((row) => row.ap)).toEqual([12, 3, null]);
    expect(sorted(rows, columns, { id: "ap", descending: false }).map((row) => row.ap)).toEqual([3, 12, null]);
  });
  it("orders numbers in texts as numbers", () => {
    expect(sorted(rows, columns, { id: "id", descending: false }).map((row) => row.id)).toEqual(["run 1", "run 2", "run 10"]);
  });
});

describe("DataTable", () => {
  it("is a table with a name, headers and the direction of its order", () => {
    render(
      <MantineProvider>
        <DataTable caption="Runs" rows={rows} columns={columns} rowKey={(row) => row.id} sort={{ id: "ap", descending: true }} onSort={() => undefined} />
      </MantineProvider>,
    );
    expect(screen.getByRole("region", { name: "Runs" })).toBeTruthy();
    expect(screen.getByRole("columnheader", { name: /AP/ }).getAttribute("aria-sort")).toBe("descending");
    expect(screen.getAllByRole("row")).toHaveLength(4);
  });
});
