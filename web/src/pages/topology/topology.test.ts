import { describe, expect, it } from 'vitest';
import { headersOf, litBy, type Explanation } from './explain';
import { find, gatherConsumers, labelOf, linesOf, neighbourhood, prune, shapeOf, type Graph, type Kind } from './graph';
import { NODE_HEIGHT, NODE_WIDTH, curve, drawingOf, next } from './layout';
import { withRates } from './rates';
import { fit, first, reveal, zoom } from './viewport';

const node = (kind: 'exchange' | 'queue' | 'consumer', name: string) => ({ id: `${kind}:/:${name}`, kind, name, vhost: '/' });
const shop: Graph = {
  nodes: [node('exchange', 'orders'), node('exchange', 'amq.topic'), node('queue', 'bills'), node('queue', 'mails'), node('consumer', 'c1')],
  edges: [
    { from: 'exchange:/:orders', to: 'queue:/:bills', label: 'order.paid', rate: 2 },
    { from: 'exchange:/:orders', to: 'queue:/:bills', label: 'order.*' },
    { from: 'exchange:/:orders', to: 'queue:/:bills', label: 'x' },
    { from: 'exchange:/:orders', to: 'queue:/:mails' },
    { from: 'queue:/:bills', to: 'consumer:/:c1' },
    { from: 'queue:/:bills', to: 'rule:gone' },
  ],
};

/** `size` exchanges with ten queues each, like a large shop. */
function large(size: number): Graph {
  const graph: Graph = { nodes: [], edges: [] };
  for (let x = 0; x < size; x += 1) {
    graph.nodes.push(node('exchange', `x${x}`));
    for (let q = 0; q < 10; q += 1) {
      graph.nodes.push(node('queue', `q${x}.${q}`));
      graph.edges.push({ from: `exchange:/:x${x}`, to: `queue:/:q${x}.${q}`, label: 'key.*' });
    }
  }
  return graph;
}

describe('a graph', () => {
  it('has one line between two things, with its labels, and none to what is not there', () => {
    const lines = linesOf(shop);
    expect(lines).toHaveLength(3);
    expect(labelOf(lines[0]!)).toBe('order.paid, order.* +1');
    expect(lines[0]?.rate).toBe(2);
  });

  it('leaves out built-in exchanges that lead nowhere, and kinds that are not wanted', () => {
    expect(prune(shop, new Set()).nodes.map(({ name }) => name)).not.toContain('amq.topic');
    expect(prune(shop, new Set(['consumer'])).nodes).toHaveLength(3);
  });

  it('is cut to a neighbourhood', () => {
    expect(neighbourhood(shop, 'queue:/:mails', 1).nodes.map(({ name }) => name)).toEqual(['orders', 'mails']);
    expect(neighbourhood(shop, 'queue:/:mails', 3).nodes).toHaveLength(4);
  });

  it('gathers many consumers of a queue', () => {
    const many: Graph = { nodes: [node('queue', 'q')], edges: [] };
    for (let index = 0; index < 9; index += 1) {
      many.nodes.push({ ...node('consumer', `c${index}`) });
      many.edges.push({ from: 'queue:/:q', to: `consumer:/:c${index}` });
    }
    const gathered = gatherConsumers(many, (count) => `${count} consumers`);
    expect(gathered.nodes.map(({ name }) => name)).toEqual(['q', '9 consumers']);
    expect(linesOf(gathered)).toHaveLength(1);
    expect(gatherConsumers(shop, String)).toBe(shop);
  });

  it('is searched by name, beginnings first', () => {
    expect(find(shop, 'm', 5).map(({ name }) => name)).toEqual(['mails', 'amq.topic']);
    expect(find(shop, ' ', 5)).toEqual([]);
  });

  it('has the same shape when only figures change', () => {
    const busier = { ...shop, nodes: shop.nodes.map((each) => ({ ...each, rate: 9 })) };
    expect(shapeOf(busier.nodes, linesOf(busier))).toBe(shapeOf(shop.nodes, linesOf(shop)));
  });
});

