// Answers of the broker that are asked for once, and again when something was changed: what does not change by itself.

import { ApiError, get } from './api';
import type { Live } from './live.svelte';

/** As `live`, without the stream. Null asks for nothing. */
export function loaded<T>(path: () => string | null): Live<T> {
  let data = $state.raw<T | undefined>(undefined);
  let error = $state.raw<ApiError | undefined>(undefined);
  let at = $state(0);
  let wanted: string | null = null;

  async function refresh(): Promise<void> {
    const asked = wanted;
    if (asked === null) return;
    try {
      const answer = await get<T>(asked);
      if (asked !== wanted) return;
      data = answer;
      error = undefined;
    } catch (refused) {
      if (asked !== wanted) return;
      error = refused instanceof ApiError ? refused : new ApiError(0, '', String(refused));
    }
    at = Date.now();
  }

  $effect(() => {
    wanted = path();
    void refresh();
    return () => {
      wanted = null;
    };
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
    refresh,
  };
}
