// Every page of the console: its address, where it stands in the navigation, and how its code is loaded.
//
// A page is a component that takes the parameters of its pattern as `params`. It is loaded when it is first visited.

import type { Component } from 'svelte';
import type { Key } from './i18n/index.svelte';
import { match } from './router';
import type { IconName } from './ui/icons';

export type Params = Record<string, string>;
export type PageComponent = Component<{ params: Params }>;
/** Who may see a page in the navigation; the broker decides what is shown on it. */
export type Needs = 'management' | 'monitoring' | 'policymaker' | 'administrator';

export interface Route {
  pattern: string;
  title: Key;
  load: () => Promise<{ default: PageComponent }>;
  /** In the navigation, under this heading. */
  group?: 'broker' | 'engine' | 'admin';
  icon?: IconName;
  /** Pressed after `g`. */
  shortcut?: string;
  needs?: Needs;
}

/** Erases the parameters' type of a page: which it has is said by its pattern. */
const page = (load: () => Promise<unknown>) => load as Route['load'];

export const routes: Route[] = [
  { pattern: '/', title: 'nav.overview', group: 'broker', icon: 'overview', shortcut: 'o', load: page(() => import('../pages/overview/Overview.svelte')) },
  { pattern: '/start', title: 'nav.start', load: page(() => import('../pages/overview/Start.svelte')) },
  { pattern: '/queues', title: 'nav.queues', group: 'broker', icon: 'queue', shortcut: 'q', load: page(() => import('../pages/queues/Queues.svelte')) },
  { pattern: '/queues/:vhost/:name', title: 'nav.queue', load: page(() => import('../pages/queues/Queue.svelte')) },
  { pattern: '/exchanges', title: 'nav.exchanges', group: 'broker', icon: 'exchange', shortcut: 'e', load: page(() => import('../pages/exchanges/Exchanges.svelte')) },
  { pattern: '/exchanges/:vhost/:name', title: 'nav.exchange', load: page(() => import('../pages/exchanges/Exchange.svelte')) },
  { pattern: '/connections', title: 'nav.connections', group: 'broker', icon: 'connection', shortcut: 'c', load: page(() => import('../pages/connections/Connections.svelte')) },
  { pattern: '/connections/:name', title: 'nav.connection', load: page(() => import('../pages/connections/Connection.svelte')) },
  { pattern: '/channels', title: 'nav.channels', group: 'broker', icon: 'channel', shortcut: 'h', load: page(() => import('../pages/connections/Channels.svelte')) },
  { pattern: '/channels/:name', title: 'nav.channel', load: page(() => import('../pages/connections/Channel.svelte')) },
  { pattern: '/consumers', title: 'nav.consumers', group: 'broker', icon: 'consumer', shortcut: 's', load: page(() => import('../pages/connections/Consumers.svelte')) },
  { pattern: '/topology', title: 'nav.topology', group: 'broker', icon: 'topology', shortcut: 't', load: page(() => import('../pages/topology/Topology.svelte')) },
  { pattern: '/rules', title: 'nav.rules', group: 'engine', icon: 'rule', shortcut: 'r', needs: 'monitoring', load: page(() => import('../pages/engine/Rules.svelte')) },
  { pattern: '/rules/:name', title: 'nav.rule', load: page(() => import('../pages/engine/Rule.svelte')) },
  { pattern: '/sources', title: 'nav.sources', group: 'engine', icon: 'source', needs: 'monitoring', load: page(() => import('../pages/engine/Sources.svelte')) },
  { pattern: '/sources/:name', title: 'nav.source', load: page(() => import('../pages/engine/Source.svelte')) },
  { pattern: '/schedules', title: 'nav.schedules', group: 'engine', icon: 'schedule', shortcut: 'w', load: page(() => import('../pages/later/Schedules.svelte')) },
  { pattern: '/schedules/:vhost/:name', title: 'nav.schedule', load: page(() => import('../pages/later/Schedule.svelte')) },
  { pattern: '/delayed', title: 'nav.delayed', group: 'engine', icon: 'letter', shortcut: 'l', load: page(() => import('../pages/later/Delayed.svelte')) },
  { pattern: '/delayed/:vhost/:name', title: 'nav.delayed', load: page(() => import('../pages/later/DelayedOf.svelte')) },
  { pattern: '/topology-file', title: 'nav.topologyFile', group: 'engine', icon: 'file', shortcut: 'f', needs: 'monitoring', load: page(() => import('../pages/engine/TopologyFile.svelte')) },
  { pattern: '/secrets', title: 'nav.secrets', group: 'engine', icon: 'key', needs: 'administrator', load: page(() => import('../pages/engine/Secrets.svelte')) },
  { pattern: '/users', title: 'nav.users', group: 'admin', icon: 'user', shortcut: 'u', needs: 'administrator', load: page(() => import('../pages/admin/Users.svelte')) },
  { pattern: '/users/:name', title: 'nav.user', load: page(() => import('../pages/admin/User.svelte')) },
  { pattern: '/permissions', title: 'nav.permissions', group: 'admin', icon: 'key', needs: 'administrator', load: page(() => import('../pages/admin/Permissions.svelte')) },
  { pattern: '/vhosts', title: 'nav.vhosts', group: 'admin', icon: 'vhost', shortcut: 'v', needs: 'administrator', load: page(() => import('../pages/admin/Vhosts.svelte')) },
  { pattern: '/vhosts/:name', title: 'nav.vhost', load: page(() => import('../pages/admin/Vhost.svelte')) },
  { pattern: '/policies', title: 'nav.policies', group: 'admin', icon: 'policy', shortcut: 'p', needs: 'policymaker', load: page(() => import('../pages/admin/Policies.svelte')) },
  { pattern: '/definitions', title: 'nav.definitions', group: 'admin', icon: 'definitions', shortcut: 'd', needs: 'administrator', load: page(() => import('../pages/admin/Definitions.svelte')) },
  { pattern: '/audit', title: 'nav.audit', group: 'admin', icon: 'audit', shortcut: 'a', needs: 'administrator', load: page(() => import('../pages/admin/Audit.svelte')) },
  { pattern: '/node', title: 'nav.node', group: 'admin', icon: 'limit', shortcut: 'n', needs: 'monitoring', load: page(() => import('../pages/admin/Node.svelte')) },
];

export const GROUPS = ['broker', 'engine', 'admin'] as const;

/** The page of an address, with its parameters; null if there is none. */
export function routeOf(segments: string[]): { route: Route; params: Params } | null {
  for (const route of routes) {
    const params = match(route.pattern, segments);
    if (params) return { route, params };
  }
  return null;
}
