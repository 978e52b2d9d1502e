// Message groups, beyond RabbitMQ: what has the same value goes in order to one consumer at a time.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { channel, collect, connect, put, queue } from '../support.mjs';

const bodies = (messages) => messages.map((m) => m.content.toString());

test('a group goes to one consumer at a time, other groups flow, and a closed channel hands it over in order', async (t) => {
  const conn = await connect(t);
  if (conn.connection.serverProperties.product === 'RabbitMQ') return t.skip('RabbitMQ has no message groups');
  const [slow, quick] = [await channel(conn), await channel(conn)];
  const name = await queue(slow, { arguments: { 'x-group-by': 'customer' } });
  for (const body of ['a1', 'a2', 'b1', 'a3', 'b2']) {
    await put(conn, '', name, [body], { headers: { customer: body[0] } });
  }
  await slow.prefetch(2);
  const held = await collect(slow, name);
  await held.next(2);
  const others = await collect(quick, name);
  await others.next(2);
  assert.deepEqual([bodies(held.got), bodies(others.got)], [['a1', 'a2'], ['b1', 'b2']]);
  assert.equal((await quick.checkQueue(name)).messageCount, 1);
  slow.ack(held.got[0]);
  await held.next(3);
  await slow.close();
  await others.next(4);
  assert.deepEqual(bodies(others.got), ['b1', 'b2', 'a2', 'a3']);
});
