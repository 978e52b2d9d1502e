import { describe, expect, it } from 'vitest';
import { isOnDisk, moreThan, nextOf, type Schedule, targetOf } from './later';

const schedule: Schedule = {
  name: 'nightly',
  vhost: '/',
  cron: '0 2 * * *',
  zone: 'UTC',
  exchange: 'orders',
  routing_key: 'order.report',
  missed: 'once',
  state: 'running',
  last_ms: null,
  next_ms: 5000,
  fired: 0,
  unrouted: 0,
  payload_bytes: 2,
};

describe('a schedule', () => {
  it('has no next moment while it is paused', () => {
    expect(nextOf(schedule)).toBe(5000);
    expect(nextOf({ ...schedule, state: 'paused' })).toBeNull();
  });

  it('names the queue alone if it publishes to the default exchange', () => {
    expect(targetOf(schedule)).toBe('orders → order.report');
    expect(targetOf({ exchange: '', routing_key: 'reports' })).toBe('reports');
    expect(targetOf({ exchange: 'orders', routing_key: '' })).toBe('orders');
  });
});

describe('delayed messages', () => {
  it('are shown by more and more until all are, or the broker tells of no more', () => {
    expect(moreThan(0, 5)).toBe(100);
    expect(moreThan(100, 100)).toBeNull();
    expect([moreThan(100, 1000), moreThan(6400, 1e6), moreThan(10_000, 1e6)]).toEqual([400, 10_000, null]);
  });

  it('of which no content is known are on disk; an empty one is not', () => {
    const message = { id: 1, due_ms: 5, routing_key: '', message_id: null, payload_bytes: 0 };
    expect(isOnDisk(message)).toBe(false);
    expect(isOnDisk({ ...message, routing_key: null, payload_bytes: null })).toBe(true);
  });
});
