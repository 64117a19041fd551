/** A real <table> for any number of rows: sorted by its headers, selectable, drawn only where it is looked at. */
import { Checkbox, Tooltip } from "@mantine/core";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type JSX, type ReactNode, useEffect, useMemo, useRef } from "react";

export interface Column<Row> {
  id: string;
  header: string;
  help?: string;
  cell: (row: Row) => ReactNode;
  /** What is sorted by and exported; null comes last. */
  value?: (row: Row) => string | number | null | undefined;
  align?: "right";
  /** The key that the service sorts by, where it does. */
  serverSort?: string;
  width?: number;
}

export interface Sort {
  id: string;
  descending: boolean;
}

interface Props<Row> {
  caption: string;
  rows: readonly Row[];
  columns: readonly Column<Row>[];
  rowKey: (row: Row) => string;
  sort?: Sort | undefined;
  onSort?: (sort: Sort) => void;
  selected?: ReadonlySet<string>;
  onSelect?: (selected: Set<string>) => void;
  rowLabel?: (row: Row) => string;
  /** Called when the last rows come into view. */
  onEnd?: () => void;
  maxHeight?: number | string;
  /** How many rows there are in all, where not all are here. */
  total?: number;
}

const ROW = 37;
const DRAWN_AT_ONCE = 100;

export function DataTable<Row>(props: Props<Row>): JSX.Element {
  const { caption, rows, columns, rowKey, sort, onSort, selected, onSelect, rowLabel, onEnd, total } = props;
  const frame = useRef<HTMLDivElement>(null);
  const virtual = rows.length > DRAWN_AT_ONCE;
  // eslint-disable-next-line react-hooks/incompatible-library -- its functions are used in this render only
  const rolls = useVirtualizer({
    count: rows.length,
    getScrollElement: () => frame.current,
    estimateSize: () => ROW,
    overscan: 15,
    enabled: virtual,
  });
  const items = rolls.getVirtualItems();
  const first = virtual ? (items[0]?.index ?? 0) : 0;
  const last = virtual ? (items.at(-1)?.index ?? Math.min(rows.length, 40) - 1) : rows.length - 1;
  const atEnd = last >= rows.length - 10;
  useEffect(() => {
    if (atEnd && rows.length > 0) onEnd?.();
  }, [atEnd, rows.length, onEnd]);
  const ids = useMemo(() => rows.map(rowKey), [rows, rowKey]);
  const toggle = (id: string): void => {
    const next = new Set(selected);
    if (!next.delete(id)) next.add(id);
    onSelect?.(next);
  };
  const all = selected !== undefined && ids.length > 0 && ids.every((id) => selected.has(id));
  const some = selected !== undefined && ids.some((id) => selected.has(id));
  return (
    // A frame that scrolls must be reachable by keyboard.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div className="table-frame" ref={frame} style={{ maxHeight: props.maxHeight ?? "70vh" }} tabIndex={0} role="region" aria-label={caption}>
      <table className="data-table" aria-rowcount={(total ?? rows.length) + 1}>
        <caption className="visually-hidden">{caption}</caption>
        <thead>
          <tr>
            {onSelect !== undefined && (
              <th scope="col" style={{ width: 36 }}>
                <Checkbox
                  size="xs"
                  aria-label="Select all rows that are loaded"
                  checked={all}
                  indeterminate={some && !all}
                  onChange={() => onSelect(all ? new Set() : new Set(ids))}
                />
              </th>
            )}
            {columns.map((column) => (
              <Header key={column.id} column={column} sort={sort} onSort={onSort} />
            ))}
          </tr>
        </thead>
        <tbody>
          {virtual && first > 0 && <Space rows={first} columns={columns.length + 1} />}
          {rows.slice(first, last + 1).map((row, index) => {
            const id = ids[first + index] ?? "";
            return (
              <tr key={id} aria-rowindex={first + index + 2} aria-selected={onSelect === undefined ? undefined : (selected?.has(id) ?? false)} style={{ height: ROW }}>
                {onSelect !== undefined && (
                  <td>
                    <Checkbox size="xs" aria-label={`Select ${rowLabel?.(row) ?? id}`} checked={selected?.has(id) ?? false} onChange={() => toggle(id)} />
                  </td>
                )}
                {columns.map((column) => (
                  <td key={column.id} className={column.align} style={column.width === undefined ? undefined : { maxWidth: column.width, overflow: "hidden", textOverflow: "ellipsis" }}>
                    {column.cell(row)}
                  </td>
                ))}
              </tr>
            );
          })}
          {virtual && last < rows.length - 1 && <Space rows={rows.length - 1 - last} columns={columns.length + 1} />}
        </tbody>
      </table>
    </div>
  );
}

function Space({ rows, columns }: { rows: number; columns: number }): JSX.Element {
  return (
    <tr aria-hidden>
      <td colSpan={columns} style={{ height: rows * ROW, padding: 0, border: 0 }} />
    </tr>
  );
}

function Header<Row>({ column, sort, onSort }: { column: Column<Row>; sort: Sort | undefined; onSort: ((sort: Sort) => void) | undefined }): JSX.Element {
  const key = column.serverSort ?? (column.value === undefined ? undefined : column.id);
  const active = sort !== undefined && sort.id === key;
  const text = column.help === undefined ? column.header : <span style={{ textDecoration: "underline dotted", textUnderlineOffset: 3 }}>{column.header}</span>;
  const inside =
    onSort === undefined || key === undefined ? (
      text
    ) : (
      <button type="button" className="sort-button" onClick={() => onSort({ id: key, descending: active ? !sort.descending : column.align === "right" })}>
        {text}
        <span aria-hidden>{active ? (sort.descending ? "▼" : "▲") : ""}</span>
      </button>
    );
  return (
    <th scope="col" className={column.align} aria-sort={active ? (sort.descending ? "descending" : "ascending") : undefined}>
      {column.help === undefined ? inside : <Tooltip label={column.help} multiline maw={320} events={{ hover: true, focus: true, touch: true }}><span>{inside}</span></Tooltip>}
    </th>
  );
}

/** Rows in the order of a column; those without a value come last, equals stay as they were. */
export function sorted<Row>(rows: readonly Row[], columns: readonly Column<Row>[], sort: Sort | undefined): Row[] {
  const value = columns.find((column) => column.id === sort?.id)?.value;
  if (sort === undefined || value === undefined) return [...rows];
  const keyed = rows.map((row): [string | number | null, Row] => [value(row) ?? null, row]);
  const sign = sort.descending ? -1 : 1;
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * String(a).localeCompare(String(b), "en", { numeric: true });
  });
  return keyed.map(([, row]) => row);
}
