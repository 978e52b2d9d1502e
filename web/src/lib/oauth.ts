// Signing in at an OAuth 2 provider: the authorization code flow with PKCE (RFC 7636), in the browser alone.
//
// The broker says who the provider is (GET /api/auth); the provider says where its doors are (OpenID Connect
// Discovery). What has to outlast the way there and back is kept in this tab's session storage and used once.

import { get } from './api';

export interface Provider {
  /** The issuer, as its tokens and its discovery document name it. */
  issuer: string;
  clientId: string;
  /** Separated by spaces. */
  scopes: string;
}

export interface Grant {
  token: string;
  /** For another token before this one ends; not every provider gives one. */
  refreshToken: string | undefined;
  /** How long the token is good. Seconds; 0 if the provider does not tell. */
  expiresIn: number;
}

/** Why nobody was let in: a key of words, and what they need. */
export class SignInError extends Error {
  constructor(
    readonly key: 'login.noProvider' | 'login.refused' | 'login.stateWrong' | 'login.insecure',
    readonly facts: Record<string, string> = {},
  ) {
    super(key);
  }
}

interface Doors {
  issuer: string;
  authorization_endpoint: string;
  token_endpoint: string;
}

interface Journey {
  state: string;
  verifier: string;
  /** Where in the console one was. */
  hash: string;
}

const JOURNEY = 'millpond.signin';
/** Longest discovery document or answer that is waited for. Milliseconds. */
const ANSWER_MS = 15_000;
const RANDOM_BYTES = 32;

/** Who people sign in with, if they can. */
export async function provider(): Promise<Provider | null> {
  const told = await get<{ oauth_client_id?: string; oauth_provider_url?: string; oauth_scopes?: string }>('/auth');
  if (!told.oauth_client_id || !told.oauth_provider_url) return null;
  return { issuer: told.oauth_provider_url, clientId: told.oauth_client_id, scopes: told.oauth_scopes ?? 'openid' };
}

/** How a provider is called: its host. */
export function nameOf({ issuer }: Provider): string {
  return URL.canParse(issuer) ? new URL(issuer).host : issuer;
}

export function base64url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
}

const random = () => base64url(crypto.getRandomValues(new Uint8Array(RANDOM_BYTES)));

/** What the provider is told of a verifier: its hash (S256). */
export async function challengeOf(verifier: string): Promise<string> {
  return base64url(new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier))));
}

/** Where the provider sends people back to; it has to be registered there. */
const returnAddress = () => `${location.origin}/`;

async function answerOf<T>(from: Provider, url: string, init: RequestInit = {}): Promise<T> {
  const unknown = (reason: string) => new SignInError('login.noProvider', { name: nameOf(from), reason });
  let response: Response;
  try {
    response = await fetch(url, { ...init, credentials: 'omit', cache: 'no-store', signal: AbortSignal.timeout(ANSWER_MS) });
  } catch (error) {
    throw unknown(error instanceof Error ? error.message : String(error));
  }
  const body = (await response.json().catch(() => null)) as (T & { error?: string; error_description?: string }) | null;
  if (response.ok && body) return body;
  if (body?.error) throw new SignInError('login.refused', { name: nameOf(from), reason: body.error_description ?? body.error });
  throw unknown(String(response.status));
}

/** The provider's doors, by discovery. Throws a `SignInError`. */
async function doorsOf(from: Provider): Promise<Doors> {
  const doors = await answerOf<Doors>(from, `${from.issuer.replace(/\/$/, '')}/.well-known/openid-configuration`);
  // Another's document would send the code elsewhere.
  if (doors.issuer !== from.issuer) throw new SignInError('login.noProvider', { name: nameOf(from), reason: `issuer ${doors.issuer}` });
  return doors;
}

/** Leaves for the provider's page. Throws a `SignInError` if that cannot be. */
export async function leave(to: Provider): Promise<void> {
  if (!isSecureContext) throw new SignInError('login.insecure');
  const doors = await doorsOf(to);
  const journey: Journey = { state: random(), verifier: random(), hash: location.hash };
  sessionStorage.setItem(JOURNEY, JSON.stringify(journey));
  const url = new URL(doors.authorization_endpoint);
  const query = {
    response_type: 'code',
    client_id: to.clientId,
    redirect_uri: returnAddress(),
    scope: to.scopes,
    state: journey.state,
    code_challenge: await challengeOf(journey.verifier),
    code_challenge_method: 'S256',
  };
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  location.assign(url);
}

async function grantOf(from: Provider, fields: Record<string, string>): Promise<Grant> {
  const doors = await doorsOf(from);
  const body = new URLSearchParams({ client_id: from.clientId, ...fields });
  const told = await answerOf<{ access_token: string; refresh_token?: string; expires_in?: number }>(from, doors.token_endpoint, { method: 'POST', body });
  return { token: told.access_token, refreshToken: told.refresh_token, expiresIn: told.expires_in ?? 0 };
}

/** Whether this page was opened by the provider's way back. */
export function isBack(search: string): boolean {
  const query = new URLSearchParams(search);
  return query.has('state') && (query.has('code') || query.has('error'));
}

/** Ends the journey: the code becomes a token. The address is put back as it was. Throws a `SignInError`. */
export async function arrive(search: string): Promise<Grant> {
  const query = new URLSearchParams(search);
  const kept = sessionStorage.getItem(JOURNEY);
  sessionStorage.removeItem(JOURNEY);
  const journey = kept === null ? null : (JSON.parse(kept) as Journey);
  history.replaceState(null, '', location.pathname);
  if (journey?.hash) location.replace(journey.hash);
  if (!journey || query.get('state') !== journey.state) throw new SignInError('login.stateWrong');
  const from = await provider();
  if (!from) throw new SignInError('login.stateWrong');
  const error = query.get('error');
  if (error) throw new SignInError('login.refused', { name: nameOf(from), reason: query.get('error_description') ?? error });
  return grantOf(from, {
    grant_type: 'authorization_code',
    code: query.get('code') ?? '',
    redirect_uri: returnAddress(),
    code_verifier: journey.verifier,
  });
}

/** Another token for the same person. */
export async function renewed(refreshToken: string): Promise<Grant | null> {
  const from = await provider();
  if (!from) return null;
  const grant = await grantOf(from, { grant_type: 'refresh_token', refresh_token: refreshToken });
  // A provider that does not rotate them goes on taking the old one.
  return { ...grant, refreshToken: grant.refreshToken ?? refreshToken };
}
