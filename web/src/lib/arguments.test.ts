import { describe, expect, it } from 'vitest';
import { formatArguments, parseArguments } from './arguments';

describe('arguments', () => {
  it('are numbers, truths, JSON or text', () => {
    const text = 'x-max-length = 1000\n\n a=true\nb = reject-publish\nc = ["x", 1]\nd = "5"\ne=1e3x\nf=';
    expect(parseArguments(text)).toEqual({
      ok: true,
      value: { 'x-max-length': 1000, a: true, b: 'reject-publish', c: ['x', 1], d: '5', e: '1e3x', f: '' },
    });
  });

  it('that are none are told by their line', () => {
    expect(parseArguments('a=1\nnothing')).toEqual({ ok: false, line: 2, text: 'nothing' });
    expect(parseArguments('= 1')).toEqual({ ok: false, line: 1, text: '= 1' });
  });

  it('come back as they were', () => {
    const value = { a: 1, b: 'text', c: { d: [true] } };
    expect(parseArguments(formatArguments(value))).toEqual({ ok: true, value });
  });
});
