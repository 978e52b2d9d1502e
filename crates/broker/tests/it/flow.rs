//! Back-pressure: inboxes that fill, and what opens them again.

use crate::support::*;
use millpond_broker::*;

fn small_inbox(inbox_max_bytes: usize) -> TestBroker {
    TestBroker::with(BrokerOptions { inbox_max_bytes, ..options() })
}

#[test]
fn deliveries_pause_at_the_inbox_limit_and_go_on_when_half_has_drained() {
    let broker = small_inbox(4000);
    let mut client = broker.session();
    client.declare("q", "");
    client.consume("q", 1);
    let body = "x".repeat(100);
    let bodies = vec![body.as_str(); 200];
    client.publish("", "q", &bodies);
    let first = {
        let mut events = Vec::new();
        client.session.try_events(&mut events);
        let mut size = 0;
        let mut count = 0;
        for event in events {
            let SessionEvent::Deliveries(it) = event else { continue };
            count += it.items.len();
            size += it.items.iter().map(|item| item.message.size_bytes()).sum::<usize>();
        }
        assert!(size > 3000 && size < 6000, "{size} bytes");
        assert!(!client.session.try_events(&mut Vec::new()), "the tap is closed");
        client.session.deliveries_written(size / 4);
        assert!(!client.session.try_events(&mut Vec::new()), "not half yet");
        client.session.deliveries_written(size - size / 4);
        count
    };
    let mut count = first;
    while count < 200 {
        count += client.deliveries(1).len();
    }
    assert_eq!(count, 200);
}

#[test]
fn a_stalled_session_does_not_stall_its_neighbour() {
    let broker = small_inbox(1000);
    let mut slow = broker.session();
    let mut fast = broker.session();
    slow.declare("q", "");
    slow.consume("q", 1);
    fast.consume("q", 2);
    let body = "x".repeat(100);
    let mut from_fast = 0;
    for _ in 0..100 {
        slow.publish("", "q", &[&body, &body]);
        from_fast += fast.take_deliveries().len();
    }
    assert!(from_fast > 180, "{from_fast}");
    let ready = fast.ready("q");
    assert_eq!(ready, 0);
    drop(slow);
    assert_eq!(from_fast + fast.deliveries(200 - from_fast).len(), 200);
}

#[test]
fn a_cancelled_consumer_that_was_stalled_leaves_nothing_behind() {
    let broker = small_inbox(500);
    let mut client = broker.session();
    client.declare("q", "");
    let body = "x".repeat(100);
    client.publish("", "q", &vec![body.as_str(); 50]);
    let consumer = client.consume("q", 1);
    client.session.cancel(consumer);
    assert_eq!(client.ready("q"), 50);
    client.consume("q", 2);
    let mut count = 0;
    while count < 50 {
        count += client.deliveries(1).len();
    }
}

#[test]
fn many_consumers_of_one_session_share_its_inbox() {
    let broker = small_inbox(2000);
    let mut client = broker.session();
    client.declare("q", "");
    for cookie in 0..10 {
        client.consume("q", cookie);
    }
    let body = "x".repeat(100);
    for _ in 0..10 {
        client.publish("", "q", &vec![body.as_str(); 50]);
    }
    let mut seen = Vec::new();
    while seen.len() < 500 {
        let more = client.deliveries(1);
        client.settle(&more, Outcome::Accept);
        seen.extend(more);
    }
    for cookie in 0..10 {
        assert!(seen.iter().any(|seen| seen.cookie == cookie), "consumer {cookie} starves");
    }
}

#[test]
fn a_backlog_on_disk_is_delivered_in_order() {
    let mut broker = TestBroker::paging(options());
    let mut client = broker.session();
    client.declare("q", "d");
    let body = |at: usize| format!("{at:05}{}", "x".repeat(100));
    for first in (0..2000).step_by(100) {
        let some: Vec<_> = (first..first + 100).map(body).collect();
        client.publish("", "q", &some.iter().map(String::as_str).collect::<Vec<_>>());
        block_on(|cx| client.session.poll_publish_ready(cx));
    }
    assert_eq!(client.ready("q"), 2000);
    assert_eq!(client.get("q", true).unwrap().delivery.message.body(), body(0).as_bytes());
    client.session.consume(ConsumeRequest { prefetch: 50, ..consume_request("q", 1) }).unwrap();
    let mut next = 1;
    while next < 1000 {
        let seen = client.deliveries(1);
        for one in &seen {
            assert_eq!(one.body, body(next));
            next += 1;
        }
        client.settle(&seen, Outcome::Accept);
    }
    drop(client);
    broker.reopen();
    let mut client = broker.session();
    let left = client.drain("q");
    // What was delivered and not seen before the close is there too.
    assert_eq!(left, (next..2000).map(body).collect::<Vec<_>>());
}

#[test]
fn what_a_cancelled_consumer_gives_back_makes_room_for_its_neighbour() {
    let broker = small_inbox(1000);
    let mut client = broker.session();
    client.declare("a", "");
    client.declare("b", "");
    let of_a = client.consume("a", 1);
    client.consume("b", 2);
    let body = "x".repeat(100);
    client.publish("", "a", &[body.as_str(); 5]);
    client.publish("", "b", &[body.as_str(); 30]);
    let mut events = Vec::new();
    client.session.try_events(&mut events);
    let of = |event: &SessionEvent| match event {
        SessionEvent::Deliveries(it) => {
            it.items.iter().map(|item| (it.cookie, item.message.size_bytes())).collect()
        }
        _ => Vec::new(),
    };
    let taken: Vec<(u64, usize)> = events.iter().flat_map(of).collect();
    let size: usize = taken.iter().map(|(_, size)| size).sum();
    let from_b = taken.iter().filter(|(cookie, _)| *cookie == 2).count();
    assert!(size > 1000 && from_b < 30, "{taken:?}");
    // Half and a little is left, so the other consumer stays shut; more comes for the first, which is cancelled
    // before anybody looks.
    client.session.deliveries_written(size - 510);
    client.publish("", "a", &["x".repeat(300).as_str(); 10]);
    client.session.deliveries_written(510);
    client.session.cancel(of_a);
    // Asked for without saying that anything was written.
    assert!(client.session.try_events(&mut client.events), "nothing more came");
    assert_eq!(from_b + client.deliveries(30 - from_b).len(), 30);
}
