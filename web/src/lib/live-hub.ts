// One stream for all that the page shows: `GET /api/live?path=...`. A broker without it, or a viewer too many, is
// polled instead; pages do not notice.

import { ApiError, get, request } from './api';
import { EventParser } from './sse';

/** What the broker said of a path. */
export interface Heard {
  path: string;
  status: number;
  body: unknown;
}

export type Listener = (heard: Heard) => void;
export type Mode = 'idle' | 'stream' | 'poll' | 'lost';

/** Paths that the broker takes in one stream; those beyond are polled. */
const STREAM_PATHS_MAX = 8;
const POLL_MS = 2000;
/** Pages change their paths in bursts: all of one burst make one stream. */
const SETTLE_MS = 15;
const RETRY_MS = 2000;
/** The broker says something each 15 seconds. A stream that is silent for longer has lost its other end, unnoticed. */
const SILENT_MS = 40_000;

interface Watch {
  listeners: Set<Listener>;
  last?: Heard;
  text?: string;
}

export class LiveHub {
  #watches = new Map<string, Watch>();
  #settle: ReturnType<typeof setTimeout> | undefined;
  #abort: AbortController | undefined;
  #canStream = true;
  #mode: Mode = 'idle';

  constructor(
    private readonly onMode: (mode: Mode) => void = () => {},
    private readonly isHidden: () => boolean = () => document.hidden,
  ) {}

  /** Hears each new answer of a path, the latest at once if it is known. Returns how to end it. */
  subscribe(path: string, listener: Listener): () => void {
    let watch = this.#watches.get(path);
    if (!watch) {
      watch = { listeners: new Set() };
      this.#watches.set(path, watch);
      this.#restart();
    }
    watch.listeners.add(listener);
    if (watch.last) listener(watch.last);
    return () => {
      watch.listeners.delete(listener);
      if (watch.listeners.size > 0 || this.#watches.get(path) !== watch) return;
      this.#watches.delete(path);
      this.#restart();
    };
  }

  /** Asks once more now: something was just changed. */
  async refresh(path?: string): Promise<void> {
    const paths = path === undefined ? [...this.#watches.keys()] : [path];
    await Promise.all(paths.map((each) => this.#ask(each)));
  }

  /** The page was hidden or shown, or somebody else logged in. */
  restart(): void {
    this.#canStream = true;
    this.#restart();
  }

  #restart(): void {
    clearTimeout(this.#settle);
    this.#settle = setTimeout(() => this.#begin(), SETTLE_MS);
  }

  #begin(): void {
    this.#abort?.abort();
    this.#abort = undefined;
    if (this.#watches.size === 0 || this.isHidden()) return this.#enter('idle');
    const abort = new AbortController();
    this.#abort = abort;
    const paths = [...this.#watches.keys()];
    const streamed = this.#canStream ? paths.slice(0, STREAM_PATHS_MAX) : [];
    const polled = paths.slice(streamed.length);
    if (streamed.length > 0) void this.#stream(streamed, abort.signal);
    if (polled.length > 0) void this.#poll(polled, abort.signal);
  }

  #enter(mode: Mode): void {
    if (mode === this.#mode) return;
    this.#mode = mode;
    this.onMode(mode);
  }

  async #stream(paths: string[], signal: AbortSignal): Promise<void> {
    const query = paths.map((path) => `path=${encodeURIComponent(path)}`).join('&');
    const silence = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const listen = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENT_MS);
    };
    listen();
    try {
      const response = await request('GET', `/live?${query}`, undefined, { signal: AbortSignal.any([signal, silence.signal]) });
      this.#enter('stream');
      const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new EventParser();
      while (reader) {
        const { done, value } = await reader.read();
        if (done) break;
        listen();
        for (const event of parser.push(value)) this.#hear(JSON.parse(event.data) as Heard);
      }
      if (!signal.aborted) this.#later(signal);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && error.status > 0) {
        if (error.isLoggedOut) return this.#enter('idle');
        this.#canStream = false;
        this.#restart();
      } else {
        this.#enter('lost');
        this.#later(signal);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #later(signal: AbortSignal): void {
    setTimeout(() => {
      if (!signal.aborted) this.#restart();
    }, RETRY_MS);
  }

  async #poll(paths: string[], signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const heard = await Promise.all(paths.map((path) => this.#ask(path, signal)));
      if (signal.aborted) return;
      if (!this.#canStream) this.#enter(heard.every(Boolean) ? 'poll' : 'lost');
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  /** Whether there was an answer. */
  async #ask(path: string, signal?: AbortSignal): Promise<boolean> {
    try {
      const body = await get(path, signal ? { signal } : {});
      this.#hear({ path, status: 200, body });
    } catch (error) {
      if (signal?.aborted) return true;
      if (!(error instanceof ApiError) || error.status === 0) return false;
      this.#hear({ path, status: error.status, body: { error: error.word, reason: error.message } });
    }
    return true;
  }

  /** Listeners hear only what differs. */
  #hear(heard: Heard): void {
    const watch = this.#watches.get(heard.path);
    if (!watch) return;
    const text = heard.status + JSON.stringify(heard.body);
    if (watch.text === text) return;
    watch.text = text;
    watch.last = heard;
    for (const listener of watch.listeners) listener(heard);
  }
}

