// Lines over time: what the broker remembers, then what is heard live. Pure.

import { member } from './ui/table';

export interface Measure {
  label: string;
  /** The member of the answer: `messages_ready`, `message_stats.publish`. */
  key: string;
  /** A level is shown as it is; of a counter, its rate. */
  kind: 'level' | 'rate';
  color: number;
}

/** RabbitMQ's samples: newest first, counters as their sum until then. */
interface Sample {
  timestamp: number;
  sample: number;
}

export interface Lines {
  /** Milliseconds, ascending. */
  times: number[];
  /** One list a measure. */
  values: (number | null)[][];
}

export const nothing = (measures: Measure[]): Lines => ({ times: [], values: measures.map(() => []) });

function samplesOf(body: unknown, measure: Measure): Sample[] {
  const found = member(body, `${measure.key}_details.samples`);
  return Array.isArray(found) ? (found as Sample[]).toReversed() : [];
}

/** What the broker remembers of the measures. */
export function remembered(body: unknown, measures: Measure[]): Lines {
  const byTime = new Map<number, (number | null)[]>();
  const row = (at: number) => {
    const known = byTime.get(at) ?? measures.map(() => null);
    byTime.set(at, known);
    return known;
  };
  for (const [index, measure] of measures.entries()) {
    const samples = samplesOf(body, measure);
    for (const [at, { timestamp, sample }] of samples.entries()) {
      const before = samples[at - 1];
      if (measure.kind === 'level') row(timestamp)[index] = sample;
      else if (before && timestamp > before.timestamp) {
        row(timestamp)[index] = Math.max(0, ((sample - before.sample) * 1000) / (timestamp - before.timestamp));
      }
    }
  }
  const times = [...byTime.keys()].sort((a, b) => a - b);
  return { times, values: measures.map((_, index) => times.map((at) => byTime.get(at)?.[index] ?? null)) };
}

/** What is so now. A rate that is not told is none: RabbitMQ leaves counters out that never counted. */
export function present(body: unknown, measures: Measure[]): (number | null)[] {
  return measures.map((measure) => {
    const key = measure.kind === 'level' ? measure.key : `${measure.key}_details.rate`;
    const value = member(body, key);
    if (typeof value === 'number') return value;
    return measure.kind === 'rate' && body !== undefined ? 0 : null;
  });
}

/** With one more moment, and without those older than the span. Milliseconds. */
export function extended(lines: Lines, at: number, values: (number | null)[], span: number): Lines {
  const last = lines.times.at(-1) ?? 0;
  if (at <= last) return lines;
  let from = 0;
  while (from < lines.times.length && (lines.times[from] ?? 0) < at - span) from += 1;
  return {
    times: [...lines.times.slice(from), at],
    values: lines.values.map((each, index) => [...each.slice(from), values[index] ?? null]),
  };
}
