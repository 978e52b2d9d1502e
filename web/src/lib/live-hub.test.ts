import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Heard, LiveHub, type Mode } from './live-hub';

const encoder = new TextEncoder();
const json = (body: unknown, status = 200) => new Response(JSON.stringify(body), { status });
const told = (path: string, body: unknown) => `event: data\ndata: ${JSON.stringify({ path, status: 200, body })}\n\n`;

/** A broker with a stream that the test writes to. */
class Broker {
  asked: string[] = [];
  streams: ReadableStreamDefaultController<Uint8Array>[] = [];
  answers: Record<string, unknown> = {};
  hasLive = true;

  fetch = (url: string, init: RequestInit): Promise<Response> => {
    this.asked.push(url);
    if (url.startsWith('/api/live')) {
      if (!this.hasLive) return Promise.resolve(json({ error: 'Object Not Found', reason: 'Not Found' }, 404));
      const body = new ReadableStream<Uint8Array>({ start: (stream) => void this.streams.push(stream) });
      init.signal?.addEventListener('abort', () => {
        for (const stream of this.streams.splice(0)) stream.error(new Error('aborted'));
      });
      return Promise.resolve(new Response(body));
    }
    const path = url.slice('/api'.length);
    return Promise.resolve(path in this.answers ? json(this.answers[path]) : json({ error: 'x', reason: 'gone' }, 404));
  };

  say(path: string, body: unknown) {
    for (const stream of this.streams) stream.enqueue(encoder.encode(told(path, body)));
  }
}

describe('the live hub', () => {
  let broker: Broker;
  let modes: Mode[];
  let hub: LiveHub;
  let heard: Heard[];
  const listen = (each: Heard) => void heard.push(each);

  beforeEach(() => {
    vi.useFakeTimers();
    broker = new Broker();
    vi.stubGlobal('fetch', broker.fetch);
    modes = [];
    heard = [];
    hub = new LiveHub((mode) => modes.push(mode), () => false);
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  it('asks for all that a page wants in one stream', async () => {
    hub.subscribe('/overview', listen);
    hub.subscribe('/queues?page=1', listen);
    await vi.advanceTimersByTimeAsync(50);
    expect(broker.asked).toEqual(['/api/live?path=%2Foverview&path=%2Fqueues%3Fpage%3D1']);
    expect(modes).toEqual(['stream']);
    broker.say('/overview', { n: 1 });
    await vi.advanceTimersByTimeAsync(1);
    expect(heard).toEqual([{ path: '/overview', status: 200, body: { n: 1 } }]);
  });

  it('tells only what differs, and a late listener the latest', async () => {
    hub.subscribe('/a', listen);
    await vi.advanceTimersByTimeAsync(50);
    for (const n of [1, 1, 2]) broker.say('/a', n);
    await vi.advanceTimersByTimeAsync(1);
    expect(heard.map((each) => each.body)).toEqual([1, 2]);
    hub.subscribe('/a', listen);
    expect(heard.map((each) => each.body)).toEqual([1, 2, 2]);
  });

  it('ends the stream with the last listener', async () => {
    const end = hub.subscribe('/a', listen);
    await vi.advanceTimersByTimeAsync(50);
    end();
    await vi.advanceTimersByTimeAsync(50);
    expect(broker.streams).toHaveLength(0);
    expect(modes).toEqual(['stream', 'idle']);
  });

  it('notices that the other end has gone without a word, and asks again', async () => {
    hub.subscribe('/a', listen);
    await vi.advanceTimersByTimeAsync(30_000);
    broker.say('/a', 1);
    await vi.advanceTimersByTimeAsync(30_000);
    expect(modes).toEqual(['stream']);
    await vi.advanceTimersByTimeAsync(11_000);
    expect(modes).toEqual(['stream', 'lost']);
    await vi.advanceTimersByTimeAsync(2100);
    expect(modes).toEqual(['stream', 'lost', 'stream']);
  });

  it('polls a broker that has no stream', async () => {
    broker.hasLive = false;
    broker.answers['/a'] = 1;
    hub.subscribe('/a', listen);
    await vi.advanceTimersByTimeAsync(200);
    broker.answers['/a'] = 2;
    await vi.advanceTimersByTimeAsync(2100);
    expect(heard.map((each) => each.body)).toEqual([1, 2]);
    expect(modes).toEqual(['poll']);
  });

  it('tells refusals as what they are', async () => {
    broker.hasLive = false;
    hub.subscribe('/nothing', listen);
    await vi.advanceTimersByTimeAsync(200);
    expect(heard).toEqual([{ path: '/nothing', status: 404, body: { error: 'x', reason: 'gone' } }]);
  });

  it('asks at once for what was just changed', async () => {
    hub.subscribe('/a', listen);
    await vi.advanceTimersByTimeAsync(50);
    broker.answers['/a'] = 7;
    await hub.refresh('/a');
    expect(heard.map((each) => each.body)).toEqual([7]);
  });
});
