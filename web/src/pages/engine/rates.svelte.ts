// How fast counters grow that the broker tells of without a rate.

import { rateBetween } from './engine';

const WINDOW_MS = 3000;

/** Keeps looks at counters by name; `of` is the rate over the last seconds. */
export class Rates {
  #looks = new Map<string, { at: number; count: number }[]>();
  #rates = $state.raw<Record<string, number | null>>({});

  /** The counters as they are now. */
  look(counters: [string, number][], at: number): void {
    const rates: Record<string, number | null> = {};
    for (const [name, count] of counters) {
      const looks = [...(this.#looks.get(name) ?? []).filter((look) => at - look.at < 2 * WINDOW_MS), { at, count }];
      this.#looks.set(name, looks);
      const before = looks.findLast((look) => at - look.at >= WINDOW_MS) ?? looks[0];
      rates[name] = rateBetween(before, { at, count });
    }
    this.#rates = rates;
  }

  of(name: string): number | null {
    return this.#rates[name] ?? null;
  }
}
