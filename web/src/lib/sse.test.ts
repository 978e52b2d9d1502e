import { describe, expect, it } from 'vitest';
import { EventParser } from './sse';

describe('server-sent events', () => {
  it('come out whole of any pieces', () => {
    const text = ': keep\n\nevent: data\ndata: {"a":\ndata: 1}\n\ndata: x\r\n\r\n';
    const parser = new EventParser();
    const events = [...text].flatMap((letter) => parser.push(letter));
    expect(events).toEqual([
      { event: 'data', data: '{"a":\n1}' },
      { event: 'message', data: 'x' },
    ]);
  });
});
