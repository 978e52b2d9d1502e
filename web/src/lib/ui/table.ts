// What tables of the console are told.

import type { Snippet } from 'svelte';

export interface Column<T> {
  /** The member of the row; `a.b` is a member of a member. Cells are given it. */
  key: string;
  title: string;
  /** Right-aligned figures. */
  num?: boolean;
  /** The column that the server sorts by, if it is not the key; false if it cannot be sorted. */
  sort?: string | false;
  /** Text of the cell, if the table's `cell` does not draw it. */
  text?: (row: T) => string;
  /** What rows in the browser are sorted by, if it is not the member. */
  value?: (row: T) => string | number | boolean | null | undefined;
  /** Left out where there is little room: below 1360 pixels, below 1100, or on a phone. */
  hide?: 'wide' | 'narrow' | 'phone';
}

/** What every table is given. */
export interface TableProps<T> {
  rows: T[];
  columns: Column<T>[];
  key: (row: T) => string;
  /** What the table is of, for those who do not see it. */
  label: string;
  /** Draws a cell, given the row and the column's key; else the column's text. */
  cell?: Snippet<[T, Column<T>]>;
  /** Buttons at the end of a row. */
  actions?: Snippet<[T]>;
  /** Where a row leads: the first cell is a link, and the whole row is pressed. */
  href?: (row: T) => string;
  /** Instead of rows, if there are none. */
  empty?: Snippet;
  /** The column that the rows are in the order of. */
  sort?: string;
  reverse?: boolean;
}

/** A member of a row by its path. */
export function member(row: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((at, name) => (at as Record<string, unknown> | null | undefined)?.[name], row);
}

type Sortable = string | number | boolean | null | undefined;

function compare(a: Sortable, b: Sortable): number {
  if (a === b) return 0;
  if (a === null || a === undefined) return -1;
  if (b === null || b === undefined) return 1;
  if (typeof a === 'string' && typeof b === 'string') return a.localeCompare(b, undefined, { numeric: true });
  return a < b ? -1 : 1;
}

/** Rows in the order of a column; as they are if there is no such column. */
export function sorted<T>(rows: T[], columns: Column<T>[], key: string, reverse: boolean): T[] {
  const column = columns.find((each) => each.key === key);
  if (!column) return rows;
  const value = column.value ?? ((row: T) => member(row, column.key) as Sortable);
  const inOrder = rows.toSorted((a, b) => compare(value(a), value(b)));
  return reverse ? inOrder.reverse() : inOrder;
}
