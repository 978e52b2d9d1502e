// How risky an order is: a function in JavaScript.

export const handler = {
  handle(call) {
    const order = JSON.parse(call.event);
    if (typeof order.cents !== 'number') throw { tag: 'final', val: 'the order has no total' };
    const reasons = [];
    if (order.cents > 100_000) reasons.push('a large sum');
    if (order.country !== order.card_country) reasons.push('a card of another country');
    return JSON.stringify({ order: order.order, risk: ['low', 'middle', 'high'][reasons.length], reasons });
  },
};
