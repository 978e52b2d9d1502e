// Pure parts of the router: patterns and addresses.

export interface Address {
  /** Decoded segments. */
  segments: string[];
  query: Record<string, string>;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** What stands behind `#`: `#/queues/%2F/orders?page=2`. */
export function parseHash(hash: string): Address {
  const [path = '', search = ''] = hash.replace(/^#?\/?/, '').split('?', 2);
  const segments = path.split('/').filter((segment) => segment !== '').map(decode);
  return { segments, query: Object.fromEntries(new URLSearchParams(search)) };
}

/** The parameters of a pattern such as `/queues/:vhost/:name`, if the address fits. */
export function match(pattern: string, segments: string[]): Record<string, string> | null {
  const wanted = pattern.split('/').filter((segment) => segment !== '');
  if (wanted.length !== segments.length) return null;
  const params: Record<string, string> = {};
  for (const [index, want] of wanted.entries()) {
    const is = segments[index] ?? '';
    if (want.startsWith(':')) params[want.slice(1)] = is;
    else if (want !== is) return null;
  }
  return params;
}

/** An address for a link: `link('queues', '/', 'orders')` is `#/queues/%2F/orders`. */
export function link(...names: string[]): string {
  return `#/${names.map(encodeURIComponent).join('/')}`;
}

/** An address with a query; empty values are left out. */
export function formatHash(segments: string[], query: Record<string, string>): string {
  const pairs = Object.entries(query).filter(([, value]) => value !== '');
  const text = new URLSearchParams(pairs).toString();
  return link(...segments) + (text ? `?${text}` : '');
}
