// The secure doors as amqplib comes through them: TLS with the server's certificate verified, a client's certificate
// with EXTERNAL, a token as the password. `conformance/run` makes certificates and tokens.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import amqp from 'amqplib';
import { drain, queue } from '../support.mjs';

const { AMQPS_URL: url, TLS_DIR: dir } = process.env;
const skip = url ? false : 'no TLS to try: set AMQPS_URL and TLS_DIR';
const file = (name) => readFileSync(join(dir, name));

/** A connection with TLS that the end of the test closes. */
async function connect(t, options = {}, { user, password } = {}) {
  const address = new URL(url);
  if (password !== undefined) {
    address.username = user;
    address.password = encodeURIComponent(password);
  }
  const conn = await amqp.connect(address.toString(), { ca: [file('ca.pem')], ...options });
  conn.on('error', () => {});
  t.after(() => conn.close().catch(() => {}));
  return conn;
}

async function roundTrip(conn) {
  const ch = await conn.createConfirmChannel();
  const name = await queue(ch);
  ch.sendToQueue(name, Buffer.from('1'));
  await ch.waitForConfirms();
  assert.deepEqual(await drain(ch, name), ['1']);
}

test('messages pass over TLS with the certificate verified', { skip }, async (t) => {
  const conn = await connect(t);
  assert.equal(conn.connection.stream.authorized, true);
  await roundTrip(conn);
});

test('a client that trusts others does not go on', { skip }, async (t) => {
  await assert.rejects(connect(t, { ca: [] }), /certificate/);
});

test('a certificate logs in with EXTERNAL', { skip }, async (t) => {
  const options = { cert: file('client.pem'), key: file('client.key'), credentials: amqp.credentials.external() };
  await roundTrip(await connect(t, options));
});

test('EXTERNAL is for those with a certificate', { skip }, async (t) => {
  await assert.rejects(connect(t, { credentials: amqp.credentials.external() }), /EXTERNAL|403|PLAIN/);
});

test('a token is a password with the rights of its scopes', { skip }, async (t) => {
  const bearer = { user: 'any', password: file('token').toString() };
  const conn = await connect(t, {}, bearer);
  await roundTrip(conn);
  const ch = await conn.createChannel();
  const failed = new Promise((resolve) => ch.once('error', resolve));
  await assert.rejects(ch.assertQueue('of-somebody-else'));
  assert.match((await failed).message, /403.*conformance-token/);
  await conn.updateSecret(file('token-next'), 'the next one');
  await roundTrip(conn);
});

test('a token that was changed is no password', { skip }, async (t) => {
  const wrong = { user: 'any', password: `${file('token').toString().slice(0, -20)}${'A'.repeat(20)}` };
  await assert.rejects(connect(t, {}, wrong), /403/);
});
