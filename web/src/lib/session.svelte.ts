// Who is logged in, and which vhost is looked at.

import { ApiError, ask, get, onLoggedOut } from './api';

export interface Whoami {
  name: string;
  tags: string[];
}

const VHOST = 'millpond.vhost';

class Session {
  user = $state.raw<Whoami | null>(null);
  /** No answer from the broker at all. */
  unreachable = $state(false);
  /** The vhost that lists are about; empty for all. */
  vhost = $state('');

  async start(): Promise<void> {
    this.vhost = localStorage.getItem(VHOST) ?? '';
    onLoggedOut(() => {
      this.user = null;
    });
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
  }

  async logout(): Promise<void> {
    await ask('DELETE', '/login').catch(() => undefined);
    this.user = null;
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
