//! What a restart keeps of messages.

use crate::support::*;
use millpond_broker::*;

#[test]
fn unacked_messages_are_there_again_and_acked_ones_are_not() {
    let mut broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("q", "d");
    let names: Vec<_> = (0..500).map(|at| at.to_string()).collect();
    client.publish("", "q", &names.iter().map(String::as_str).collect::<Vec<_>>());
    client.consume("q", 1);
    let seen = client.deliveries(500);
    let every_third: Vec<_> = seen.iter().step_by(3).cloned().collect();
    client.settle(&every_third, Outcome::Accept);
    drop(client);
    broker.reopen();
    let left: Vec<_> = (0..500).filter(|at| at % 3 != 0).map(|at| at.to_string()).collect();
    assert_eq!(broker.session().drain("q"), left);
}

#[test]
fn transient_messages_are_gone_after_a_restart() {
    let mut broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("q", "d");
    client.publish_with("", "q", &["a", "b"], &transient());
    client.publish("", "q", &["kept"]);
    drop(client);
    broker.reopen();
    let mut client = broker.session();
    let seen = client.get("q", false).unwrap();
    assert_eq!(seen.delivery.message.body(), b"kept");
    drop(client);
    let mut client = broker.session();
    client.publish("", "q", &["new"]);
    assert_eq!(client.drain("q"), ["kept", "new"]);
}

#[test]
fn a_fan_out_is_there_in_every_queue_after_a_restart() {
    let mut broker = TestBroker::new();
    let mut client = broker.session();
    for name in ["a", "b", "c"] {
        client.declare(name, "d");
        client.bind("amq.fanout", name, "");
    }
    client.publish("amq.fanout", "", &["1", "2"]);
    let got = client.get("b", false).unwrap();
    client.session.settle(&[DeliveryId { queue: got.queue, seq: got.delivery.seq }], Outcome::Accept);
    drop(client);
    broker.reopen();
    let mut client = broker.session();
    assert_eq!(client.drain("a"), ["1", "2"]);
    assert_eq!(client.drain("b"), ["2"]);
    assert_eq!(client.drain("c"), ["1", "2"]);
}
