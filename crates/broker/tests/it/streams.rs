//! Streams: kept, read by many at their own places, trimmed, and what of their consumers is remembered.

use crate::support::*;
use millpond_broker::*;
use millpond_model::table::Value;
use millpond_model::{ConsumerTag, VhostName};

const START_MS: u64 = 1_700_000_000_000;

fn declare_stream(client: &mut Client, name: &str, more: &[(&str, Value)]) -> QueueDeclared {
    let mut request = queue_request(name, "d");
    request.arguments.push("x-queue-type", "stream");
    more.iter().for_each(|(name, value)| request.arguments.push(*name, value.clone()));
    let (declared, durability) = client.session.declare_queue(&request).unwrap();
    client.wait_commit(durability);
    declared
}

fn publish_numbers(client: &mut Client, name: &str, numbers: std::ops::Range<u64>) {
    let bodies: Vec<String> = numbers.map(|n| format!("{n}{}", "-".repeat((n % 60) as usize))).collect();
    client.publish("", name, &bodies.iter().map(String::as_str).collect::<Vec<_>>());
}

fn read_request(name: &str, cookie: u64, prefetch: u32, arguments: &[(&str, Value)]) -> ConsumeRequest {
    let arguments = arguments.iter().cloned().collect();
    ConsumeRequest { prefetch, arguments, ..consume_request(name, cookie) }
}

fn read_from(client: &mut Client, name: &str, cookie: u64, offset: u64) -> ConsumerId {
    let at = [("x-stream-offset", Value::I64(offset as i64))];
    client.session.consume(read_request(name, cookie, 10, &at)).unwrap()
}

fn tracked_request(name: &str, tag: &str, prefetch: u32) -> ConsumeRequest {
    let arguments = [("x-stream-automatic-offset-tracking", Value::Bool(true))];
    let tag = ConsumerTag::new(tag).unwrap();
    ConsumeRequest { tag, ..read_request(name, 1, prefetch, &arguments) }
}

/// Reads offsets until `end`, with acks, and checks that they come once and in order.
fn read_to(client: &mut Client, first: u64, end: u64) {
    let mut next = first;
    while next < end {
        let seen = client.deliveries(1);
        for delivery in &seen {
            assert_eq!(delivery.id.seq, next);
            assert!(delivery.body.starts_with(&next.to_string()) && !delivery.redelivered);
            next += 1;
        }
        client.settle(&seen, Outcome::Accept);
    }
    assert_eq!(next, end);
}

#[test]
fn readers_far_behind_and_at_the_end_read_all_of_a_stream_that_is_on_disk() {
    let mut broker = TestBroker::paging(options());
    let mut publisher = broker.session();
    declare_stream(&mut publisher, "s", &[]);
    for part in 0..20 {
        publish_numbers(&mut publisher, "s", part * 100..part * 100 + 100);
    }
    let mut readers: Vec<(Client, u64)> = [0, 1, 777, 1500, 1999, 2000, 5000]
        .into_iter()
        .map(|first: u64| {
            let mut client = broker.session();
            read_from(&mut client, "s", first, first);
            (client, first.min(2000))
        })
        .collect();
    for (client, first) in &mut readers {
        read_to(client, *first, 2000);
    }
    publish_numbers(&mut publisher, "s", 2000..2100);
    for (client, _) in &mut readers {
        read_to(client, 2000, 2100);
    }
    drop((publisher, readers));
    broker.reopen();
    let mut client = broker.session();
    assert_eq!(declare_stream(&mut client, "s", &[]).ready, 2100);
    read_from(&mut client, "s", 1, 0);
    read_to(&mut client, 0, 2100);
    publish_numbers(&mut client, "s", 2100..2101);
    read_to(&mut client, 2100, 2101);
}

#[test]
fn transient_messages_of_a_stream_survive_too() {
    let mut broker = TestBroker::new();
    let mut client = broker.session();
    declare_stream(&mut client, "s", &[]);
    let durability = client.publish_with("", "s", &["0"], &transient());
    client.wait_commit(durability);
    drop(client);
    broker.reopen();
    let mut client = broker.session();
    read_from(&mut client, "s", 1, 0);
    read_to(&mut client, 0, 1);
}

