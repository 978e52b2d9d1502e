import { describe, expect, it } from 'vitest';
import { type Column, member, sorted } from './table';

const columns: Column<{ name: string; of: { n?: number } }>[] = [
  { key: 'name', title: 'Name' },
  { key: 'of.n', title: 'N' },
];
const rows = [
  { name: 'q10', of: { n: 2 } },
  { name: 'q9', of: {} },
  { name: 'a', of: { n: 10 } },
];
const names = (key: string, reverse = false) => sorted(rows, columns, key, reverse).map((row) => row.name);

describe('tables', () => {
  it('sort names as people count, and figures by size with what is missing first', () => {
    expect(names('name')).toEqual(['a', 'q9', 'q10']);
    expect(names('of.n')).toEqual(['q9', 'q10', 'a']);
    expect(names('of.n', true)).toEqual(['a', 'q10', 'q9']);
  });

  it('leave rows alone without a column', () => expect(names('nothing')).toEqual(['q10', 'q9', 'a']));

  it('find members of members', () => {
    expect(member(rows[0], 'of.n')).toBe(2);
    expect(member(undefined, 'of.n')).toBeUndefined();
  });
});
