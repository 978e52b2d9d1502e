// Figures as people read them. Pure: the language is a parameter.

const COUNT_STEPS: [number, string][] = [
  [1e12, 'T'],
  [1e9, 'G'],
  [1e6, 'M'],
  [1e3, 'k'],
];

function significant(value: number): string {
  const size = Math.abs(value);
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1).replace(/\.0$/, '');
  return value.toFixed(2).replace(/\.?0+$/, '');
}

/** 1234 as `1,234`; from 10,000,000 on short: `12.3M`. */
export function count(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  if (Math.abs(value) >= 1e7) return short(value);
  return Math.round(value).toLocaleString('en-US');
}

/** Three digits and a letter: `1.23k`, for axes and tight places. */
export function short(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  for (const [step, letter] of COUNT_STEPS) {
    if (Math.abs(value) >= step) return significant(value / step) + letter;
  }
  return significant(value);
}

/** Per second: `12.5/s`. */
export function rate(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  if (size === 0) return '0/s';
  if (size < 0.01) return '<0.01/s';
  return `${size >= 1e4 ? short(value) : size >= 1000 ? count(value) : significant(value)}/s`;
}

/** In powers of 1024: `1.5 MiB`. */
export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let size = value;
  let unit = 0;
  while (Math.abs(size) >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? size.toFixed(0) : significant(size)} ${units[unit]}`;
}

/** The two largest units of a span: `3 d 4 h`, `12 s`, `350 ms`. */
export function duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return '–';
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = Math.floor(ms / 1000);
  const parts: [number, string][] = [
    [Math.floor(seconds / 86400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ];
  const first = parts.findIndex(([size]) => size > 0);
  const shown = parts.slice(first, first + 2).filter(([size]) => size > 0);
  return shown.map(([size, unit]) => `${size} ${unit}`).join(' ');
}

const AGO: [number, Intl.RelativeTimeFormatUnit][] = [
  [86400e3, 'day'],
  [3600e3, 'hour'],
  [60e3, 'minute'],
  [1e3, 'second'],
];

/** `5 minutes ago`. */
export function relative(at: number, now: number, locale: string): string {
  const span = at - now;
  const words = new Intl.RelativeTimeFormat(locale, { numeric: 'auto' });
  for (const [unit, name] of AGO) {
    if (Math.abs(span) >= unit) return words.format(Math.trunc(span / unit), name);
  }
  return words.format(0, 'second');
}

/** Date and time to the second. */
export function absolute(at: number, locale: string): string {
  return new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'medium' }).format(at);
}

/** The time of day, to the second. */
export function clockTime(at: number, locale: string): string {
  return new Intl.DateTimeFormat(locale, { timeStyle: 'medium' }).format(at);
}

/** A value of a table of arguments, short. */
export function value(given: unknown): string {
  if (given === null || given === undefined) return '–';
  return typeof given === 'object' ? JSON.stringify(given) : String(given);
}
