"""Places $ORDERS orders, one after the other, each until the broker has confirmed it."""

import os

from shop import LOST, connect, drop, log, pause, send


def order(number):
    # Every tenth is a free sample: it is charged nothing, and the rule writes no receipt for it.
    amount = 0 if number % 10 == 0 else round(9.9 + number * 37 % 200, 2)
    return {
        "order": f"o-{number:05}",
        "customer": f"c-{number * 7 % 100:03}",
        "items": [{"sku": f"sku-{number % 13}", "count": 1 + number % 3}],
        "amount": amount,
        "currency": "EUR",
    }


def main():
    count = int(os.environ.get("ORDERS", "100"))
    number, attempt, retried, connection = 1, 0, False, None
    while number <= count:
        try:
            if connection is None:
                connection, channel = connect()
                log("place", "connected")
            send(channel, "order.placed", order(number), "place", retried)
            print(f"placed o-{number:05}", flush=True)
            number, attempt, retried = number + 1, 0, False
        except LOST as error:
            # Whether the broker took the order is not known: it is placed again, marked as such.
            log("place", f"connection lost, trying again: {error!r}")
            drop(connection)
            connection, retried = None, True
            pause(attempt)
            attempt += 1
    connection.close()


if __name__ == "__main__":
    main()