describe('a drawing', () => {
  it('puts nothing above anything else, with 220 things', () => {
    const graph = large(20);
    const drawing = drawingOf(graph.nodes, linesOf(graph), 1.6);
    const places = [...drawing.places.values()];
    expect(places).toHaveLength(220);
    for (const [index, one] of places.entries()) {
      for (const other of places.slice(index + 1)) {
        expect(Math.abs(one.x - other.x) >= NODE_WIDTH || Math.abs(one.y - other.y) >= NODE_HEIGHT).toBe(true);
      }
    }
    expect(drawing.width / drawing.height).toBeGreaterThan(0.8);
  });

  it('has a place for what is connected with nothing', () => {
    const drawing = drawingOf(shop.nodes, linesOf(shop), 1.5);
    expect(drawing.places.has('exchange:/:amq.topic')).toBe(true);
    expect(drawingOf([], [], 1).places.size).toBe(0);
  });

  it('is walked through by the arrows', () => {
    const lines = linesOf(shop);
    const drawing = drawingOf(shop.nodes, lines, 1.5);
    expect(next('queue:/:bills', 'ArrowRight', drawing, lines)).toBe('consumer:/:c1');
    expect(next('queue:/:bills', 'ArrowLeft', drawing, lines)).toBe('exchange:/:orders');
    expect(next('consumer:/:c1', 'ArrowRight', drawing, lines)).toBeUndefined();
  });

  it('draws lines from the first point to the last', () => {
    expect(curve([{ x: 0, y: 0 }, { x: 4, y: 9 }, { x: 10, y: 0 }])).toBe('M0.0,0.0 C2.0,0.0 2.0,9.0 4.0,9.0 C7.0,9.0 7.0,0.0 10.0,0.0');
    expect(curve([])).toBe('');
  });
});

describe('rates', () => {
  const edges = (of: Graph) => Object.fromEntries(of.edges.map(({ from, to, rate }) => [`${from} ${to}`, rate]));

  it('are those of an edge where there is no other, or as the broker tells', () => {
    const graph: Graph = {
      nodes: (['exchange:/:x', 'queue:/:one', 'queue:/:two', 'rule:/:r'] as const).map((id) => ({
        id,
        kind: id.split(':')[0] as Kind,
        name: id,
      })),
      edges: [
        { from: 'exchange:/:x', to: 'queue:/:one' },
        { from: 'exchange:/:x', to: 'queue:/:two' },
        { from: 'exchange:/:y', to: 'queue:/:two', rate: 7 },
        { from: 'queue:/:one', to: 'rule:/:r' },
      ],
    };
    const stats = { publish_details: { rate: 3 }, deliver_get_details: { rate: 2 } };
    const items = ['one', 'two'].map((name) => ({ name, vhost: '/', message_stats: stats }));
    expect(edges(withRates(graph, { items }, undefined))).toEqual({
      'exchange:/:x queue:/:one': 3,
      'exchange:/:x queue:/:two': undefined,
      'exchange:/:y queue:/:two': 7,
      'queue:/:one rule:/:r': 2,
    });
  });
});

describe('a view', () => {
  const screen = { width: 1000, height: 500 };

  it('zooms about the point that is pointed at', () => {
    const view = zoom({ scale: 1, x: 0, y: 0 }, 2, { x: 100, y: 50 });
    expect(view).toEqual({ scale: 2, x: -100, y: -50 });
    expect(zoom(view, 100, { x: 0, y: 0 }).scale).toBe(2.5);
  });

  it('shows all of it, unless that could not be read', () => {
    expect(fit({ width: 100, height: 100 }, screen)).toEqual({ scale: 1, x: 450, y: 200 });
    expect(first({ width: 9000, height: 9000 }, screen).scale).toBe(0.58);
  });

  it('moves as little as it takes', () => {
    const view = { scale: 1, x: 0, y: 0 };
    expect(reveal(view, { x: 100, y: 100, width: 50, height: 50 }, screen)).toEqual(view);
    expect(reveal(view, { x: 2000, y: 100, width: 50, height: 50 }, screen).x).toBe(1000 - 24 - 2050);
  });
});

describe('an explanation', () => {
  it('lights what the message takes', () => {
    const step = { type: 'topic', destination_type: 'queue' as const, binding_key: '', reason: '', code: 'always' };
    const explanation: Explanation = {
      routed: true,
      queues: ['bills'],
      refused: null,
      queue_reasons: [],
      steps: [
        { ...step, exchange: 'orders', destination: 'bills', matched: true },
        { ...step, exchange: 'orders', destination: 'mails', matched: false },
      ],
    };
    const lit = litBy(explanation, shop, '/', 'orders');
    expect([...lit].sort()).toEqual(['exchange:/:orders', 'exchange:/:orders → queue:/:bills', 'queue:/:bills']);
  });

  it('takes headers a line each', () => {
    expect(headersOf('kind: order\nn: 3\nflag: true\nnonsense\n')).toEqual({ kind: 'order', n: 3, flag: true });
  });
});
