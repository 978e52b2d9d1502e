import { describe, expect, it } from 'vitest';
import { extent, fitting, isFor, leftOut, wholeNumber, withKey } from './admin';

describe('permissions', () => {
  it('tell everything, something and nothing', () => {
    expect([extent('.*'), extent('^shop\\.'), extent('')]).toEqual(['all', 'some', 'none']);
  });
});

describe('policies', () => {
  it('are shown with the names that they would fit', () => {
    expect(fitting(['orders.a', 'b'], '^orders\\.')).toEqual(['orders.a']);
    expect(fitting(['a'], '(')).toBeNull();
  });

  it('are for the types they name', () => {
    expect(isFor('queues', 'queue', 'stream')).toBe(true);
    expect(isFor('quorum_queues', 'queue', 'classic')).toBe(false);
    expect(isFor('streams', 'queue', 'stream')).toBe(true);
    expect(isFor('exchanges', 'queue', 'classic')).toBe(false);
    expect(isFor('all', 'exchange', 'topic')).toBe(true);
  });

  it('take a key with an example, and keep a value that is there', () => {
    expect(JSON.parse(withKey('', 'max-length'))).toEqual({ 'max-length': 100000 });
    expect(JSON.parse(withKey('{"max-length": 5}', 'max-length'))).toEqual({ 'max-length': 5 });
    expect(withKey('{', 'max-length')).toBe('{');
  });
});

describe('limits', () => {
  it('are whole numbers from 0 on', () => {
    expect([wholeNumber('0'), wholeNumber(' 12 '), wholeNumber('-1'), wholeNumber('x')]).toEqual([0, 12, undefined, undefined]);
  });
});

describe('an import', () => {
  it('names what was left out, an object each', () => {
    const reason = "imported but for policies[0] (name 'bad'): 'ha-mode' is no key; known are a; queues[2] (name 'q'): other";
    expect(leftOut(reason)).toEqual(["policies[0] (name 'bad'): 'ha-mode' is no key; known are a", "queues[2] (name 'q'): other"]);
    expect(leftOut('not JSON')).toEqual([]);
  });
});
