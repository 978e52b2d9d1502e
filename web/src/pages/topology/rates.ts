// How busy the things of a graph are: out of the lists of the API, the busiest first. Pure.

import type { Graph, GraphEdge } from './graph';

interface Rate {
  rate?: number;
}

interface Rated {
  name: string;
  vhost: string;
  message_stats?: { publish_details?: Rate; publish_in_details?: Rate; deliver_get_details?: Rate };
}

/** A page of a list, as the API cuts it. */
export interface Page {
  items: Rated[];
}

/** Members of the lists that are needed. */
export const RATE_FIELDS = 'name,vhost,message_stats.publish_details.rate,message_stats.publish_in_details.rate,message_stats.deliver_get_details.rate';
/** Things whose rates are asked for: the busiest. */
export const RATED_MAX = 200;

/** Edges by one of their ends, if it is the only one there. */
function lone(graph: Graph, end: 'from' | 'to'): Set<string> {
  const times = new Map<string, number>();
  for (const edge of graph.edges) times.set(edge[end], (times.get(edge[end]) ?? 0) + 1);
  return new Set([...times].filter(([, count]) => count === 1).map(([id]) => id));
}

/**
 * The graph with the rates of its queues, streams and exchanges. Where the broker does not tell the rate of an edge,
 * it is known if there is no other: all that a queue gets comes over its only binding, and all that it gives leaves by
 * its only consumer.
 */
export function withRates(graph: Graph, queues: Page | undefined, exchanges: Page | undefined): Graph {
  const into = new Map<string, number>();
  const outOf = new Map<string, number>();
  for (const { vhost, name, message_stats: stats } of queues?.items ?? []) {
    for (const kind of ['queue', 'stream']) {
      into.set(`${kind}:${vhost}:${name}`, stats?.publish_details?.rate ?? 0);
      outOf.set(`${kind}:${vhost}:${name}`, stats?.deliver_get_details?.rate ?? 0);
    }
  }
  const exchangeRates = new Map<string, number>();
  for (const { vhost, name, message_stats: stats } of exchanges?.items ?? []) {
    exchangeRates.set(`exchange:${vhost}:${name}`, stats?.publish_in_details?.rate ?? 0);
  }
  const nodes = graph.nodes.map((node) => {
    const rate = into.get(node.id) ?? exchangeRates.get(node.id);
    return rate ? { ...node, rate } : node;
  });
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const onlyIn = lone(graph, 'to');
  const takers = { ...graph, edges: graph.edges.filter(({ to }) => ['consumer', 'rule'].includes(byId.get(to)?.kind ?? '')) };
  const onlyOut = lone(takers, 'from');
  const rateOf = ({ from, to }: GraphEdge): number | undefined => {
    const taker = byId.get(to);
    if (taker?.kind === 'consumer' || taker?.kind === 'rule') return taker.rate || (onlyOut.has(from) ? outOf.get(from) : undefined);
    return onlyIn.has(to) ? into.get(to) : undefined;
  };
  const edges = graph.edges.map((edge) => {
    const rate = edge.rate ?? rateOf(edge);
    return rate ? { ...edge, rate } : edge;
  });
  return { ...graph, nodes, edges };
}
