import { en } from '$lib/i18n/en';
import { describe, expect, it } from 'vitest';
import { facts, hrefOf } from './attention';

// As docs/guide/monitoring.md lists them.
const KINDS = 'alarm memory_high disk_low queue_stuck queue_growing queue_without_consumers consumer_behind dead_letters rule_stopped rule_failing source_failing';

describe('what needs attention', () => {
  it.each(KINDS.split(' '))('%s has words', (kind) => expect(Object.keys(en)).toContain(`attention.${kind}`));

  it('has its figures in units, and nothing for what is not told', () => {
    const told = facts({ kind: 'memory_high', severity: 'warning', used: 2048, limit: 4096, rate: 12.34, reason: null });
    expect(told).toMatchObject({ used: '2 KiB', limit: '4 KiB', rate: '12.3/s', reason: '', name: '', messages: '' });
  });

  it('leads to the thing', () => {
    expect(hrefOf({ kind: 'queue_growing', severity: 'warning', vhost: '/', name: 'a b' })).toBe('#/queues/%2F/a%20b');
    expect(hrefOf({ kind: 'rule_failing', severity: 'warning', name: 'r' })).toBe('#/rules/r');
    expect(hrefOf({ kind: 'alarm', severity: 'error' })).toBeUndefined();
  });
});
