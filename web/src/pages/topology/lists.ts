// The graph out of the lists of the API. Pure.

import { link } from '$lib/router';
import type { Rule, Source } from '../engine/engine';
import type { Graph, GraphEdge, GraphNode } from './graph';

interface Rated {
  message_stats?: Record<string, { rate?: number } | number | undefined>;
}

export interface Lists {
  exchanges: ({ name: string; vhost: string; type: string } & Rated)[];
  queues: ({ name: string; vhost: string; type: string; messages_ready?: number; state?: string } & Rated)[];
  bindings: { source: string; vhost: string; destination: string; destination_type: string; routing_key: string; arguments?: Record<string, unknown> }[];
  consumers: { consumer_tag: string; queue: { name: string; vhost: string }; channel_details?: { name?: string; connection_name?: string }; rate_delivered?: number | null }[];
  rules: Rule[];
  sources: Source[];
}

/** The vhost that the engine works in. */
const ENGINE_VHOST = '/';
const idOf = (kind: string, vhost: string, name: string) => `${kind}:${vhost}:${name}`;

function rateOf(thing: Rated, name: string): number {
  const details = thing.message_stats?.[`${name}_details`];
  return typeof details === 'object' ? (details.rate ?? 0) : 0;
}

function labelOf(key: string, table: Record<string, unknown> | undefined): string {
  const pairs = Object.entries(table ?? {}).map(([name, value]) => `${name}=${typeof value === 'object' ? JSON.stringify(value) : String(value)}`);
  return [key, ...pairs].filter(Boolean).join(' ');
}

/** Nodes and edges of what is in the lists. */
export function graphOf(lists: Lists): Graph {
  const nodes: GraphNode[] = [];
  const edges: GraphEdge[] = [];
  const queueIds = new Map<string, string>();
  for (const exchange of lists.exchanges) {
    const { name, vhost } = exchange;
    const id = idOf('exchange', vhost, name);
    nodes.push({ id, kind: 'exchange', name, vhost, state: exchange.type, rate: rateOf(exchange, 'publish_in'), href: link('exchanges', vhost, name || 'amq.default') });
  }
  for (const queue of lists.queues) {
    const { name, vhost, messages_ready: messages = 0, state } = queue;
    const kind = queue.type === 'stream' ? 'stream' : 'queue';
    const id = idOf(kind, vhost, name);
    queueIds.set(`${vhost}\n${name}`, id);
    const node: GraphNode = { id, kind, name, vhost, messages, rate: rateOf(queue, 'publish'), href: link('queues', vhost, name) };
    nodes.push(state ? { ...node, state } : node);
  }
  const queueId = (vhost: string, name: string) => queueIds.get(`${vhost}\n${name}`);
  for (const { source, vhost, destination, destination_type: type, routing_key: key, arguments: table } of lists.bindings) {
    // Every queue is bound to the default exchange by its name: that would be drawn and say nothing.
    if (source === '') continue;
    const to = type === 'exchange' ? idOf('exchange', vhost, destination) : queueId(vhost, destination);
    if (to) edges.push({ from: idOf('exchange', vhost, source), to, label: labelOf(key, table) });
  }
  const ruleQueues = new Set(lists.rules.map((rule) => rule.queue));
  for (const consumer of lists.consumers) {
    const { name, vhost } = consumer.queue;
    const from = queueId(vhost, name);
    const channel = consumer.channel_details?.name ?? '';
    // The consumer of a rule's queue is the rule.
    if (!from || (vhost === ENGINE_VHOST && ruleQueues.has(name) && !channel)) continue;
    const id = `consumer:${vhost}:${channel}:${consumer.consumer_tag}`;
    const rate = consumer.rate_delivered ?? 0;
    nodes.push({ id, kind: 'consumer', name: consumer.consumer_tag, vhost, rate, href: link('queues', vhost, name) });
    edges.push({ from, to: id, rate });
  }
  addEngine(lists, nodes, edges, queueId);
  return { nodes, edges };
}

function addEngine(lists: Lists, nodes: GraphNode[], edges: GraphEdge[], queueId: (vhost: string, name: string) => string | undefined): void {
  const vhost = ENGINE_VHOST;
  for (const source of lists.sources) {
    const id = `source:${source.name}`;
    nodes.push({ id, kind: 'source', name: source.name, state: source.state, href: link('sources', source.name) });
    edges.push({ from: id, to: idOf('exchange', vhost, source.exchange) });
  }
  for (const rule of lists.rules) {
    const id = `rule:${rule.name}`;
    nodes.push({ id, kind: 'rule', name: rule.name, state: rule.state, href: link('rules', rule.name) });
    const from = queueId(vhost, rule.queue);
    if (from) edges.push({ from, to: id });
    for (const [index, action] of rule.actions.entries()) {
      if (action.kind === 'publish' && action.exchange) {
        edges.push({ from: id, to: idOf('exchange', vhost, action.exchange), label: 'publish' });
        continue;
      }
      const actionId = `action:${rule.name}:${index}`;
      nodes.push({ id: actionId, kind: 'action', name: action.name ?? action.kind, state: action.kind, href: link('rules', rule.name) });
      edges.push({ from: id, to: actionId });
    }
    const parking = queueId(vhost, rule.parking_queue);
    if (parking) edges.push({ from: id, to: parking });
  }
}
