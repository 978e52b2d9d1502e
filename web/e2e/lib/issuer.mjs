// A small OAuth 2 provider for tests: discovery, keys, a page that asks, and tokens for those who know the verifier.
import { createHash, createSign, generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';

const encoded = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

export class Issuer {
  #server;
  #keys = generateKeyPairSync('rsa', { modulusLength: 2048 });
  #codes = new Map();
  /** Claims of the tokens. */
  claims = {};
  /** How long they are good. Seconds. */
  lifetime = 600;
  /** Scopes that were asked for last. */
  asked = '';

  static async start() {
    const issuer = new Issuer();
    issuer.#server = createServer((request, response) => void issuer.#answer(request, response));
    await new Promise((resolve) => issuer.#server.listen(0, '127.0.0.1', resolve));
    issuer.url = `http://127.0.0.1:${issuer.#server.address().port}`;
    return issuer;
  }

  stop() {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(resolve));
  }

  /** A token that is good for so many seconds. */
  token(lifetime = this.lifetime) {
    const claims = { iss: this.url, exp: Math.floor(Date.now() / 1000) + lifetime, ...this.claims };
    const text = `${encoded({ alg: 'RS256', typ: 'JWT', kid: 'one' })}.${encoded(claims)}`;
    return `${text}.${createSign('RSA-SHA256').update(text).sign(this.#keys.privateKey, 'base64url')}`;
  }

  async #answer(request, response) {
    const { pathname, searchParams } = new URL(request.url, this.url);
    const json = (status, body) => {
      response.writeHead(status, { 'content-type': 'application/json', 'access-control-allow-origin': '*' });
      response.end(JSON.stringify(body));
    };
    if (pathname === '/.well-known/openid-configuration') {
      return json(200, { issuer: this.url, authorization_endpoint: `${this.url}/authorize`, token_endpoint: `${this.url}/token` });
    }
    // Browsers ask for it of their own accord, sooner or later.
    if (pathname === '/favicon.ico') return response.writeHead(204).end();
    if (pathname === '/keys') {
      return json(200, { keys: [{ ...this.#keys.publicKey.export({ format: 'jwk' }), kid: 'one', alg: 'RS256', use: 'sig' }] });
    }
    if (pathname === '/authorize') return this.#ask(searchParams, response);
    if (pathname === '/token') return this.#grant(request, json);
    return json(404, {});
  }

  /** The page on which a person agrees, or does not. */
  #ask(query, response) {
    this.asked = query.get('scope');
    const code = randomUUID();
    this.#codes.set(code, { challenge: query.get('code_challenge'), address: query.get('redirect_uri') });
    const back = (answer) => `${query.get('redirect_uri')}?${new URLSearchParams({ ...answer, state: query.get('state') })}`;
    response.writeHead(200, { 'content-type': 'text/html' });
    const links = [['Agree', back({ code })], ['Refuse', back({ error: 'access_denied' })]];
    response.end(links.map(([word, href]) => `<a href="${href.replaceAll('&', '&amp;')}">${word}</a>`).join(' '));
  }

  async #grant(request, json) {
    let text = '';
    for await (const chunk of request) text += chunk;
    const form = new URLSearchParams(text);
    const known = this.#codes.get(form.get('code'));
    this.#codes.delete(form.get('code'));
    const challenge = createHash('sha256').update(form.get('code_verifier') ?? '').digest('base64url');
    if (!known || known.challenge !== challenge || known.address !== form.get('redirect_uri')) {
      return json(400, { error: 'invalid_grant' });
    }
    return json(200, { access_token: this.token(), token_type: 'Bearer', expires_in: this.lifetime });
  }
}
