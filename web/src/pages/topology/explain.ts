// Why a message reaches a queue, or not: what `POST /api/explain` says, and what of the drawing it lights. Pure.

import { lineId, type Graph } from './graph';

export interface ExplainStep {
  exchange: string;
  type: string;
  destination: string;
  destination_type: 'queue' | 'exchange';
  binding_key: string;
  arguments?: Record<string, unknown>;
  matched: boolean;
  /** In English, with its facts. */
  reason: string;
  /** The same for programs: what the console words by. */
  code?: string;
  facts?: Record<string, string | number>;
}

export interface Explanation {
  routed: boolean;
  queues: string[];
  steps: ExplainStep[];
  /** Of the queue that was asked for. */
  queue_reasons?: { reason: string; code?: string; facts?: Record<string, string | number> }[];
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
    const to = idOf(step.destination, step.destination_type === 'exchange' ? ['exchange'] : ['queue', 'stream']);
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
