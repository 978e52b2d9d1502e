// Bodies of messages as people read them: JSON laid out, text as it is, anything else as hexadecimal.

export type PayloadView = 'json' | 'text' | 'hex' | 'base64';

const encoder = new TextEncoder();

export function bytesOf(payload: string, encoding: 'string' | 'base64'): Uint8Array {
  if (encoding === 'string') return encoder.encode(payload);
  return Uint8Array.from(atob(payload), (letter) => letter.charCodeAt(0));
}

/** The text, if these bytes are one. */
export function textOf(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

/** Offset, sixteen bytes, and what of them is ASCII. */
export function hexOf(bytes: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = [...bytes.subarray(at, at + 16)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    const ascii = row.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : '.')).join('');
    lines.push(`${at.toString(16).padStart(6, '0')}  ${hex.padEnd(47)}  ${ascii}`);
  }
  return lines.join('\n');
}

/** Laid out JSON; null if it is none. Only objects and lists: `5` and `"x"` read best as they are. */
export function jsonOf(text: string): string | null {
  if (!/^\s*[[{]/.test(text)) return null;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return null;
  }
}

/** Which views there are, the best first. */
export function viewsOf(payload: string, encoding: 'string' | 'base64'): PayloadView[] {
  const text = textOf(bytesOf(payload, encoding));
  if (text === null) return ['hex', 'base64'];
  return jsonOf(text) === null ? ['text', 'hex', 'base64'] : ['json', 'text', 'hex', 'base64'];
}

export function view(payload: string, encoding: 'string' | 'base64', as: PayloadView): string {
  const bytes = bytesOf(payload, encoding);
  const text = textOf(bytes) ?? '';
  if (as === 'json') return jsonOf(text) ?? text;
  if (as === 'text') return text;
  if (as === 'hex') return hexOf(bytes);
  let binary = '';
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}
