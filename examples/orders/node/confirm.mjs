// Confirms each placed order: order.placed in, order.confirmed out.
import { serve } from './shop.mjs';

await serve('confirm', 'orders.confirm', 'order.confirmed', (order) => ({ ...order, confirmed_by: 'node' }));
