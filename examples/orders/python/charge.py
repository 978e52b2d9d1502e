"""Charges each confirmed order: order.confirmed in, order.charged out.

The payment's number comes from the order's, so that charging again is the same payment and not a second one.
"""

from shop import serve

if __name__ == "__main__":
    serve(
        "charge",
        "orders.charge",
        "order.charged",
        lambda order: {**order, "payment": f"pay-{order['order']}", "charged_by": "python"},
    )
