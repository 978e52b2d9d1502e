// Rules, sources and the topology file, as the API tells of them. Pure.

export interface Failure {
  at_ms: number;
  reason: string;
  attempts?: number;
  parked?: boolean;
}

export interface Rule {
  name: string;
  state: string;
  reason: string | null;
  version: number;
  ready: number;
  unacked: number;
  parked: number;
  seen: number;
  acted: number;
  retried: number;
  failed: number;
  queue: string;
  parking_queue: string;
  actions: { kind: string; name: string | null; exchange: string | null; on_error: boolean }[];
  last_failure: Failure | null;
}

export interface RuleDetail extends Rule {
  place: string;
  definition: string;
  rule: Record<string, unknown>;
  failures: Failure[];
}

export interface Source {
  name: string;
  kind: string;
  state: string;
  reason: string | null;
  events: number;
  dropped: number;
  failed: number;
  errors: number;
  exchange: string;
  last_failure: Failure | null;
}

export interface SourceDetail extends Source {
  place: string;
  definition: string;
  cursor: unknown;
  failures: Failure[];
}

export interface Version {
  version: number;
  since_ms: number;
  file: string;
  definition: string;
  difference: string[];
}

export interface DryRun {
  result: 'acts' | 'skips' | 'fails';
  error?: string;
  parking_queue?: string;
  actions: { kind: string; members: unknown; text: string }[];
  /** The kind of the first action that waits for answers of those before. */
  rest: string | null;
}

export interface Replay {
  from: string;
  read: number;
  given: number;
  dry_run: boolean;
  acts: number;
  acted: number;
  same: number;
  differ: number;
  unknown: number;
  would_park: number;
  left_off: number;
  messages: {
    place: string | number;
    id: string | null;
    at_ms: number | null;
    version: number | null;
    parked: string | null;
    now: Record<string, unknown>[];
    then: Record<string, unknown>[] | null;
    difference: string[];
  }[];
}

export interface Diagnostic {
  line: number | null;
  path: string;
  text: string;
}

export interface Plan {
  valid: boolean;
  diagnostics: Diagnostic[];
  add?: number;
  change?: number;
  remove?: number;
  leave?: number;
  refusals?: (string | { text: string })[];
  changes?: {
    change: 'add' | 'change' | 'remove' | 'leave';
    what: string;
    name: string;
    place: string;
    then: string;
    difference: string[];
  }[];
}

export type StateKind = 'ok' | 'warn' | 'danger' | 'plain';

/** How a state of a rule or source is shown. */
export function stateKind(state: string): StateKind {
  if (state === 'running') return 'ok';
  if (state.startsWith('waiting') || state === 'failing') return 'danger';
  return state === 'pausing' || state === 'draining' ? 'warn' : 'plain';
}

export type Action = 'start' | 'stop' | 'pause' | 'drain';

/** What can be done with a rule in this state. */
export function actionsFor(state: string): Action[] {
  if (state === 'running' || state.startsWith('waiting')) return ['pause', 'drain', 'stop'];
  if (state === 'pausing' || state === 'draining') return ['start', 'stop'];
  return ['start'];
}

/** The same failure many times is told once: the latest of them, how many, and when the first of these was. */
export function gathered(failures: Failure[]): { latest: Failure; times: number; since: number }[] {
  const found = new Map<string, { latest: Failure; times: number; since: number }>();
  for (const failure of failures) {
    const key = `${failure.parked ?? ''} ${failure.reason}`;
    const known = found.get(key);
    if (!known) found.set(key, { latest: failure, times: 1, since: failure.at_ms });
    else {
      known.times += 1;
      known.since = Math.min(known.since, failure.at_ms);
      if (failure.at_ms > known.latest.at_ms) known.latest = failure;
    }
  }
  return [...found.values()].sort((one, other) => other.latest.at_ms - one.latest.at_ms);
}

/** Events per second between two looks at a counter; null if that cannot be said. */
export function rateBetween(before: { at: number; count: number } | undefined, now: { at: number; count: number }): number | null {
  if (!before || now.at <= before.at || now.count < before.count) return null;
  return ((now.count - before.count) * 1000) / (now.at - before.at);
}

/** An event that the rule's `on` would take, to begin with. */
export function exampleEvent(rule: Record<string, unknown>): string {
  const on = (rule.on ?? {}) as Record<string, unknown>;
  const first = (value: unknown) => (Array.isArray(value) ? value[0] : value);
  const type = first(on.type ?? on.key);
  const event: Record<string, unknown> = { id: 'e1', time: '2026-01-31T10:00:00Z' };
  if (typeof type === 'string') event.type = type.replace(/[#*]/g, 'x');
  const data: Record<string, unknown> = {};
  for (const path of fieldsOf(rule)) data[path] = /amount|count|price|total|number|size/.test(path) ? 12.5 : 'a7';
  return JSON.stringify({ ...event, data }, null, 2);
}

/** Members of `.data` that a definition speaks of. */
export function fieldsOf(definition: unknown): string[] {
  const text = JSON.stringify(definition);
  return [...new Set([...text.matchAll(/\.data\.(\w+)/g)].map((found) => found[1] as string))];
}

/** A line of a difference: what stands before it, and the text. */
export function lineOf(line: string): { sign: '+' | '-' | ' '; text: string } {
  const sign = line[0] === '+' || line[0] === '-' ? line[0] : ' ';
  return { sign, text: sign === ' ' ? line : line.slice(1).replace(/^ /, '') };
}

/** How often each kind of change comes in a plan; a plan without changes is empty. */
export function planIsEmpty(plan: Plan): boolean {
  return plan.valid && !plan.add && !plan.change && !plan.remove;
}
