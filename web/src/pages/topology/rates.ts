// How busy the things of a graph are: out of the lists of the API, the busiest first. Pure.

import type { Graph } from './graph';

interface Rated {
  name: string;
  vhost: string;
  message_stats?: { publish_details?: { rate?: number }; publish_in_details?: { rate?: number } };
}

/** A page of a list, as the API cuts it. */
export interface Page {
  items: Rated[];
}

/** Members of the lists that are needed. */
export const RATE_FIELDS = 'name,vhost,message_stats.publish_details.rate,message_stats.publish_in_details.rate';
/** Things whose rates are asked for: the busiest. */
export const RATED_MAX = 200;

/** The graph with the rates of its queues, streams and exchanges. */
export function withRates(graph: Graph, queues: Page | undefined, exchanges: Page | undefined): Graph {
  const rates = new Map<string, number>();
  for (const { vhost, name, message_stats: stats } of queues?.items ?? []) {
    const rate = stats?.publish_details?.rate ?? 0;
    rates.set(`queue:${vhost}:${name}`, rate);
    rates.set(`stream:${vhost}:${name}`, rate);
  }
  for (const { vhost, name, message_stats: stats } of exchanges?.items ?? []) {
    rates.set(`exchange:${vhost}:${name}`, stats?.publish_in_details?.rate ?? 0);
  }
  const nodes = graph.nodes.map((node) => {
    const rate = rates.get(node.id);
    return rate ? { ...node, rate } : node;
  });
  const kinds = new Map(nodes.map((node) => [node.id, node]));
  // What a consumer takes goes over its line.
  const edges = graph.edges.map((edge) => {
    const to = kinds.get(edge.to);
    return to?.kind === 'consumer' && to.rate ? { ...edge, rate: to.rate } : edge;
  });
  return { ...graph, nodes, edges };
}
