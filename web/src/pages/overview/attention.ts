// What needs attention, put into words. The facts are the broker's; see GET /api/attention.

import { absolute, bytes, count, rate } from '$lib/format';
import { type Key, known, locale } from '$lib/i18n/index.svelte';
import { link } from '$lib/router';
import type { Attention, Node } from '$lib/types';

const figure = (value: unknown, format: (value: number) => string) => (typeof value === 'number' ? format(value) : '');

/** Parameters of the words; those that a kind does not have are empty. */
export function facts(item: Attention): Record<string, string> {
  const others = Object.entries(item).map(([name, value]) => [name, typeof value === 'number' ? count(value) : String(value ?? '')]);
  return {
    ...Object.fromEntries(others),
    name: item.name ?? '',
    rate: figure(item.rate, rate),
    rate_promised: figure(item.rate_promised, rate),
    rate_delivered: figure(item.rate_delivered, rate),
    messages: figure(item.messages, count),
    used: figure(item.used, bytes),
    free: figure(item.free, bytes),
    limit: figure(item.limit, bytes),
    until: figure(item.until, (at) => absolute(at, locale())),
  };
}

/** The key of its words. */
export function wordsKey(item: Attention): Key {
  const key = `attention.${item.kind}`;
  return known(key) ? key : 'attention.other';
}

/** A queue that grows because nobody consumes is one thing, not two. */
export function merged(items: Attention[]): Attention[] {
  const queue = (item: Attention) => `${item.vhost}/${item.name}`;
  const of = (kind: string) => new Set(items.filter((item) => item.kind === kind).map(queue));
  const growing = of('queue_growing');
  const alone = of('queue_without_consumers');
  return items
    .filter((item) => item.kind !== 'queue_without_consumers' || !growing.has(queue(item)))
    .map((item) => (item.kind === 'queue_growing' && alone.has(queue(item)) ? { ...item, kind: 'queue_growing_alone' } : item));
}

const ABOUT_RULES = ['rule_stopped', 'rule_failing'];

/** Where it is looked into. */
export function hrefOf(item: Attention): string | undefined {
  if (item.kind === 'source_failing' && item.name) return link('sources', item.name);
  if (ABOUT_RULES.includes(item.kind) && item.name) return link('rules', item.name);
  if (item.vhost !== undefined && item.name) return link('queues', item.vhost, item.name);
  return undefined;
}

/** What the node itself says, for a broker that has no list of it. */
export function ofNode(node: Node | undefined): Attention[] {
  const found: Attention[] = [];
  if (node?.mem_alarm) found.push({ kind: 'memory_high', severity: 'error', used: node.mem_used, limit: node.mem_limit });
  if (node?.disk_free_alarm) found.push({ kind: 'disk_low', severity: 'error', free: node.disk_free, limit: node.disk_free_limit });
  return found;
}
