// Tables as files for spreadsheets (RFC 4180). Pure.

type Cell = string | number | boolean | null | undefined;

/** What spreadsheets would take for a formula: they are told that it is text. */
const FORMULA = /^[=+\-@\t\r]/;

function cell(value: unknown): string {
  if (value === null || value === undefined) return '';
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  const text = typeof value === 'object' ? JSON.stringify(value) : String(value);
  const safe = FORMULA.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** Heads and rows; objects are written as JSON. */
export function csvOf(heads: string[], rows: unknown[][]): string {
  return [heads, ...rows].map((row) => `${row.map((each) => cell(each as Cell)).join(',')}\r\n`).join('');
}
