// Who is logged in, and which vhost is looked at.

import { ApiError, ask, get, onLoggedOut } from './api';
import { arrive, type Grant, isBack, renewed } from './oauth';

export interface Whoami {
  name: string;
  tags: string[];
}

const VHOST = 'millpond.vhost';
/** A token is renewed when so much of its time is over. */
const RENEW_AT = 0.75;
/** The longest time that a timer of a browser can be set to. Milliseconds. */
const TIMER_MAX_MS = 2 ** 31 - 1;

class Session {
  user = $state.raw<Whoami | null>(null);
  /** No answer from the broker at all. */
  unreachable = $state(false);
  /** The vhost that lists are about; empty for all. */
  vhost = $state('');
  /** Somebody was logged in, and the broker no longer knows them. */
  hasEnded = $state(false);
  /** Why signing in at the provider came to nothing. */
  refused = $state.raw<unknown>(null);
  #renewal: ReturnType<typeof setTimeout> | undefined;

  async start(): Promise<void> {
    this.vhost = localStorage.getItem(VHOST) ?? '';
    onLoggedOut(() => {
      this.hasEnded ||= this.user !== null;
      this.#forget();
    });
    if (isBack(location.search)) {
      try {
        await this.#enter(await arrive(location.search));
        return;
      } catch (error) {
        this.refused = error;
      }
    }
    try {
      this.user = await get<Whoami>('/whoami');
      this.unreachable = false;
    } catch (error) {
      this.user = null;
      this.unreachable = error instanceof ApiError && error.status === 0;
    }
  }

  /** Throws an `ApiError` if the broker does not know them. */
  async login(username: string, password: string): Promise<void> {
    await ask('POST', '/login', { username, password });
    this.user = await get<Whoami>('/whoami');
    this.unreachable = false;
    this.hasEnded = false;
    this.refused = null;
  }

  async logout(): Promise<void> {
    await ask('DELETE', '/login').catch(() => undefined);
    this.#forget();
  }

  #forget(): void {
    clearTimeout(this.#renewal);
    this.user = null;
  }

  /** With a token in place of a password, and with another one before it ends. */
  async #enter({ token, refreshToken, expiresIn }: Grant): Promise<void> {
    await this.login('', token);
    clearTimeout(this.#renewal);
    if (!refreshToken || expiresIn <= 0) return;
    const renew = async () => {
      // If it fails, the login ends with its token, and the page says so then.
      const grant = await renewed(refreshToken).catch(() => null);
      if (grant && this.user) await this.#enter(grant).catch(() => undefined);
    };
    this.#renewal = setTimeout(() => void renew(), Math.min(expiresIn * 1000 * RENEW_AT, TIMER_MAX_MS));
  }

  chooseVhost(vhost: string): void {
    this.vhost = vhost;
    if (vhost) localStorage.setItem(VHOST, vhost);
    else localStorage.removeItem(VHOST);
  }

  has(tag: 'administrator' | 'monitoring' | 'policymaker' | 'management'): boolean {
    const tags = this.user?.tags ?? [];
    return tags.includes(tag) || tags.includes('administrator');
  }

  /** Whether one may see the node and what is not one's own. */
  get seesAll(): boolean {
    return this.has('monitoring');
  }

  /** RabbitMQ's way to list one vhost's or all: `list('queues')` is `/queues` or `/queues/%2F`. */
  list(kind: string): string {
    return this.vhost ? `/${kind}/${encodeURIComponent(this.vhost)}` : `/${kind}`;
  }
}

export const session = new Session();
