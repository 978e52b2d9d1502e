// Where the reader is: the hash of the address, as state.

import { formatHash, parseHash } from './router';

class Router {
  #hash = $state(location.hash);
  readonly #address = $derived(parseHash(this.#hash));
  /** Decoded segments of the path. As text, so that a new query alone does not count as a change. */
  readonly path = $derived(formatHash(this.#address.segments, {}));

  get segments(): string[] {
    return this.#address.segments;
  }

  get query(): Record<string, string> {
    return this.#address.query;
  }

  constructor() {
    window.addEventListener('hashchange', () => {
      this.#hash = location.hash;
    });
  }

  /** To an address made by `link` or `formatHash`. */
  go(hash: string): void {
    location.hash = hash;
  }

  /** Changes parts of the query and leaves no trace in the history; empty values take a part away. */
  setQuery(changes: Record<string, string>): void {
    const hash = formatHash(this.segments, { ...this.query, ...changes });
    history.replaceState(history.state, '', hash);
    this.#hash = hash;
  }
}

export const router = new Router();
