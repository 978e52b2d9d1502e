package orders;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.math.BigDecimal;

/** Places $ORDERS orders, one after the other, each until the broker has confirmed it. */
final class Place {
    private Place() { }

    private static JsonObject order(int number) {
        JsonObject item = new JsonObject();
        item.addProperty("sku", "sku-" + number % 13);
        item.addProperty("count", 1 + number % 3);
        JsonArray items = new JsonArray();
        items.add(item);
        JsonObject order = new JsonObject();
        order.addProperty("order", String.format("o-%05d", number));
        order.addProperty("customer", String.format("c-%03d", number * 7 % 100));
        order.add("items", items);
        // Every tenth is a free sample: it is charged nothing, and the rule writes no receipt for it.
        BigDecimal amount = new BigDecimal("9.9").add(BigDecimal.valueOf(number * 37 % 200));
        order.addProperty("amount", number % 10 == 0 ? BigDecimal.ZERO : amount);
        order.addProperty("currency", "EUR");
        return order;
    }

    public static void main(String[] args) throws Exception {
        int count = Integer.parseInt(System.getenv().getOrDefault("ORDERS", "100"));
        Shop shop = Shop.open("place", opened -> { });
        int attempt = 0;
        for (int number = 1; number <= count;) {
            JsonObject order = order(number);
            try {
                shop.send("order.placed", order, attempt > 0);
                System.out.println("placed " + order.get("order").getAsString());
                number++;
                attempt = 0;
            } catch (IOException | ShutdownSignalException lost) {
                // Whether the broker took the order is not known: it is placed again, marked as such.
                Shop.pause(attempt++);
            }
        }
        shop.close();
    }
}
