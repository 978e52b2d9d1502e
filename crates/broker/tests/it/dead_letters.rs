//! Time to live, limits of length, delivery limits, unused queues, and where dead messages go (contracts T, X).

use crate::support::*;
use millpond_broker::*;
use millpond_model::Message;
use millpond_model::properties::{Properties, RawProperties};
use millpond_model::table::{Table, Value};

fn declare(client: &mut Client, name: &str, args: &[(&str, Value)]) {
    let request = DeclareQueue { arguments: arguments(args), ..queue_request(name, "d") };
    let (_, durability) = client.session.declare_queue(&request).unwrap();
    client.wait_commit(durability);
}

fn dead_lettering_to<'a>(key: &str, more: &[(&'a str, Value)]) -> Vec<(&'a str, Value)> {
    let mut args = vec![("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", key.into())];
    args.extend(more.iter().cloned());
    args
}

/// A broker whose clock is turned by hand, and the clock.
fn broker() -> (TestBroker, Clock) {
    let clock = Clock::fake(1_700_000_000_000);
    (TestBroker::with(BrokerOptions { clock: clock.clone(), ..options() }), clock)
}

fn expiring(ms: &str) -> Properties {
    Properties { expiration: Some(ms.into()), ..persistent() }
}

/// Consumes all that comes and gives the messages themselves.
fn next_message(client: &mut Client) -> Message {
    loop {
        let found = client.events.iter_mut().find_map(|event| match event {
            SessionEvent::Deliveries(it) if !it.items.is_empty() => Some(it.items.remove(0).message),
            _ => None,
        });
        match found {
            Some(message) => return message,
            None => client.wait_events(),
        }
    }
}

fn headers(message: &Message) -> Table {
    RawProperties::parse(message.properties()).unwrap().headers().unwrap_or_default().to_table()
}

fn entry<'t>(death: &'t Value, name: &str) -> &'t Value {
    let Value::Table(table) = death else { panic!("not a table: {death:?}") };
    table.get(name).unwrap_or(&Value::Void)
}

fn deaths(message: &Message) -> Vec<Value> {
    match headers(message).get("x-death") {
        Some(Value::Array(deaths)) => deaths.clone(),
        other => panic!("no x-death: {other:?}"),
    }
}

#[test]
fn a_rejected_message_goes_to_the_dead_letter_exchange_with_its_history() {
    let (broker, _) = broker();
    let mut client = broker.session();
    client.declare("grave", "d");
    declare(&mut client, "work", &dead_lettering_to("grave", &[]));
    client.publish("amq.direct", "nowhere", &["x"]);
    client.bind("amq.direct", "work", "key");
    client.publish("amq.direct", "key", &["a"]);
    client.consume("work", 1);
    let seen = client.deliveries(1);
    client.settle(&seen, Outcome::Reject);
    client.consume("grave", 2);
    let message = next_message(&mut client);
    assert_eq!(message.body(), b"a");
    assert_eq!((message.exchange(), message.routing_key()), (&b""[..], &b"grave"[..]));
    let deaths = deaths(&message);
    assert_eq!(deaths.len(), 1);
    let wanted: [(&str, Value); 6] = [
        ("count", 1i64.into()),
        ("reason", "rejected".into()),
        ("queue", "work".into()),
        ("time", Value::Timestamp(1_700_000_000)),
        ("exchange", "amq.direct".into()),
        ("routing-keys", vec![Value::from("key")].into()),
    ];
    for (name, value) in wanted {
        assert_eq!(entry(&deaths[0], name), &value, "{name}");
    }
    let headers = headers(&message);
    for (name, value) in [("queue", "work"), ("reason", "rejected"), ("exchange", "amq.direct")] {
        assert_eq!(headers.get(&format!("x-first-death-{name}")), Some(&value.into()), "{name}");
        assert_eq!(headers.get(&format!("x-last-death-{name}")), Some(&value.into()), "{name}");
    }
    assert_eq!(client.ready("work"), 0);
}

#[test]
fn messages_expire_at_the_head_and_go_to_the_dead_letter_queue_in_order() {
    let (broker, clock) = broker();
    let mut client = broker.session();
    client.declare("grave", "d");
    declare(&mut client, "work", &dead_lettering_to("grave", &[("x-message-ttl", 1000i64.into())]));
    client.publish("", "work", &["a", "b"]);
    clock.advance(400);
    client.publish("", "work", &["c"]);
    client.publish_with("", "work", &["d"], &expiring("100"));
    assert_eq!(client.ready("work"), 4, "one that expires behind others waits for the head");
    client.consume("grave", 1);
    clock.advance(600);
    assert_eq!(bodies(&client.deliveries(2)), ["a", "b"]);
    assert_eq!(client.ready("work"), 2);
    clock.advance(400);
    assert_eq!(bodies(&client.deliveries(2)), ["c", "d"]);
    assert_eq!(client.ready("work"), 0);
}

