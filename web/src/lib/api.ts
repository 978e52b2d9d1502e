// The broker's HTTP API: errors with the broker's own reason, names encoded.

/** What the broker answered when it refused. */
export class ApiError extends Error {
  constructor(
    /** The HTTP status; 0 if there was no answer. */
    readonly status: number,
    /** RabbitMQ's word for it: `not_authorized`, `bad_request`. */
    readonly word: string,
    reason: string,
  ) {
    super(reason);
  }

  /** There is no such thing, or this broker has no such path. */
  get isMissing(): boolean {
    return this.status === 404;
  }

  /** Nobody is logged in: RabbitMQ says 401 also to those who may not, in another word. */
  get isLoggedOut(): boolean {
    return this.status === 401 && this.word === 'not_authorized';
  }
}

export type Method = 'GET' | 'PUT' | 'POST' | 'DELETE';

let loggedOut = () => {};

/** What is to be done when the broker no longer knows who asks. */
export function onLoggedOut(listener: () => void): void {
  loggedOut = listener;
}

/** A path under /api from names, each percent-encoded: `pathOf('queues', '/', 'a b')` is `/queues/%2F/a%20b`. */
export function pathOf(...names: string[]): string {
  return names.map((name) => `/${encodeURIComponent(name)}`).join('');
}

/** A path with a query; what is undefined, null, false or empty is left out. */
export function withQuery(path: string, query: Record<string, string | number | boolean | null | undefined>): string {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined || value === null || value === false || value === '') continue;
    pairs.set(name, String(value));
  }
  const text = pairs.toString();
  return text ? `${path}?${text}` : path;
}

async function refusal(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => '');
  try {
    const body = JSON.parse(text) as { error?: unknown; reason?: unknown };
    const reason = typeof body.reason === 'string' ? body.reason : JSON.stringify(body.reason ?? body);
    return new ApiError(response.status, String(body.error ?? ''), reason);
  } catch {
    return new ApiError(response.status, '', text.trim() || response.statusText);
  }
}

export interface Options {
  signal?: AbortSignal;
  headers?: Record<string, string>;
}

/** One request, for the response itself. Throws an `ApiError` unless it is a success. */
export async function request(method: Method, path: string, body?: unknown, options: Options = {}): Promise<Response> {
  const headers: Record<string, string> = { 'X-Requested-With': 'console', ...options.headers };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  let response: Response;
  try {
    response = await fetch(`/api${path}`, {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      credentials: 'same-origin',
      cache: 'no-store',
      signal: options.signal ?? null,
    });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(0, 'no_answer', String(error instanceof Error ? error.message : error));
  }
  if (response.ok) return response;
  const refused = await refusal(response);
  if (refused.isLoggedOut) loggedOut();
  throw refused;
}

/** One request, for what the answer says; undefined if it says nothing. */
export async function ask<T>(method: Method, path: string, body?: unknown, options: Options = {}): Promise<T> {
  const response = await request(method, path, body, options);
  const text = await response.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

export const get = <T>(path: string, options?: Options) => ask<T>('GET', path, undefined, options);
export const put = <T = void>(path: string, body: unknown = {}) => ask<T>('PUT', path, body);
export const post = <T = void>(path: string, body: unknown = {}) => ask<T>('POST', path, body);
export const del = <T = void>(path: string, options?: Options) => ask<T>('DELETE', path, undefined, options);
