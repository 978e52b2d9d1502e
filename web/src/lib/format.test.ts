import { describe, expect, it } from 'vitest';
import { bytes, count, duration, rate, relative, short } from './format';

describe('figures', () => {
  it.each([
    [0, '0'],
    [1234, '1,234'],
    [9_999_999, '9,999,999'],
    [12_345_678, '12.3M'],
    [undefined, '–'],
    [NaN, '–'],
  ])('count %s is %s', (given, shown) => expect(count(given)).toBe(shown));

  it.each([
    [0, '0'],
    [999, '999'],
    [1000, '1k'],
    [1234, '1.23k'],
    [-45_600, '-45.6k'],
    [1e9, '1G'],
  ])('short %s is %s', (given, shown) => expect(short(given)).toBe(shown));

  it.each([
    [0, '0/s'],
    [0.001, '<0.01/s'],
    [0.2, '0.2/s'],
    [12.34, '12.3/s'],
    [4321, '4,321/s'],
    [54_321, '54.3k/s'],
    [null, '–'],
  ])('rate %s is %s', (given, shown) => expect(rate(given)).toBe(shown));

  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1536, '1.5 KiB'],
    [5 * 1024 ** 3, '5 GiB'],
  ])('bytes %s is %s', (given, shown) => expect(bytes(given)).toBe(shown));

  it.each([
    [0, '0 ms'],
    [350, '350 ms'],
    [12_000, '12 s'],
    [3_600_000, '1 h'],
    [3_660_000, '1 h 1 min'],
    [90_000_000, '1 d 1 h'],
    [86_400_000 + 5000, '1 d'],
  ])('duration %s is %s', (given, shown) => expect(duration(given)).toBe(shown));
});

describe('times', () => {
  it('are told from now', () => {
    expect(relative(0, 300_000, 'en-GB')).toBe('5 minutes ago');
    expect(relative(0, 400, 'en-GB')).toBe('now');
    expect(relative(0, 7_200_000, 'zh-CN')).toBe('2小时前');
  });
});
