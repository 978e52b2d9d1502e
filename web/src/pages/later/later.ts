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