#[test]
fn the_place_of_a_named_consumer_is_its_lowest_unsettled_offset_also_after_a_restart() {
    let mut broker = TestBroker::paging(options());
    let mut client = broker.session();
    declare_stream(&mut client, "s", &[]);
    publish_numbers(&mut client, "s", 0..50);
    let mut request = tracked_request("s", "worker", 20);
    request.arguments.push("x-stream-offset", "first");
    let consumer = client.session.consume(request).unwrap();
    let seen = client.deliveries(20);
    client.settle(&seen[..7], Outcome::Accept);
    client.settle(&seen[10..12], Outcome::Accept);
    client.settle(&seen[13..14], Outcome::Requeue);
    client.session.cancel(consumer);
    // Said by a consumer that is gone, and remembered all the same.
    client.settle(&seen[7..8], Outcome::Accept);
    drop(client);
    for _ in 0..2 {
        let mut client = broker.session();
        client.session.consume(tracked_request("s", "worker", 100)).unwrap();
        assert_eq!(client.deliveries(42)[0].id.seq, 8);
        drop(client);
        broker.reopen();
    }
    let mut client = broker.session();
    client.session.delete_queue(&queue("s"), false, false).unwrap();
    declare_stream(&mut client, "s", &[]);
    client.session.consume(tracked_request("s", "worker", 100)).unwrap();
    publish_numbers(&mut client, "s", 0..3);
    read_to(&mut client, 0, 3);
}

#[test]
fn what_is_older_than_the_age_goes_when_time_passes_and_after_a_restart() {
    let clock = Clock::fake(START_MS);
    let mut broker = TestBroker::paging(BrokerOptions { clock: clock.clone(), ..options() });
    let mut client = broker.session();
    declare_stream(&mut client, "s", &[("x-max-age", "10s".into())]);
    publish_numbers(&mut client, "s", 0..300);
    clock.advance(5_000);
    publish_numbers(&mut client, "s", 300..305);
    let first_ready = |client: &mut Client, below: u64, until_ms: u64| {
        // Time goes on in small steps, so that it is not far ahead of the timer's thread, and not beyond what must
        // stay.
        let started = std::time::Instant::now();
        while client.ready("s") > below {
            if clock.now_ms() < START_MS + until_ms {
                clock.advance(20);
            }
            assert!(started.elapsed().as_secs() < 30, "{} stay", client.ready("s"));
            std::thread::yield_now();
        }
    };
    first_ready(&mut client, 100, 14_500);
    read_from(&mut client, "s", 1, 0);
    let seen = client.deliveries(5);
    assert_eq!(seen.last().unwrap().id.seq, 304);
    first_ready(&mut client, 0, 30_000);
    publish_numbers(&mut client, "s", 305..307);
    drop(client);
    broker.reopen();
    let mut client = broker.session();
    assert_eq!(client.ready("s"), 2);
    read_from(&mut client, "s", 1, 0);
    read_to(&mut client, 305, 307);
    first_ready(&mut client, 0, 60_000);
}

#[test]
fn a_stream_keeps_about_as_much_as_its_size_allows_and_readers_go_on_behind_the_gap() {
    let broker = TestBroker::paging(options());
    let mut client = broker.session();
    declare_stream(&mut client, "s", &[("x-max-length-bytes", Value::I64(100_000))]);
    let mut reader = broker.session();
    read_from(&mut reader, "s", 1, 0);
    let held = reader.deliveries(0);
    for part in 0..60 {
        publish_numbers(&mut client, "s", part * 100..part * 100 + 100);
    }
    let ready = client.ready("s");
    assert!((500..3_500).contains(&ready), "{ready} messages of some 80 bytes");
    let held = [held, reader.deliveries(10)].concat();
    assert_eq!(held.len(), 10);
    reader.settle(&held, Outcome::Accept);
    read_to(&mut reader, 6_000 - ready, 6_000);
}

