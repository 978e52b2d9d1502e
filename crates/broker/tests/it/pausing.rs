//! Queues and consumers paused, and consumers changed and ended from outside.

use crate::support::*;
use millpond_broker::*;
use millpond_model::VhostName;
use millpond_model::table::Value;

fn root() -> VhostName {
    VhostName::new("/").unwrap()
}

fn pause(broker: &TestBroker, name: &str, paused: bool) {
    broker.broker().pause_queue(&root(), &queue(name), paused).unwrap().wait().unwrap();
}

fn is_paused(broker: &TestBroker, name: &str) -> bool {
    broker.broker().queue(&root(), &queue(name)).unwrap().unwrap().paused
}

fn meant(tag: &str) -> ConsumersMeant<'_> {
    ConsumersMeant { tag: Some(tag), ..ConsumersMeant::default() }
}

/// A queue as it is declared with these arguments.
const KINDS: [&[(&str, &str)]; 4] = [
    &[],
    &[("x-queue-type", "quorum")],
    &[("x-queue-type", "stream")],
    &[("x-group-by", "property:message_id")],
];

fn declare(client: &mut Client, arguments_: &[(&str, &str)]) {
    let table: Vec<_> = arguments_.iter().map(|(name, value)| (*name, Value::from(*value))).collect();
    let request = DeclareQueue { arguments: arguments(&table), ..queue_request("q", "d") };
    let (_, durability) = client.session.declare_queue(&request).unwrap();
    client.wait_commit(durability);
}

#[test]
fn a_paused_queue_takes_messages_and_gives_none_until_it_goes_on() {
    for kind in KINDS {
        let broker = TestBroker::new();
        let mut client = broker.session();
        declare(&mut client, kind);
        let request = ConsumeRequest { prefetch: 100, ..consume_request("q", 1) };
        client.session.consume(request).unwrap();
        client.publish("", "q", &["before"]);
        let before = client.deliveries(1);
        pause(&broker, "q", true);
        assert!(is_paused(&broker, "q"), "{kind:?}");
        client.publish("", "q", &["a", "b"]);
        assert!(client.take_deliveries().is_empty(), "{kind:?}");
        // What was delivered before is settled as ever, and makes no room.
        client.settle(&before, Outcome::Accept);
        assert!(client.take_deliveries().is_empty(), "{kind:?}");
        if kind != KINDS[2] {
            assert!(client.get("q", true).is_none(), "{kind:?}");
            assert_eq!(client.ready("q"), 2);
        }
        pause(&broker, "q", false);
        assert!(!is_paused(&broker, "q"));
        assert_eq!(bodies(&client.deliveries(2)), ["a", "b"], "{kind:?}");
    }
}

#[test]
fn a_pause_outlasts_a_restart_and_a_resume_what_was_declared_or_said_by_a_policy() {
    let mut broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("q", "d");
    client.publish("", "q", &["a"]);
    pause(&broker, "q", true);
    drop(client);
    broker.reopen();
    assert!(is_paused(&broker, "q"));
    let mut client = broker.session();
    client.consume("q", 1);
    assert!(client.take_deliveries().is_empty());
    pause(&broker, "q", false);
    assert_eq!(bodies(&client.deliveries(1)), ["a"]);
    let declared = DeclareQueue {
        arguments: arguments(&[("x-paused", Value::Bool(true))]),
        ..queue_request("born paused", "d")
    };
    let (_, durability) = client.session.declare_queue(&declared).unwrap();
    client.wait_commit(durability);
    assert!(is_paused(&broker, "born paused"));
    pause(&broker, "born paused", false);
    assert!(!is_paused(&broker, "born paused"));
    pause(&broker, "born paused", true);
    assert!(is_paused(&broker, "born paused"));
}

#[test]
fn a_paused_consumer_is_passed_over_and_the_others_get_all() {
    for kind in [KINDS[0], KINDS[2], KINDS[3]] {
        let broker = TestBroker::new();
        let mut client = broker.session();
        declare(&mut client, kind);
        let request = ConsumeRequest { prefetch: 100, ..consume_request("q", 1) };
        client.session.consume(request).unwrap();
        let change = |paused| ConsumerChange { paused: Some(paused), ..ConsumerChange::default() };
        assert_eq!(broker.broker().change_consumers(&root(), meant("tag"), &change(true)).unwrap(), 1);
        client.publish("", "q", &["a", "b"]);
        assert!(client.take_deliveries().is_empty(), "{kind:?}");
        let figures = broker.broker().queue_figures(&root(), &queue("q")).unwrap();
        assert!(figures.consumers[0].paused);
        broker.broker().change_consumers(&root(), meant("tag"), &change(false)).unwrap();
        assert_eq!(bodies(&client.deliveries(2)), ["a", "b"], "{kind:?}");
        assert_eq!(broker.broker().change_consumers(&root(), meant("other"), &change(true)).unwrap(), 0);
    }
}

#[test]
fn a_consumers_prefetch_and_pace_are_changed_from_outside() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("q", "d");
    client.session.consume(ConsumeRequest { prefetch: 1, ..consume_request("q", 1) }).unwrap();
    client.publish("", "q", &["a", "b", "c", "d"]);
    assert_eq!(bodies(&client.deliveries(1)), ["a"]);
    let prefetch = |n| ConsumerChange { prefetch: Some(n), ..ConsumerChange::default() };
    broker.broker().change_consumers(&root(), meant("tag"), &prefetch(3)).unwrap();
    assert_eq!(bodies(&client.deliveries(2)), ["b", "c"]);
    let slow = arguments(&[("x-rate", Value::F64(0.001))]);
    let slow = ConsumerChange { arguments: slow, ..prefetch(0) };
    broker.broker().change_consumers(&root(), meant("tag"), &slow).unwrap();
    assert_eq!(bodies(&client.deliveries(1)), ["d"], "a pace lets the first one go at once");
    client.publish("", "q", &["e"]);
    assert!(client.take_deliveries().is_empty());
    let free = ConsumerChange { unpaced: true, ..ConsumerChange::default() };
    broker.broker().change_consumers(&root(), meant("tag"), &free).unwrap();
    assert_eq!(bodies(&client.deliveries(1)), ["e"]);
    let bad = ConsumerChange { arguments: arguments(&[("x-rate", Value::I32(-1))]), ..prefetch(1) };
    broker.broker().change_consumers(&root(), meant("tag"), &bad).unwrap_err();
}

#[test]
fn a_consumer_that_is_ended_is_told_and_its_inbox_is_ready_again() {
    for kind in [KINDS[0], KINDS[2]] {
        let broker = TestBroker::new();
        let (mut client, mut publisher) = (broker.session(), broker.session());
        declare(&mut client, kind);
        client.session.consume(ConsumeRequest { prefetch: 100, ..consume_request("q", 1) }).unwrap();
        publisher.publish("", "q", &["a"]);
        assert_eq!(broker.broker().cancel_consumers(&root(), meant("tag")).unwrap(), 1);
        assert_eq!(broker.broker().cancel_consumers(&root(), meant("tag")).unwrap(), 0);
        publisher.publish("", "q", &["b"]);
        assert!(client.take_deliveries().is_empty(), "{kind:?}");
        if kind == KINDS[0] {
            assert_eq!(client.drain("q"), ["a", "b"]);
        }
    }
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("short", "a");
    client.consume("short", 1);
    assert_eq!(broker.broker().cancel_consumers(&root(), meant("tag")).unwrap(), 1);
    assert!(broker.broker().queue(&root(), &queue("short")).unwrap().is_none(), "its last consumer went");
}
