// What the admin pages know of users, permissions and policies. Pure.

export interface User {
  name: string;
  tags: string[];
  password_hash?: string;
  limits?: Record<string, number>;
}

export interface Permission {
  user: string;
  vhost: string;
  configure: string;
  write: string;
  read: string;
}

export interface TopicPermission {
  user: string;
  vhost: string;
  exchange: string;
  write: string;
  read: string;
}

export interface Vhost {
  name: string;
  description?: string;
  default_queue_type?: string;
  messages?: number;
  protected_from_deletion?: boolean;
}

export interface Policy {
  vhost: string;
  name: string;
  pattern: string;
  'apply-to': string;
  priority: number;
  definition: Record<string, unknown>;
}

export const TAGS = ['management', 'policymaker', 'monitoring', 'administrator'] as const;
export const APPLY_TO = ['all', 'queues', 'classic_queues', 'quorum_queues', 'streams', 'exchanges'] as const;
export const VHOST_LIMITS = ['max-connections', 'max-queues'] as const;
export const USER_LIMITS = ['max-connections', 'max-channels'] as const;

/** What people set most, with an example of a value. */
export const POLICY_KEYS: Record<string, unknown> = {
  'message-ttl': 60000,
  expires: 3600000,
  'max-length': 100000,
  'max-length-bytes': 104857600,
  overflow: 'reject-publish',
  'dead-letter-exchange': '',
  'dead-letter-routing-key': 'dead',
  'delivery-limit': 20,
  'max-age': '7D',
  'alternate-exchange': 'unrouted',
  'delayed-message': true,
  rate: 100,
};

/** How much a permission gives: everything, something or nothing. */
export function extent(pattern: string): 'all' | 'some' | 'none' {
  if (pattern === '') return 'none';
  return pattern === '.*' ? 'all' : 'some';
}

/** Names that a pattern is found in; null if the browser cannot read the pattern. */
export function fitting(names: string[], pattern: string): string[] | null {
  try {
    const wanted = new RegExp(pattern);
    return names.filter((name) => wanted.test(name));
  } catch {
    return null;
  }
}

/** Whether a policy that is for `applyTo` is for a queue or exchange of this type. */
export function isFor(applyTo: string, kind: 'queue' | 'exchange', type: string): boolean {
  if (applyTo === 'all') return true;
  if (kind === 'exchange') return applyTo === 'exchanges';
  if (applyTo === 'queues') return true;
  return applyTo === `${type}_queues` || (applyTo === 'streams' && type === 'stream');
}

/** An object of JSON, or undefined. */
export function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

/** The definition with one more key, as text; the text as it is if it is no object. */
export function withKey(text: string, key: string): string {
  const definition = parseObject(text || '{}');
  if (!definition) return text;
  return JSON.stringify({ ...definition, [key]: definition[key] ?? POLICY_KEYS[key] ?? '' }, null, 2);
}

/** A whole number from 0 on, or undefined. */
export function wholeNumber(text: string): number | undefined {
  return /^\d{1,9}$/.test(text.trim()) ? Number(text.trim()) : undefined;
}

/** The broker's report of an import: what was left out, an object each. */
export function leftOut(reason: string): string[] {
  const told = reason.replace(/^imported but for /, '');
  if (told === reason) return [];
  return told.split(/; (?=\w+\[\d+\])/);
}
