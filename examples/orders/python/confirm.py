"""Confirms each placed order: order.placed in, order.confirmed out."""

from shop import serve

if __name__ == "__main__":
    serve("confirm", "orders.confirm", "order.confirmed", lambda order: {**order, "confirmed_by": "python"})
