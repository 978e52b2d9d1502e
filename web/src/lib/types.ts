// What the API answers, as far as the console reads it. Members that a broker may leave out are optional.

export type Arguments = Record<string, unknown>;

export interface Rate {
  rate?: number;
}

export interface MessageStats {
  publish?: number;
  publish_details?: Rate;
  confirm_details?: Rate;
  deliver_get_details?: Rate;
  ack_details?: Rate;
  redeliver_details?: Rate;
  publish_in_details?: Rate;
  publish_out_details?: Rate;
}

/** A thing that a node knows, with its description. */
export interface Described {
  name: string;
  description: string;
}

export interface Listener {
  protocol: string;
  ip_address?: string;
  port: number;
  tls?: boolean;
}

export interface Overview {
  product_name: string;
  product_version: string;
  rabbitmq_version: string;
  node: string;
  cluster_name: string;
  queue_totals: { messages?: number; messages_ready?: number; messages_unacknowledged?: number };
  object_totals: { channels: number; connections: number; consumers: number; exchanges: number; queues: number };
  message_stats?: MessageStats;
  exchange_types?: Described[];
  listeners?: Listener[];
}

export interface Node {
  name: string;
  running: boolean;
  auth_mechanisms: Described[];
  exchange_types: Described[];
  uptime: number;
  mem_used: number;
  mem_limit?: number;
  mem_alarm: boolean;
  disk_free?: number;
  disk_free_limit?: number;
  disk_free_alarm: boolean;
  fd_used: number;
  fd_total: number;
  sockets_used: number;
  sockets_total: number;
  processors: number;
  os_pid: string;
}

export interface Queue {
  name: string;
  vhost: string;
  type: string;
  durable: boolean;
  auto_delete: boolean;
  exclusive?: boolean;
  arguments: Arguments;
  state?: string;
  paused?: boolean;
  messages?: number;
  messages_ready?: number;
  messages_unacknowledged?: number;
  messages_delayed?: number;
  message_bytes?: number;
  consumers?: number;
  policy?: string;
  operator_policy?: string;
  effective_policy_definition?: Arguments;
  message_stats?: MessageStats;
  consumer_details?: Consumer[];
}

export interface Consumer {
  consumer_tag: string;
  queue: { name: string; vhost: string };
  ack_required: boolean;
  active: boolean;
  activity_status?: string;
  exclusive?: boolean;
  prefetch_count: number;
  priority?: number;
  arguments?: Arguments;
  channel_details: { name?: string; number?: number; connection_name?: string; user?: string; peer_host?: string; peer_port?: number };
  messages_unacknowledged?: number;
  rate_promised?: number | null;
  rate_window_ms?: number | null;
  rate_delivered?: number | null;
  lease_ms?: number | null;
  paused?: boolean;
}

export interface Exchange {
  name: string;
  vhost: string;
  type: string;
  durable: boolean;
  auto_delete: boolean;
  internal: boolean;
  arguments: Arguments;
  policy?: string;
  message_stats?: MessageStats;
}

export interface Binding {
  source: string;
  vhost: string;
  destination: string;
  destination_type: 'queue' | 'exchange';
  routing_key: string;
  arguments: Arguments;
  properties_key: string;
}

export interface Connection {
  name: string;
  user: string;
  vhost: string;
  state: string;
  protocol?: string;
  ssl?: boolean;
  channels: number;
  connected_at: number;
  peer_host?: string;
  peer_port?: number;
  host?: string;
  port?: number;
  auth_mechanism?: string;
  user_provided_name?: string;
  timeout?: number;
  frame_max?: number;
  channel_max?: number;
  recv_oct?: number;
  send_oct?: number;
  recv_oct_details?: Rate;
  send_oct_details?: Rate;
  client_properties?: Arguments;
}

export interface Channel {
  name: string;
  number: number;
  user: string;
  vhost: string;
  state: string;
  connection_details?: { name: string; peer_host?: string; peer_port?: number };
  prefetch_count?: number;
  consumer_count?: number;
  messages_unacknowledged?: number;
  messages_unconfirmed?: number;
  confirm?: boolean;
  transactional?: boolean;
  message_stats?: MessageStats;
}

export interface Attention {
  kind: string;
  severity: string;
  vhost?: string;
  name?: string;
  since?: number;
  [fact: string]: unknown;
}

/** A message that is looked at, without a trace on it. */
export interface Browsed {
  seq: number;
  state: 'ready' | 'unacked';
  published_at?: number;
  exchange: string;
  routing_key: string;
  redelivered: boolean;
  delivery_count?: number;
  properties: { headers?: Arguments; [name: string]: unknown };
  payload: string;
  payload_bytes: number;
  payload_encoding: 'string' | 'base64';
  consumer_tag?: string;
}
