import { describe, expect, it } from 'vitest';
import { formatHash, link, match, parseHash } from './router';

describe('addresses', () => {
  it('decode names, the vhost / among them', () => {
    expect(parseHash('#/queues/%2F/a%20b?page=2&name=x%26y')).toEqual({
      segments: ['queues', '/', 'a b'],
      query: { page: '2', name: 'x&y' },
    });
  });

  it('of nothing are the overview', () => {
    for (const hash of ['', '#', '#/']) expect(parseHash(hash)).toEqual({ segments: [], query: {} });
  });

  it('with a broken escape are taken as they are', () => {
    expect(parseHash('#/queues/%zz').segments).toEqual(['queues', '%zz']);
  });

  it('come back as they were', () => {
    const address = { segments: ['queues', '/', 'ä/ö?#'], query: { sort: 'messages', page: '3' } };
    expect(parseHash(formatHash(address.segments, address.query))).toEqual(address);
    expect(link('queues', '/')).toBe('#/queues/%2F');
  });
});

describe('patterns', () => {
  it('give parameters', () => {
    expect(match('/queues/:vhost/:name', ['queues', '/', 'orders'])).toEqual({ vhost: '/', name: 'orders' });
    expect(match('/', [])).toEqual({});
  });

  it('fit only their length and words', () => {
    expect(match('/queues/:vhost/:name', ['queues', '/'])).toBeNull();
    expect(match('/queues', ['exchanges'])).toBeNull();
  });
});
