import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { en } from './en';
import { fill } from './fill';
import { zh } from './zh';

const SOURCE = new URL('../..', import.meta.url).pathname;

function sources(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) return sources(path);
    return /\.(svelte|ts)$/.test(name) && !/\.test\.ts$/.test(name) ? [path] : [];
  });
}

const parameters = (text: string) => [...text.matchAll(/\{(\w+)/g)].map((found) => found[1]).sort();

describe('words', () => {
  it('are there in both languages, and none is empty', () => {
    expect(Object.keys(zh).sort()).toEqual(Object.keys(en).sort());
    for (const words of [en, zh]) {
      for (const [key, text] of Object.entries(words)) expect(text, key).not.toBe('');
    }
  });

  it('take the same parameters in both languages', () => {
    for (const [key, text] of Object.entries(en)) {
      const ours = new Set(parameters(text));
      const theirs = new Set(parameters(zh[key as keyof typeof zh]));
      for (const name of theirs) expect(ours, `${key} in Chinese has {${name}}`).toContain(name);
    }
  });

  it('are asked for by keys that exist', () => {
    for (const path of sources(SOURCE)) {
      const text = readFileSync(path, 'utf8');
      for (const [, key] of text.matchAll(/\bt\(\s*'([a-z]\w*\.[\w.]+)'/g)) expect(Object.keys(en), path).toContain(key);
    }
  });
});

describe('fill', () => {
  it('puts parameters in', () => {
    expect(fill('{n} {n|queue|queues} of {of}', { n: 1, of: 9 })).toBe('1 queue of 9');
    expect(fill('{n} {n|queue|queues} of {of}', { n: 2, of: 9 })).toBe('2 queues of 9');
  });

  it('leaves what is not given', () => {
    expect(fill('{a} {b}', { a: 'x' })).toBe('x {b}');
  });
});
