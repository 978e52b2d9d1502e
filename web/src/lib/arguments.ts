// Arguments of queues, exchanges and bindings as people write them: one a line, `x-max-length = 1000`.

import type { Arguments } from './types';

export type ArgumentsText = { ok: true; value: Arguments } | { ok: false; line: number; text: string };

function valueOf(text: string): unknown {
  if (/^(true|false|null|-?\d+(\.\d+)?([eE][+-]?\d+)?|[[{"].*)$/.test(text)) {
    try {
      return JSON.parse(text) as unknown;
    } catch {
      return text;
    }
  }
  return text;
}

/** Numbers, true, false and JSON are taken as such, everything else as text. */
export function parseArguments(text: string): ArgumentsText {
  const value: Arguments = {};
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line === '') continue;
    const at = line.indexOf('=');
    const name = line.slice(0, at).trim();
    if (at < 0 || name === '') return { ok: false, line: index + 1, text: line };
    value[name] = valueOf(line.slice(at + 1).trim());
  }
  return { ok: true, value };
}

export function formatArguments(given: Arguments): string {
  return Object.entries(given)
    .map(([name, value]) => `${name} = ${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join('\n');
}
