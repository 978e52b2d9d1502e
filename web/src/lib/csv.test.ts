import { expect, it } from 'vitest';
import { csvOf } from './csv';

it('a table is written with quotes where they are needed, and without formulas', () => {
  const rows = [
    ['a, b', 'say "hi"', 1.5, null],
    ['=1+1', { x: [1] }, true, undefined],
  ];
  expect(csvOf(['Name', 'What'], rows)).toBe('Name,What\r\n"a, b","say ""hi""",1.5,\r\n\'=1+1,"{""x"":[1]}",true,\r\n');
});
