import { describe, expect, it } from 'vitest';
import { hexOf, view, viewsOf } from './payload';

describe('payloads', () => {
  it('are JSON, text or bytes', () => {
    expect(viewsOf('{"a":1}', 'string')[0]).toBe('json');
    expect(viewsOf('{a}', 'string')[0]).toBe('text');
    expect(viewsOf('5', 'string')[0]).toBe('text');
    expect(viewsOf(btoa('\xff\xfe'), 'base64')).toEqual(['hex', 'base64']);
  });

  it('are shown each way', () => {
    expect(view('{"a":1}', 'string', 'json')).toBe('{\n  "a": 1\n}');
    expect(view('aGk=', 'base64', 'text')).toBe('hi');
    expect(view('hä', 'string', 'base64')).toBe('aMOk');
  });

  it('are hexadecimal in rows of sixteen', () => {
    const lines = hexOf(new TextEncoder().encode('0123456789abcdef\n')).split('\n');
    expect(lines[0]).toBe('000000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef');
    expect(lines[1]?.startsWith('000010  0a ')).toBe(true);
  });
});
