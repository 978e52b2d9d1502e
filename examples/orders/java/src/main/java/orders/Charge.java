package orders;

/**
 * Charges each confirmed order: order.confirmed in, order.charged out. The payment's number comes from the
 * order's, so that charging again is the same payment and not a second one.
 */
final class Charge {
    private Charge() { }

    public static void main(String[] args) throws Exception {
        Shop.serve("charge", "orders.charge", "order.charged", order -> {
            order.addProperty("payment", "pay-" + order.get("order").getAsString());
            order.addProperty("charged_by", "java");
            return order;
        });
    }
}