#[test]
fn an_expired_message_is_never_delivered_and_its_expiration_is_told() {
    let (broker, clock) = broker();
    let mut client = broker.session();
    client.declare("grave", "d");
    declare(&mut client, "work", &dead_lettering_to("grave", &[]));
    client.publish_with("", "work", &["stays"], &persistent());
    client.publish_with("", "work", &["goes"], &expiring("50"));
    client.publish_with("", "work", &["stays too"], &persistent());
    clock.advance(50);
    client.consume("work", 1);
    assert_eq!(bodies(&client.deliveries(2)), ["stays", "stays too"]);
    client.consume("grave", 2);
    let message = next_message(&mut client);
    assert_eq!(message.body(), b"goes");
    assert!(!message.has_expiration());
    assert_eq!(entry(&deaths(&message)[0], "original-expiration"), &"50".into());
    assert_eq!(entry(&deaths(&message)[0], "reason"), &"expired".into());
}

#[test]
fn a_time_to_live_of_zero_is_delivered_to_who_waits_and_expires_otherwise() {
    let (broker, _) = broker();
    let mut client = broker.session();
    declare(&mut client, "now", &[("x-message-ttl", 0i64.into())]);
    client.publish("", "now", &["nobody waits"]);
    assert_eq!(client.ready("now"), 0);
    client.consume("now", 1);
    client.publish("", "now", &["somebody waits"]);
    assert_eq!(bodies(&client.deliveries(1)), ["somebody waits"]);
}

#[test]
fn expiry_survives_a_restart() {
    let (mut broker, clock) = broker();
    let mut client = broker.session();
    client.declare("grave", "d");
    declare(&mut client, "work", &dead_lettering_to("grave", &[("x-message-ttl", 1000i64.into())]));
    client.publish("", "work", &["a"]);
    drop(client);
    broker.reopen();
    let mut client = broker.session();
    client.consume("grave", 1);
    assert_eq!(client.ready("work"), 1);
    clock.advance(1000);
    assert_eq!(bodies(&client.deliveries(1)), ["a"]);
    drop(client);
    broker.reopen();
    let mut client = broker.session();
    assert_eq!((client.drain("work").len(), client.drain("grave").len()), (0, 1), "moved in one commit");
}

#[test]
fn a_queue_drops_its_oldest_messages_over_its_length() {
    let table: [(&str, i64, &[&str], &[&str]); 4] = [
        ("x-max-length", 2, &["a", "b", "c", "d"], &["c", "d"]),
        ("x-max-length", 0, &["a", "b"], &[]),
        ("x-max-length-bytes", 5, &["aa", "bb", "cc"], &["bb", "cc"]),
        ("x-max-length-bytes", 3, &["a", "too long", "b"], &["b"]),
    ];
    for (argument, limit, published, kept) in table {
        let (broker, _) = broker();
        let mut client = broker.session();
        client.declare("grave", "d");
        declare(&mut client, "work", &dead_lettering_to("grave", &[(argument, limit.into())]));
        for body in published {
            client.publish("", "work", &[body]);
        }
        assert_eq!(client.drain("work"), kept, "{argument} {limit}");
        assert_eq!(client.drain("grave").len(), published.len() - kept.len(), "{argument} {limit}");
    }
}

#[test]
fn a_queue_that_refuses_says_which_publishes_it_refused() {
    for (overflow, dead) in [("reject-publish", 0), ("reject-publish-dlx", 2)] {
        let (broker, _) = broker();
        let mut client = broker.session();
        client.declare("grave", "d");
        client.declare("other", "d");
        let more = [("x-max-length", 2i64.into()), ("x-overflow", overflow.into())];
        declare(&mut client, "work", &dead_lettering_to("grave", &more));
        let keys = ["work", "other", "work", "work", "other", "work"];
        let mut batch: Vec<_> =
            keys.iter().map(|key| client.message("", key, key, &persistent()).unwrap()).collect();
        assert!(batch[0].1.may_refuse() && !batch[1].1.may_refuse());
        let durability = client.session.publish(&mut batch).unwrap();
        client.wait_commit(durability);
        assert_eq!(client.session.take_refused(), [3, 5]);
        assert_eq!((client.ready("work"), client.ready("other"), client.ready("grave")), (2, 2, dead));
    }
}