#[test]
fn a_consumer_begins_with_the_first_message_of_its_time_in_memory_and_on_disk() {
    let clock = Clock::fake(START_MS);
    let broker = TestBroker::paging(BrokerOptions { clock: clock.clone(), ..options() });
    let mut client = broker.session();
    declare_stream(&mut client, "s", &[]);
    for second in 0..40 {
        publish_numbers(&mut client, "s", second * 10..second * 10 + 10);
        clock.advance(1_000);
    }
    for (at, first) in [
        (Value::Timestamp(START_MS / 1000 + 7), 70),
        (Value::Timestamp(START_MS / 1000 + 39), 390),
        (Value::Timestamp(0), 0),
        ("10s".into(), 300),
        ("1h".into(), 0),
    ] {
        let mut reader = broker.session();
        reader.session.consume(read_request("s", 1, 500, &[("x-stream-offset", at.clone())])).unwrap();
        let seen = reader.deliveries(400 - first as usize);
        assert_eq!((seen[0].id.seq, seen.len() as u64), (first, 400 - first), "{at:?}");
    }
    let mut reader = broker.session();
    let later = Value::Timestamp(START_MS / 1000 + 100);
    reader.session.consume(read_request("s", 1, 500, &[("x-stream-offset", later)])).unwrap();
    clock.advance(100_000);
    publish_numbers(&mut client, "s", 400..401);
    read_to(&mut reader, 400, 401);
}

#[test]
fn consumers_of_one_session_settle_their_own_deliveries() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    declare_stream(&mut client, "s", &[]);
    publish_numbers(&mut client, "s", 0..30);
    read_from(&mut client, "s", 1, 0);
    read_from(&mut client, "s", 2, 0);
    let seen = client.deliveries(20);
    let of_one: Vec<Seen> = seen.iter().filter(|seen| seen.cookie == 1).cloned().collect();
    client.settle(&of_one, Outcome::Accept);
    let more = client.deliveries(10);
    assert!(more.iter().all(|seen| seen.cookie == 1 && (10..20).contains(&seen.id.seq)));
}

#[test]
fn what_was_in_the_inbox_of_a_consumer_that_is_cancelled_was_not_given_to_it() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    declare_stream(&mut client, "s", &[("x-single-active-consumer", Value::Bool(true))]);
    publish_numbers(&mut client, "s", 0..30);
    let one = read_from(&mut client, "s", 1, 0);
    read_from(&mut client, "s", 2, 20);
    client.session.cancel(one);
    let seen = client.deliveries(10);
    assert_eq!((seen[0].cookie, seen[0].id.seq), (2, 0));
}

#[test]
fn readers_of_random_places_and_credits_see_everything_once_and_in_order() {
    let broker = TestBroker::paging(options());
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut publisher = broker.session();
    declare_stream(&mut publisher, "s", &[("x-stream-max-segment-size-bytes", Value::I64(1 << 16))]);
    let mut published = 0;
    let mut readers: Vec<(Client, u64, Vec<Seen>)> = Vec::new();
    for _ in 0..300 {
        match random(4) {
            0 => {
                let count = 1 + random(40);
                publish_numbers(&mut publisher, "s", published..published + count);
                published += count;
            }
            1 if readers.len() < 8 => {
                let first = random(published + 1);
                let mut client = broker.session();
                let at = [("x-stream-offset", Value::I64(first as i64))];
                let prefetch = 1 + random(30) as u32;
                client.session.consume(read_request("s", 1, prefetch, &at)).unwrap();
                readers.push((client, first, Vec::new()));
            }
            _ if !readers.is_empty() => {
                let at = random(readers.len() as u64) as usize;
                let (client, next, held) = &mut readers[at];
                for seen in client.take_deliveries() {
                    assert_eq!(seen.id.seq, *next);
                    *next += 1;
                    held.push(seen);
                }
                let some = random(held.len() as u64 + 1) as usize;
                let settled: Vec<Seen> = held.drain(..some).collect();
                client.settle(&settled, Outcome::Accept);
            }
            _ => {}
        }
    }
    for (mut client, next, held) in readers {
        client.settle(&held, Outcome::Accept);
        read_to(&mut client, next, published);
    }
}

