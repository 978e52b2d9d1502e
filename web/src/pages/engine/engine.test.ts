import { describe, expect, it } from 'vitest';
import { actionsFor, exampleEvent, type Failure, gathered, lineOf, planIsEmpty, rateBetween, stateKind } from './engine';

describe('a rule', () => {
  it('that runs can be stopped, one that rests can be started', () => {
    expect(actionsFor('running')).toEqual(['pause', 'drain', 'stop']);
    expect(actionsFor('paused')).toEqual(['start']);
    expect([stateKind('running'), stateKind('waiting'), stateKind('paused')]).toEqual(['ok', 'danger', 'plain']);
  });

  it('tells the same failure once, the latest first', () => {
    const of = (at_ms: number, reason: string) => ({ at_ms, reason }) as Failure;
    const told = gathered([of(3, 'refused'), of(2, 'no host'), of(1, 'refused'), of(5, 'no host')]);
    expect(told.map(({ latest, times, since }) => [latest.reason, latest.at_ms, times, since])).toEqual([
      ['no host', 5, 2, 2],
      ['refused', 3, 2, 1],
    ]);
  });

  it('has an example of an event out of its own definition', () => {
    const rule = { on: { exchange: 'orders', key: 'order.*' }, when: '.data.amount > 0', do: [{ log: '.data.order' }] };
    expect(JSON.parse(exampleEvent(rule))).toMatchObject({ type: 'order.x', data: { amount: 12.5, order: 'a7' } });
    expect(JSON.parse(exampleEvent({}))).toMatchObject({ data: {} });
  });
});

describe('a rate', () => {
  it('is told of two looks, and not when the counter began anew', () => {
    expect(rateBetween({ at: 0, count: 10 }, { at: 2000, count: 30 })).toBe(10);
    expect(rateBetween({ at: 0, count: 10 }, { at: 2000, count: 3 })).toBeNull();
    expect(rateBetween(undefined, { at: 2000, count: 3 })).toBeNull();
  });
});

describe('a difference', () => {
  it('is told by the sign of each line', () => {
    expect([lineOf('- a'), lineOf('+ b'), lineOf('  c')].map(({ sign, text }) => sign + text)).toEqual(['-a', '+b', '   c']);
  });
});

describe('a plan', () => {
  it('without changes is empty, one with mistakes is not', () => {
    expect(planIsEmpty({ valid: true, diagnostics: [], add: 0, change: 0, remove: 0 })).toBe(true);
    expect(planIsEmpty({ valid: true, diagnostics: [], add: 1 })).toBe(false);
    expect(planIsEmpty({ valid: false, diagnostics: [] })).toBe(false);
  });
});
