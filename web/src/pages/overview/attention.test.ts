import { en } from '$lib/i18n/en';
import { describe, expect, it } from 'vitest';
import { facts, hrefOf, merged } from './attention';

// As docs/guide/monitoring.md lists them.
const KINDS = 'alarm memory_high disk_low queue_stuck queue_growing queue_without_consumers consumer_behind dead_letters audit_log_failing certificate_ends certificates_failing rule_stopped rule_failing source_failing';

describe('what needs attention', () => {
  it.each(KINDS.split(' '))('%s has words', (kind) => expect(Object.keys(en)).toContain(`attention.${kind}`));

  it('has its figures in units, and nothing for what is not told', () => {
    const told = facts({ kind: 'memory_high', severity: 'warning', used: 2048, limit: 4096, rate: 12.34, reason: null });
    expect(told).toMatchObject({ used: '2 KiB', limit: '4 KiB', rate: '12.3/s', reason: '', name: '', messages: '' });
  });

  it('says of a queue that grows and has no consumers one thing', () => {
    const of = (kind: string, name: string) => ({ kind, name, vhost: '/', severity: 'warning' });
    const items = [of('queue_growing', 'a'), of('queue_growing', 'b'), of('queue_without_consumers', 'a'), of('queue_without_consumers', 'c')];
    expect(merged(items).map(({ kind, name }) => `${kind} ${name}`)).toEqual(['queue_growing_alone a', 'queue_growing b', 'queue_without_consumers c']);
  });

  it('leads to the thing', () => {
    expect(hrefOf({ kind: 'queue_growing', severity: 'warning', vhost: '/', name: 'a b' })).toBe('#/queues/%2F/a%20b');
    expect(hrefOf({ kind: 'rule_failing', severity: 'warning', name: 'r' })).toBe('#/rules/r');
    expect(hrefOf({ kind: 'alarm', severity: 'error' })).toBeUndefined();
  });
});
