import { describe, expect, it } from 'vitest';
import { extended, type Measure, nothing, present, remembered } from './history';

const measures: Measure[] = [
  { label: 'Ready', key: 'messages_ready', kind: 'level', color: 1 },
  { label: 'In', key: 'message_stats.publish', kind: 'rate', color: 2 },
];
const body = {
  messages_ready: 7,
  messages_ready_details: {
    samples: [
      { timestamp: 20_000, sample: 7 },
      { timestamp: 10_000, sample: 5 },
    ],
  },
  message_stats: {
    publish: 130,
    publish_details: {
      rate: 3,
      samples: [
        { timestamp: 20_000, sample: 130 },
        { timestamp: 10_000, sample: 100 },
      ],
    },
  },
};

describe('what the broker remembers', () => {
  it('is levels as they were, and rates out of sums', () => {
    expect(remembered(body, measures)).toEqual({ times: [10_000, 20_000], values: [[5, 7], [null, 3]] });
  });

  it('is nothing of a broker that remembers nothing', () => {
    expect(remembered({}, measures)).toEqual(nothing(measures));
  });
});

describe('what is heard live', () => {
  it('is the level, the rate, and no rate where nothing is counted yet', () => {
    expect(present(body, measures)).toEqual([7, 3]);
    expect(present({}, measures)).toEqual([null, 0]);
    expect(present(undefined, measures)).toEqual([null, null]);
  });

  it('is added at the end, and what is old falls out', () => {
    let lines = nothing(measures);
    for (const at of [1000, 2000, 3000, 3000]) lines = extended(lines, at, [at, 0], 1500);
    expect(lines).toEqual({ times: [2000, 3000], values: [[2000, 3000], [0, 0]] });
  });
});
