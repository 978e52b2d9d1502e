// Where things are drawn: each connected part by dagre from left to right, the parts side by side, and what is
// connected with nothing in a block below.

import { Graph as Dagre, layout as runDagre } from '@dagrejs/dagre';
import { labelOf, type GraphNode, type Line } from './graph';

export const NODE_WIDTH = 190;
export const NODE_HEIGHT = 50;
const GAP = 18;
const RANK_GAP = 56;
const LABEL_CHARACTER = 6.2;
const LABEL_MAX = 130;
/** Its words above the line, the rate below. */
const LABEL_HEIGHT = 30;
const PART_GAP = 48;

export interface Point {
  x: number;
  y: number;
}

export interface Drawing {
  /** Upper left corners by id. */
  places: Map<string, Point>;
  /** By the id of the line: its points from begin to end, and the middle of its label. */
  routes: Map<string, { points: Point[]; label: Point }>;
  width: number;
  height: number;
}

/** Ids of nodes that are connected, part by part, the largest first; those of single nodes are not among them. */
export function partsOf(nodes: GraphNode[], lines: Line[]): string[][] {
  const leader = new Map(nodes.map((node) => [node.id, node.id]));
  const top = (id: string): string => {
    let at = id;
    while (leader.get(at) !== at) {
      const up = leader.get(at) as string;
      leader.set(at, leader.get(up) as string);
      at = leader.get(at) as string;
    }
    return at;
  };
  for (const { from, to } of lines) leader.set(top(from), top(to));
  const parts = new Map<string, string[]>();
  for (const { id } of nodes) parts.set(top(id), [...(parts.get(top(id)) ?? []), id]);
  return [...parts.values()].filter((part) => part.length > 1).sort((one, other) => other.length - one.length);
}

/** From the middle of one node's side to that of the other's, by the points that dagre found between them. */
function between(from: Point | undefined, points: Point[], to: Point | undefined): Point[] {
  if (!from || !to) return points;
  const [out, into] = from.x <= to.x ? [NODE_WIDTH, 0] : [0, NODE_WIDTH];
  const at = ({ x, y }: Point, side: number): Point => ({ x: x + side, y: y + NODE_HEIGHT / 2 });
  return [at(from, out), ...points.slice(1, -1), at(to, into)];
}

function drawPart(ids: string[], lines: Line[]): Drawing {
  const graph = new Dagre({ multigraph: false });
  graph.setGraph({ rankdir: 'LR', nodesep: GAP, ranksep: RANK_GAP, edgesep: 8, marginx: 0, marginy: 0 });
  for (const id of ids) graph.setNode(id, { width: NODE_WIDTH, height: NODE_HEIGHT });
  for (const line of lines) {
    const text = labelOf(line);
    const width = text ? Math.min(LABEL_MAX, text.length * LABEL_CHARACTER + 8) : 0;
    graph.setEdge(line.from, line.to, { width, height: text ? LABEL_HEIGHT : 0, labelpos: 'c' });
  }
  runDagre(graph);
  const places = new Map<string, Point>();
  for (const id of ids) {
    const { x, y } = graph.node(id) as Point;
    places.set(id, { x: x - NODE_WIDTH / 2, y: y - NODE_HEIGHT / 2 });
  }
  const routes: Drawing['routes'] = new Map();
  for (const line of lines) {
    const edge = graph.edge(line.from, line.to) as { points: Point[] } & Partial<Point>;
    const middle = edge.points[Math.floor(edge.points.length / 2)] as Point;
    const points = line.from === line.to ? edge.points : between(places.get(line.from), edge.points, places.get(line.to));
    routes.set(line.id, { points, label: { x: edge.x ?? middle.x, y: edge.y ?? middle.y } });
  }
  const { width, height } = graph.graph() as { width: number; height: number };
  return { places, routes, width, height };
}

/** Puts one drawing into another. */
function place(into: Drawing, part: Drawing, by: Point): void {
  const moved = ({ x, y }: Point): Point => ({ x: x + by.x, y: y + by.y });
  for (const [id, at] of part.places) into.places.set(id, moved(at));
  for (const [id, { points, label }] of part.routes) {
    into.routes.set(id, { points: points.map(moved), label: moved(label) });
  }
  into.width = Math.max(into.width, by.x + part.width);
  into.height = Math.max(into.height, by.y + part.height);
}

