// The audit log as the API tells of it; docs/guide/audit.md.

import type { Key } from '$lib/i18n/index.svelte';

export interface AuditEntry {
  id: number;
  /** Milliseconds since 1970. */
  timestamp: number;
  operation: string;
  result: 'done' | 'refused';
  user_who_performed_action: string;
  authenticated_by: 'password' | 'certificate' | 'token' | 'control_socket' | 'internal';
  front_end: 'amqp' | 'management' | 'events' | 'control' | 'internal';
  peer_host?: string;
  kind: string;
  vhost?: string;
  name: string;
  detail?: string;
  reason?: string;
  /** How many it stands for, if more than one. */
  count?: number;
}

/** What entries can be chosen by: kinds of things. */
export const AUDIT_KINDS = ['user', 'permission', 'vhost', 'policy', 'parameter', 'queue', 'exchange', 'binding', 'connection', 'rule', 'source', 'secret', 'broker'] as const;

/** How long ago, in milliseconds. */
export const AUDIT_SINCE = { hour: 3_600_000, day: 86_400_000, week: 604_800_000 } as const;

/** Full minutes, so that the question stays the same for a while. */
const STEP_MS = 60_000;

/** What the API is asked for, of what stands in the address. */
export function auditQuery(address: Record<string, string>, vhost: string, now = Date.now()): Record<string, string> {
  const { user = '', kind = '', result = '', since = '' } = address;
  const ago = AUDIT_SINCE[since as keyof typeof AUDIT_SINCE] ?? 0;
  const from = ago ? String(Math.floor((now - ago) / STEP_MS) * STEP_MS) : '';
  return { user, kind, result, since: from, vhost };
}

/** Words for how somebody came in; a broker that is newer may say something else. */
export const credentialKey = ({ authenticated_by }: AuditEntry): Key => `audit.by.${authenticated_by}`;
export const doorKey = ({ front_end }: AuditEntry): Key => `audit.at.${front_end}`;
