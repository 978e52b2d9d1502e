// What will be published later, as the API tells of it. Pure.

export interface Schedule {
  name: string;
  vhost: string;
  cron: string;
  zone: string;
  exchange: string;
  routing_key: string;
  missed: 'skip' | 'once' | 'all';
  state: 'running' | 'paused';
  last_ms: number | null;
  /** Null if the expression names no further moment. */
  next_ms: number | null;
  fired: number;
  /** Messages that nothing took. */
  unrouted: number;
  payload_bytes: number;
}

export interface ScheduleDetail extends Schedule {
  next: { at_ms: number; text: string }[];
  payload: string;
  headers: Record<string, unknown>;
}

/** When it publishes next; null of one that is paused. */
export function nextOf(schedule: Schedule): number | null {
  return schedule.state === 'paused' ? null : schedule.next_ms;
}

/** Where it publishes, in one line: the default exchange takes the message to the queue of that name. */
export function targetOf({ exchange, routing_key }: Pick<Schedule, 'exchange' | 'routing_key'>): string {
  return [exchange, routing_key].filter(Boolean).join(' → ');
}

/** An exchange at which messages wait. */
export interface DelayedExchange {
  name: string;
  vhost: string;
  waiting: number;
  next_due_ms: number | null;
}

/** A message that waits. What is on disk tells nothing but its number and its time. */
export interface DelayedMessage {
  id: number;
  due_ms: number;
  routing_key: string | null;
  message_id: string | null;
  payload_bytes: number | null;
}

/** Messages that are shown at first, and the most: as many as the broker tells of. */
const SHOWN_FIRST = 100;
const SHOWN_MAX = 10_000;

/** How many are to be shown when more are wanted than `shown`; null if there are no more, or the broker tells of no more. */
export function moreThan(shown: number, waiting: number): number | null {
  if (shown >= waiting || shown >= SHOWN_MAX) return null;
  return Math.min(Math.max(shown * 4, SHOWN_FIRST), SHOWN_MAX);
}

/** Whether its content is on disk. */
export function isOnDisk(message: DelayedMessage): boolean {
  return message.payload_bytes === null;
}