/** Parts in rows of about the width that makes the whole as wide as `aspect` says. */
function pack(parts: Drawing[], aspect: number): Drawing {
  const whole: Drawing = { places: new Map(), routes: new Map(), width: 0, height: 0 };
  const area = parts.reduce((sum, part) => sum + (part.width + PART_GAP) * (part.height + PART_GAP), 0);
  const rowWidth = Math.max(Math.sqrt(area * aspect), ...parts.map((part) => part.width));
  let at: Point = { x: 0, y: 0 };
  let rowHeight = 0;
  for (const part of parts) {
    if (at.x > 0 && at.x + part.width > rowWidth) {
      at = { x: 0, y: at.y + rowHeight + PART_GAP };
      rowHeight = 0;
    }
    place(whole, part, at);
    at = { x: at.x + part.width + PART_GAP, y: at.y };
    rowHeight = Math.max(rowHeight, part.height);
  }
  return whole;
}

/** The block of what is connected with nothing. */
function block(ids: string[], width: number): Drawing {
  const columns = Math.max(1, Math.floor((width + GAP) / (NODE_WIDTH + GAP)));
  const places = new Map<string, Point>();
  for (const [index, id] of ids.entries()) {
    const column = index % columns;
    const row = Math.floor(index / columns);
    places.set(id, { x: column * (NODE_WIDTH + GAP), y: row * (NODE_HEIGHT + GAP) });
  }
  const rows = Math.ceil(ids.length / columns);
  const used = Math.min(columns, ids.length);
  return {
    places,
    routes: new Map(),
    width: used * (NODE_WIDTH + GAP) - GAP,
    height: rows * (NODE_HEIGHT + GAP) - GAP,
  };
}

/** Draws all of it, about `aspect` times as wide as it is high. */
export function drawingOf(nodes: GraphNode[], lines: Line[], aspect: number): Drawing {
  const parts = partsOf(nodes, lines);
  const partOf = new Map(parts.flatMap((ids, index) => ids.map((id) => [id, index] as const)));
  const linesByPart = parts.map((): Line[] => []);
  for (const line of lines) linesByPart[partOf.get(line.from) ?? -1]?.push(line);
  const whole = pack(parts.map((ids, index) => drawPart(ids, linesByPart[index] as Line[])), aspect);
  const single = nodes.filter((node) => !partOf.has(node.id)).map((node) => node.id);
  if (single.length > 0) {
    const least = Math.sqrt(single.length * (NODE_WIDTH + GAP) * (NODE_HEIGHT + GAP) * aspect);
    place(whole, block(single, Math.max(whole.width, least)), { x: 0, y: whole.height && whole.height + PART_GAP });
  }
  return whole;
}

/** The points as a smooth path for SVG, level at each of them. */
export function curve(points: Point[]): string {
  const [first, ...rest] = points;
  if (!first) return '';
  let from = first;
  let path = `M${round(first)}`;
  for (const to of rest) {
    const half = (to.x - from.x) / 2;
    path += ` C${round({ x: from.x + half, y: from.y })} ${round({ x: to.x - half, y: to.y })} ${round(to)}`;
    from = to;
  }
  return path;
}

const round = ({ x, y }: Point) => `${x.toFixed(1)},${y.toFixed(1)}`;

/** The id of the node that is next in a direction: along lines to the left and right, up and down by place. */
export function next(from: string, key: string, drawing: Drawing, lines: Line[]): string | undefined {
  const here = drawing.places.get(from);
  if (!here) return undefined;
  const nearest = (ids: string[]) => {
    const far = (id: string) => {
      const { x, y } = drawing.places.get(id) as Point;
      return Math.abs(x - here.x) * 3 + Math.abs(y - here.y);
    };
    return ids.filter((id) => id !== from).sort((one, other) => far(one) - far(other))[0];
  };
  if (key === 'ArrowRight') return nearest(lines.filter((line) => line.from === from).map((line) => line.to));
  if (key === 'ArrowLeft') return nearest(lines.filter((line) => line.to === from).map((line) => line.from));
  const below = key === 'ArrowDown';
  return nearest([...drawing.places].filter(([, { y }]) => (below ? y > here.y : y < here.y)).map(([id]) => id));
}
