"""Measures how evenly a paced consumer gets its messages, at the client: `x-rate` of consumers and of queues.

Takes the address of a running broker and needs pika. For each pace it prints the greatest deviation of any window
after the first from the promise: windows begin at every message and are as long as `x-rate-window`.
"""

import argparse
import bisect
import time

import pika

# Where the pace is set, messages a second, window in milliseconds, prefetch (0: without acks), seconds.
CASES = [
    ("consumer", 20, 1000, 0, 15),
    ("consumer", 200, 1000, 0, 10),
    ("consumer", 200, 1000, 50, 10),
    ("consumer", 1000, 1000, 0, 10),
    ("consumer", 1000, 200, 100, 10),
    ("consumer", 10_000, 1000, 0, 10),
    ("queue", 1000, 1000, 0, 10),
    ("queue", 5000, 1000, 500, 10),
]


def arrivals(url, where, rate, window_ms, prefetch, seconds):
    """Times at which messages reached the client."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        pace = {"x-rate": rate, "x-rate-window": window_ms}
        queue = channel.queue_declare("", exclusive=True, arguments=pace if where == "queue" else None).method.queue
        for _ in range(int(rate * seconds * 1.2) + 10):
            channel.basic_publish("", queue, b"paced")
        if prefetch:
            channel.basic_qos(prefetch_count=prefetch)
        times = []

        def take(channel, method, _properties, _body):
            times.append(time.monotonic())
            if prefetch:
                channel.basic_ack(method.delivery_tag)

        channel.basic_consume(queue, take, auto_ack=not prefetch, arguments=pace if where == "consumer" else None)
        connection.call_later(seconds, channel.stop_consuming)
        channel.start_consuming()
        return times


def deviations(times, rate, window_ms):
    """The least and the most that a full window after the first got, over what was promised."""
    window = window_ms / 1000
    promised = rate * window
    end = times[-1]
    after_first = times[0] + window
    counts = [
        bisect.bisect_left(times, start + window) - at
        for at, start in enumerate(times)
        if start >= after_first and start + window <= end
    ]
    return min(counts) / promised - 1, max(counts) / promised - 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uri", default="amqp://guest:guest@localhost:5672/%2F")
    options = parser.parse_args()
    print("| Paced by | msg/s | window | prefetch | msg/s over all | least in a window | most in a window |")
    print("|---|---|---|---|---|---|---|")
    for where, rate, window_ms, prefetch, seconds in CASES:
        times = arrivals(options.uri, where, rate, window_ms, prefetch, seconds)
        least, most = deviations(times, rate, window_ms)
        overall = (len(times) - 1) / (times[-1] - times[0])
        print(f"| {where} | {rate} | {window_ms} ms | {prefetch or '-'} | {overall:.1f} | {least:+.2%} | {most:+.2%} |")


if __name__ == "__main__":
    main()
