// Charges each confirmed order: order.confirmed in, order.charged out. The payment's number comes from the
// order's, so that charging again is the same payment and not a second one.
import { serve } from './shop.mjs';

await serve('charge', 'orders.charge', 'order.charged', (order) => ({
  ...order,
  payment: `pay-${order.order}`,
  charged_by: 'node',
}));