#[test]
fn an_operator_looks_through_a_stream_and_copies_from_it_and_into_it_but_moves_nothing() {
    let broker = TestBroker::paging(options());
    let vhost = VhostName::new("/").unwrap();
    let mut client = broker.session();
    declare_stream(&mut client, "s", &[]);
    declare_stream(&mut client, "copy", &[]);
    for part in 0..10 {
        publish_numbers(&mut client, "s", part * 50..part * 50 + 50);
    }
    let mut browse = broker.broker().browse(&vhost, &queue("s")).unwrap();
    let (mut seen, mut more) = (Vec::new(), true);
    while more {
        block_on(|cx| browse.poll_next(cx, 40, &mut seen).map(|it| more = it));
    }
    assert!(seen.iter().map(|browsed| browsed.place).eq(0..500));
    let mut request = TransferRequest {
        to_vhost: None,
        from: queue("s"),
        to: TransferTo::Queue(queue("copy")),
        of: TransferOf::Ready,
        keep: false,
        filter: MessageFilter::default(),
        limit: None,
        dry_run: false,
    };
    let refused = broker.broker().transfer(&vhost, request.clone()).unwrap_err();
    assert!(refused.to_string().contains("a move is not supported by stream queue 's'"), "{refused}");
    request.keep = true;
    let mut transfer = broker.broker().transfer(&vhost, request).unwrap();
    let mut more = true;
    while more {
        block_on(|cx| transfer.poll_step(cx, 100).map(|it| more = it.unwrap()));
    }
    read_from(&mut client, "copy", 1, 0);
    read_to(&mut client, 0, 500);
    assert_eq!(client.ready("s"), 500);
}

#[test]
fn nobody_has_a_stream_with_a_single_active_consumer_to_itself() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    declare_stream(&mut client, "one", &[("x-single-active-consumer", Value::Bool(true))]);
    declare_stream(&mut client, "all", &[]);
    let exclusive = |name: &str| ConsumeRequest { exclusive: true, ..read_request(name, 1, 10, &[]) };
    let refused = client.session.consume(exclusive("one"));
    assert!(matches!(refused, Err(ConsumeError::ExclusiveUse { .. })), "{refused:?}");
    client.session.consume(exclusive("all")).unwrap();
    let refused = client.session.consume(read_request("all", 2, 10, &[]));
    assert!(matches!(refused, Err(ConsumeError::ExclusiveUse { .. })), "{refused:?}");
}

#[test]
fn a_dead_letter_in_a_stream_is_counted_and_read_at_once() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    declare_stream(&mut client, "grave", &[]);
    let text = |value: &str| Value::LongStr(value.as_bytes().into());
    let dying = DeclareQueue {
        arguments: arguments(&[
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("grave")),
        ]),
        ..queue_request("work", "d")
    };
    let (_, durability) = client.session.declare_queue(&dying).unwrap();
    client.wait_commit(durability);
    client.publish("", "work", &["a", "b"]);
    read_from(&mut client, "grave", 1, 0);
    for (count, body) in [(1, "a"), (2, "b")] {
        let got = client.get("work", false).unwrap();
        client.session.settle(&[DeliveryId { queue: got.queue, seq: got.delivery.seq }], Outcome::Reject);
        assert_eq!(client.ready("grave"), count);
        let came = client.deliveries(1);
        assert_eq!(came.iter().map(|it| (it.id.seq, &*it.body)).collect::<Vec<_>>(), [(count - 1, body)]);
    }
    assert_eq!(client.ready("work"), 0);
}

#[test]
fn a_name_whose_reader_goes_before_its_first_ack_goes_on_where_that_one_began() {
    let mut broker = TestBroker::paging(options());
    let mut publisher = broker.session();
    declare_stream(&mut publisher, "s", &[]);
    publish_numbers(&mut publisher, "s", 0..3);
    let mut client = broker.session();
    client.session.consume(tracked_request("s", "t", 10)).unwrap();
    publish_numbers(&mut publisher, "s", 3..5);
    assert_eq!(client.deliveries(1)[0].id.seq, 3, "from now on");
    drop((client, publisher));
    broker.reopen();
    let mut client = broker.session();
    client.session.consume(tracked_request("s", "t", 10)).unwrap();
    read_to(&mut client, 3, 5);
}
