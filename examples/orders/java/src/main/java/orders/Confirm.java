package orders;

/** Confirms each placed order: order.placed in, order.confirmed out. */
final class Confirm {
    private Confirm() { }

    public static void main(String[] args) throws Exception {
        Shop.serve("confirm", "orders.confirm", "order.confirmed", order -> {
            order.addProperty("confirmed_by", "java");
            return order;
        });
    }
}
