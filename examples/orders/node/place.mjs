// Places $ORDERS orders, one after the other, each until the broker has confirmed it.
import { connect, drop, log, pause, send } from './shop.mjs';

function order(number) {
  // Every tenth is a free sample: it is charged nothing, and the rule writes no receipt for it.
  const amount = number % 10 === 0 ? 0 : Number((9.9 + ((number * 37) % 200)).toFixed(2));
  return {
    order: `o-${String(number).padStart(5, '0')}`,
    customer: `c-${String((number * 7) % 100).padStart(3, '0')}`,
    items: [{ sku: `sku-${number % 13}`, count: 1 + (number % 3) }],
    amount,
    currency: 'EUR',
  };
}

const count = Number(process.env.ORDERS ?? 100);
let link;
let [attempt, retried] = [0, false];
for (let number = 1; number <= count; ) {
  try {
    if (!link) {
      link = await connect();
      log('place', 'connected');
    }
    const placed = order(number);
    await send(link, 'order.placed', placed, 'place', retried);
    console.log(`placed ${placed.order}`);
    [number, attempt, retried] = [number + 1, 0, false];
  } catch (error) {
    // Whether the broker took the order is not known: it is placed again, marked as such.
    log('place', `connection lost, trying again: ${error.message}`);
    await drop(link);
    [link, retried] = [undefined, true];
    await pause(attempt);
    attempt += 1;
  }
}
await drop(link);
