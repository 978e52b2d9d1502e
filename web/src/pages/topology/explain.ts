// Why a message reaches a queue, or not: what `POST /api/explain` says, and what of the drawing it lights. Pure.

import { lineId, type Graph } from './graph';

/** A reason in English words, and for programs: the console words it by `code`. */
export interface Reason {
  code: string;
  reason: string;
  facts?: Record<string, string | number>;
}

export interface ExplainStep extends Reason {
  exchange: string;
  type: string;
  /** Null where it leads nowhere. */
  destination: string | null;
  destination_type: 'queue' | 'exchange' | null;
  binding_key: string;
  matched: boolean;
}

export interface Explanation {
  routed: boolean;
  queues: string[];
  /** Why it may not be published at all. */
  refused: Reason | null;
  steps: ExplainStep[];
  /** What becomes of it in the queues, or why it does not come to the one that was asked for. */
  queue_reasons: (Reason & { queue: string })[];
}

/** Ids of the nodes and lines that the message takes. */
export function litBy(explanation: Explanation, graph: Graph, vhost: string, exchange: string): Set<string> {
  const idOf = (name: string, kinds: string[]) =>
    graph.nodes.find((node) => node.name === name && node.vhost === vhost && kinds.includes(node.kind))?.id;
  const lit = new Set<string>();
  const begin = idOf(exchange, ['exchange']);
  if (begin) lit.add(begin);
  for (const step of explanation.steps.filter(({ matched }) => matched)) {
    const from = idOf(step.exchange, ['exchange']);
    const to = idOf(step.destination ?? '', step.destination_type === 'exchange' ? ['exchange'] : ['queue', 'stream']);
    if (from) lit.add(from);
    if (to) lit.add(to);
    if (from && to) lit.add(lineId(from, to));
  }
  for (const queue of explanation.queues) {
    const id = idOf(queue, ['queue', 'stream']);
    if (id) lit.add(id);
  }
  return lit;
}

/** `name: value` lines as headers: numbers, true and false as such, the rest as text. */
export function headersOf(text: string): Record<string, string | number | boolean> {
  const headers: Record<string, string | number | boolean> = {};
  for (const line of text.split('\n')) {
    const at = line.indexOf(':');
    if (at <= 0) continue;
    const value = line.slice(at + 1).trim();
    const isNumber = value !== '' && Number.isFinite(Number(value));
    headers[line.slice(0, at).trim()] = value === 'true' ? true : value === 'false' ? false : isNumber ? Number(value) : value;
  }
  return headers;
}
