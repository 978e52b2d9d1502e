import { describe, expect, it } from 'vitest';
import { auditQuery } from './audit';

describe('what is asked of the audit log', () => {
  it('is what stands in the address, and the vhost that is chosen', () => {
    expect(auditQuery({ user: 'ann', result: 'refused', page: '2' }, 'v')).toEqual({ user: 'ann', kind: '', result: 'refused', since: '', vhost: 'v' });
  });

  it('begins at a full minute, so that it is the same question for a while', () => {
    const since = (now: number) => auditQuery({ since: 'hour' }, '', now).since;
    expect(since(3_600_000 + 120_001)).toBe('120000');
    expect(since(3_600_000 + 179_999)).toBe('120000');
    expect(auditQuery({ since: 'ever' }, '', 0).since).toBe('');
  });
});
