import { describe, expect, it } from 'vitest';
import { nextOf, type Schedule, targetOf } from './later';

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