#[test]
fn a_message_that_fails_too_often_dies_and_one_given_back_does_not() {
    let (broker, _) = broker();
    let mut client = broker.session();
    client.declare("grave", "d");
    declare(&mut client, "work", &dead_lettering_to("grave", &[("x-delivery-limit", 2i64.into())]));
    client.publish("", "work", &["a"]);
    client.consume("work", 1);
    for _ in 0..10 {
        let seen = client.deliveries(1);
        client.settle(&seen, Outcome::Requeue);
    }
    for count in [None, Some(1), Some(2)] {
        let message = next_message(&mut client);
        assert_eq!(headers(&message).get("x-delivery-count"), count.map(Value::I64).as_ref());
        let id = DeliveryId { queue: QueueRef(0), seq: 0 };
        client.session.settle(&[id], Outcome::Fail);
    }
    assert_eq!(client.ready("work"), 0);
    assert_eq!(client.drain("grave"), ["a"]);
}

#[test]
fn a_message_does_not_go_round_in_circles_unless_a_client_rejects_it() {
    let (broker, clock) = broker();
    let mut client = broker.session();
    declare(&mut client, "round", &dead_lettering_to("round", &[("x-message-ttl", 10i64.into())]));
    client.publish("", "round", &["a"]);
    clock.advance(10);
    client.publish("", "round", &["b"]);
    assert_eq!(client.drain("round"), ["b"], "an expired one is not put where it died");
    client.publish("", "round", &["c"]);
    client.consume("round", 1);
    for _ in 0..3 {
        let seen = client.deliveries(1);
        client.settle(&seen, Outcome::Reject);
    }
    assert_eq!(bodies(&client.deliveries(1)), ["c"]);
}

#[test]
fn dead_messages_wait_for_their_exchange_to_be_declared() {
    let (broker, clock) = broker();
    let mut client = broker.session();
    client.declare("grave", "d");
    declare(&mut client, "work", &[("x-dead-letter-exchange", "later".into())]);
    client.publish("", "work", &["a"]);
    client.consume("work", 1);
    let seen = client.deliveries(1);
    client.settle(&seen, Outcome::Reject);
    assert_eq!(client.ready("work"), 0);
    client.declare_exchange("later", "fanout", "d");
    client.bind("later", "grave", "");
    clock.advance(1000);
    client.consume("grave", 2);
    assert_eq!(bodies(&client.deliveries(1)), ["a"]);
}

#[test]
fn an_unused_queue_goes_when_it_expires() {
    let (broker, clock) = broker();
    let mut client = broker.session();
    declare(&mut client, "brief", &[("x-expires", 1000i64.into())]);
    clock.advance(900);
    assert!(client.get("brief", true).is_none());
    clock.advance(900);
    let consumer = client.consume("brief", 1);
    clock.advance(5000);
    client.session.cancel(consumer);
    clock.advance(999);
    assert_eq!(client.ready("brief"), 0);
    clock.advance(1);
    // The timer's thread deletes it; asking does not keep it.
    while client.session.declare_queue(&queue_request("brief", "p")).is_ok() {
        std::thread::yield_now();
    }
}

#[test]
fn a_limit_by_bytes_counts_messages_from_before_a_restart() {
    for paging in [false, true] {
        let mut broker = if paging { TestBroker::paging(options()) } else { TestBroker::new() };
        let mut client = broker.session();
        declare(&mut client, "work", &[("x-max-length-bytes", 2000i64.into())]);
        let body = "x".repeat(100);
        for _ in 0..20 {
            client.publish("", "work", &[&body]);
        }
        drop(client);
        broker.reopen();
        let mut client = broker.session();
        assert_eq!(client.ready("work"), 20);
        client.publish("", "work", &[&body, &body]);
        // What is on disk is weighed as it is read.
        let started = std::time::Instant::now();
        while client.ready("work") != 20 {
            assert!(started.elapsed() < std::time::Duration::from_secs(20), "{} stay", client.ready("work"));
            std::thread::yield_now();
        }
    }
}

#[test]
fn many_dead_messages_keep_their_order_whoever_moves_them() {
    let (broker, clock) = broker();
    let mut client = broker.session();
    client.declare("grave", "d");
    declare(&mut client, "work", &dead_lettering_to("grave", &[("x-message-ttl", 1000i64.into())]));
    let padding = " ".repeat(4000);
    let wanted: Vec<String> = (0..2000).map(|n| format!("{n}{padding}")).collect();
    client.publish("", "work", &wanted.iter().map(String::as_str).collect::<Vec<_>>());
    let mut others = [broker.session(), broker.session()];
    clock.advance(1000);
    // The timer's thread moves them, and so does everybody who looks: some megabytes, each in pieces.
    std::thread::scope(|scope| {
        for other in &mut others {
            scope.spawn(|| {
                while other.ready("grave") < 2000 {
                    assert!(other.get("work", true).is_none());
                }
            });
        }
    });
    assert!(client.drain("grave") == wanted);
}
