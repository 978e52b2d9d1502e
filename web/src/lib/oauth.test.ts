import { describe, expect, it } from 'vitest';
import { base64url, challengeOf, isBack, nameOf } from './oauth';

describe('signing in', () => {
  it('tells the hash of the verifier, as RFC 7636 shows it', async () => {
    expect(await challengeOf('dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk')).toBe('E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM');
  });

  it('writes bytes without + / =', () => expect(base64url(new Uint8Array([251, 255, 254]))).toBe('-__-'));

  it.each([
    ['?code=c&state=s', true],
    ['?error=access_denied&state=s', true],
    ['?code=c', false],
    ['', false],
  ])('is back with %s: %s', (search, back) => expect(isBack(search)).toBe(back));

  it('calls a provider by its host', () => {
    const of = (issuer: string) => nameOf({ issuer, clientId: '', scopes: '' });
    expect(of('https://id.example.com/realms/shop')).toBe('id.example.com');
    expect(of('shop')).toBe('shop');
  });
});
