// Short notes at the edge of the page: what was done, or why the broker refused.

import { ApiError } from './api';
import { t } from './i18n/index.svelte';

export interface Note {
  id: number;
  kind: 'done' | 'error';
  text: string;
}

const STAYS_MS = { done: 3500, error: 10_000 };
const NOTES_MAX = 4;

class Toasts {
  notes = $state<Note[]>([]);
  #next = 1;

  #add(kind: Note['kind'], text: string): void {
    const id = this.#next++;
    this.notes = [...this.notes.slice(1 - NOTES_MAX), { id, kind, text }];
    setTimeout(() => this.dismiss(id), STAYS_MS[kind]);
  }

  done(text: string): void {
    this.#add('done', text);
  }

  error(error: unknown): void {
    this.#add('error', wordsOf(error));
  }

  dismiss(id: number): void {
    this.notes = this.notes.filter((note) => note.id !== id);
  }
}

export const toasts = new Toasts();

/** Why something failed, for a reader. */
export function wordsOf(error: unknown): string {
  if (error instanceof ApiError && error.status === 0) return t('error.noAnswer');
  if (error instanceof ApiError && error.isMissing && error.message === 'Not Found') return t('error.missing');
  return error instanceof Error ? error.message : String(error);
}

/** Does something that may be refused; says which, and whether it was done. */
export async function attempt(work: () => Promise<unknown>, done?: string): Promise<boolean> {
  try {
    await work();
    if (done) toasts.done(done);
    return true;
  } catch (error) {
    toasts.error(error);
    return false;
  }
}
