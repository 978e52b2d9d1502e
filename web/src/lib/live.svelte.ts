// Answers of the broker that keep themselves up to date, for components.

import { ApiError } from './api';
import { LiveHub, type Mode } from './live-hub';

class LiveState {
  mode = $state<Mode>('idle');
}

/** Whether what is shown is live. */
export const liveState = new LiveState();

export const hub = new LiveHub((mode) => {
  liveState.mode = mode;
});
document.addEventListener('visibilitychange', () => hub.restart());

export interface Live<T> {
  /** The latest good answer; undefined until the first. */
  readonly data: T | undefined;
  /** Why there is none, if the latest answer was a refusal. */
  readonly error: ApiError | undefined;
  /** When it was heard, in milliseconds; 0 if it was not. */
  readonly at: number;
  /** Asks once more now. */
  refresh: () => Promise<void>;
}

/**
 * What the broker answers to a GET of this path under /api, as long as the component lives. With another path the old
 * answer stays until the new one is there. Null asks for nothing.
 */
export function live<T>(path: () => string | null): Live<T> {
  let data = $state.raw<T | undefined>(undefined);
  let error = $state.raw<ApiError | undefined>(undefined);
  let at = $state(0);
  $effect(() => {
    const wanted = path();
    if (wanted === null) {
      data = undefined;
      error = undefined;
      return;
    }
    return hub.subscribe(wanted, ({ status, body }) => {
      at = Date.now();
      if (status < 400) {
        data = body as T;
        error = undefined;
      } else {
        const said = body as { error?: string; reason?: string } | null;
        error = new ApiError(status, said?.error ?? '', said?.reason ?? String(status));
      }
    });
  });
  return {
    get data() {
      return data;
    },
    get error() {
      return error;
    },
    get at() {
      return at;
    },
    refresh: async () => {
      const wanted = path();
      if (wanted !== null) await hub.refresh(wanted);
    },
  };
}

class Clock {
  now = $state(Date.now());

  constructor() {
    setInterval(() => {
      if (!document.hidden) this.now = Date.now();
    }, 1000);
  }
}

/** The time, each second, for "5 minutes ago". */
export const clock = new Clock();
