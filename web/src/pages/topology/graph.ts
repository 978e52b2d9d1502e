// What `GET /api/graph` says, made fit for drawing. Pure.

export const KINDS = ['source', 'exchange', 'queue', 'stream', 'rule', 'action', 'consumer'] as const;
export type Kind = (typeof KINDS)[number];

export interface GraphNode {
  /** `queue:/:orders`. */
  id: string;
  kind: Kind;
  name: string;
  vhost?: string;
  /** Messages in it, or that it has in hand. */
  messages?: number;
  /** Messages per second through it. */
  rate?: number | null;
  state?: string;
  /** Of an exchange, a source or an action. */
  type?: string;
  /** Where the console shows it: `#/queues/%2F/orders`. */
  href?: string;
  /** Consumers that a node stands for, if it stands for several. */
  members?: number;
}

export interface GraphEdge {
  from: string;
  to: string;
  label?: string;
  rate?: number;
}

export interface Graph {
  nodes: GraphNode[];
  edges: GraphEdge[];
  /** There is more than the broker tells of at once: so many things in all. */
  truncated?: boolean;
  total?: number;
}

/** All that leads from one node to another, drawn as one line. */
export interface Line {
  id: string;
  from: string;
  to: string;
  labels: string[];
  rate: number;
}

/** Labels that a line shows; of the others it says how many they are. */
const LABELS_SHOWN = 2;
/** Consumers of a queue that are drawn one by one. */
const CONSUMERS_SHOWN = 3;

export const lineId = (from: string, to: string) => `${from} → ${to}`;

/** Edges between the same two nodes as one line. Edges of nodes that are not there are left out. */
export function linesOf(graph: Graph): Line[] {
  const there = new Set(graph.nodes.map((node) => node.id));
  const lines = new Map<string, Line>();
  for (const { from, to, label, rate } of graph.edges) {
    if (!there.has(from) || !there.has(to)) continue;
    const id = lineId(from, to);
    const line = lines.get(id) ?? { id, from, to, labels: [], rate: 0 };
    if (label && !line.labels.includes(label)) line.labels.push(label);
    line.rate += rate ?? 0;
    lines.set(id, line);
  }
  return [...lines.values()];
}

/** What stands beside a line: `order.*, order.paid +3`. */
export function labelOf(line: Line): string {
  const rest = line.labels.length - LABELS_SHOWN;
  return line.labels.slice(0, LABELS_SHOWN).join(', ') + (rest > 0 ? ` +${rest}` : '');
}

/** Many consumers of the same queue as one node; `name` words it. */
export function gatherConsumers(graph: Graph, name: (count: number) => string): Graph {
  const byQueue = new Map<string, GraphNode[]>();
  const kinds = new Map(graph.nodes.map((node) => [node.id, node]));
  for (const edge of graph.edges) {
    const consumer = kinds.get(edge.to);
    if (consumer?.kind !== 'consumer') continue;
    byQueue.set(edge.from, [...(byQueue.get(edge.from) ?? []), consumer]);
  }
  const standsFor = new Map<string, string>();
  const groups: GraphNode[] = [];
  for (const [queue, consumers] of byQueue) {
    if (consumers.length <= CONSUMERS_SHOWN) continue;
    const id = `consumers:${queue}`;
    for (const consumer of consumers) standsFor.set(consumer.id, id);
    const rate = consumers.reduce((sum, consumer) => sum + (consumer.rate ?? 0), 0);
    const href = kinds.get(queue)?.href;
    const group: GraphNode = { id, kind: 'consumer', name: name(consumers.length), rate, members: consumers.length };
    groups.push(href ? { ...group, href } : group);
  }
  if (groups.length === 0) return graph;
  return {
    ...graph,
    nodes: [...graph.nodes.filter((node) => !standsFor.has(node.id)), ...groups],
    edges: graph.edges.map((edge) => ({ ...edge, to: standsFor.get(edge.to) ?? edge.to })),
  };
}

/** Without the broker's own exchanges that lead nowhere, and without kinds that are not wanted. */
export function prune(graph: Graph, hidden: ReadonlySet<Kind>): Graph {
  const used = new Set(graph.edges.flatMap(({ from, to }) => [from, to]));
  const isOwn = ({ kind, name }: GraphNode) =>
    kind === 'exchange' && (name === '' || /^(amq\.|millpond\.)/.test(name));
  return {
    ...graph,
    nodes: graph.nodes.filter((node) => !hidden.has(node.kind) && (used.has(node.id) || !isOwn(node))),
  };
}

/** A node and what is at most `depth` lines away, in either direction. */
export function neighbourhood(graph: Graph, id: string, depth: number): Graph {
  const near = new Map<string, string[]>();
  for (const { from, to } of graph.edges) {
    near.set(from, [...(near.get(from) ?? []), to]);
    near.set(to, [...(near.get(to) ?? []), from]);
  }
  const reached = new Set([id]);
  let border = [id];
  for (let step = 0; step < depth && border.length > 0; step += 1) {
    border = border.flatMap((each) => near.get(each) ?? []).filter((each) => !reached.has(each));
    for (const each of border) reached.add(each);
  }
  return { ...graph, nodes: graph.nodes.filter((node) => reached.has(node.id)) };
}

/** Nodes whose name has the text, those that begin with it first. */
export function find(graph: Graph, text: string, limit: number): GraphNode[] {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return [];
  return graph.nodes
    .map((node) => ({ node, at: node.name.toLowerCase().indexOf(wanted) }))
    .filter(({ at }) => at >= 0)
    .sort((one, other) => Math.min(one.at, 1) - Math.min(other.at, 1) || one.node.name.length - other.node.name.length)
    .slice(0, limit)
    .map(({ node }) => node);
}

/** Changes only if the drawing has to be laid out anew: new figures leave it as it is. */
export function shapeOf(nodes: GraphNode[], lines: Line[]): string {
  return [...nodes.map((node) => node.id), '', ...lines.map((line) => `${line.id} ${labelOf(line)}`)].join('\n');
}
