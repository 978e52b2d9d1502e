//! `x-recent-history` exchanges: what is published once more to what is bound later.

use crate::support::*;
use millpond_broker::*;
use millpond_model::properties::Properties;
use millpond_model::table::Value;

/// Declares exchange `H` that keeps `length` messages.
fn declare(client: &mut Client, length: i32) {
    let arguments = arguments(&[("x-recent-history-length", Value::I32(length))]);
    let request = DeclareExchange { arguments, ..exchange_request("H", "x-recent-history", "d") };
    let durability = client.session.declare_exchange(&request).unwrap();
    client.wait_commit(durability);
}

#[test]
fn a_queue_gets_the_last_messages_when_it_is_bound() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    declare(&mut client, 3);
    client.declare("early", "");
    client.bind("H", "early", "");
    client.publish("H", "k", &["1", "2", "3", "4", "5"]);
    client.declare("late", "d");
    client.bind("H", "late", "");
    assert_eq!(client.drain("late"), ["3", "4", "5"]);
    client.publish("H", "k", &["6"]);
    assert_eq!(client.drain("late"), ["6"]);
    assert_eq!(client.drain("early"), ["1", "2", "3", "4", "5", "6"]);
    client.bind("H", "late", "another key");
    assert_eq!(client.drain("late"), ["4", "5", "6"], "each new binding brings it");
    client.bind("H", "late", "another key");
    assert!(client.drain("late").is_empty(), "a binding that was there does not");
}

#[test]
fn twenty_are_kept_if_nothing_is_said() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare_exchange("H", "x-recent-history", "");
    let all: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    client.publish("H", "k", &all.iter().map(String::as_str).collect::<Vec<_>>());
    client.declare("q", "");
    client.bind("H", "q", "");
    assert_eq!(client.drain("q"), all[30..]);
}

#[test]
fn messages_without_a_queue_are_unroutable_and_kept() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    declare(&mut client, 2);
    let (message, route) = client.message("H", "k", "m", &transient()).unwrap();
    assert!(route.is_unroutable() && !route.is_nowhere());
    client.session.publish(&mut vec![(message, route)]).unwrap();
    client.declare("q", "");
    client.bind("H", "q", "");
    assert_eq!(client.drain("q"), ["m"]);
}

#[test]
fn a_header_keeps_a_message_out_of_the_history() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    declare(&mut client, 5);
    for (no_store, body) in [
        (Value::Bool(true), "not kept"),
        (Value::Bool(false), "kept"),
        (Value::from("true"), "kept: not a bool"),
    ] {
        let headers = arguments(&[("x-recent-history-no-store", no_store)]);
        client.publish_with("H", "k", &[body], &Properties { headers, ..Properties::default() });
    }
    client.declare("q", "");
    client.bind("H", "q", "");
    assert_eq!(client.drain("q"), ["kept", "kept: not a bool"]);
}

#[test]
fn what_comes_through_other_exchanges_is_kept_and_what_is_bound_may_be_an_exchange() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    declare(&mut client, 5);
    client.declare_exchange("in", "fanout", "");
    client.declare_exchange("out", "topic", "");
    client.declare("q", "");
    client.bind("out", "q", "a.*");
    let bind = |client: &mut Client, from: &str, to: &str| {
        let destination = Destination::Exchange(exchange(to));
        client.session.bind(&Binding { destination, ..binding(from, "unused", "") }).unwrap();
    };
    bind(&mut client, "in", "H");
    client.publish("in", "a.1", &["first"]);
    client.publish("in", "b.1", &["elsewhere"]);
    client.publish("in", "a.2", &["last"]);
    bind(&mut client, "H", "out");
    assert_eq!(client.drain("q"), ["first", "last"]);
}

#[test]
fn a_queue_that_is_too_short_for_the_history_lets_its_oldest_die() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    declare(&mut client, 5);
    client.publish("H", "k", &["1", "2", "3"]);
    client.declare("dead", "");
    let arguments = arguments(&[
        ("x-max-length", Value::I32(1)),
        ("x-dead-letter-exchange", Value::from("")),
        ("x-dead-letter-routing-key", Value::from("dead")),
    ]);
    let request = DeclareQueue { arguments, ..queue_request("short", "") };
    client.session.declare_queue(&request).unwrap();
    client.bind("H", "short", "");
    assert_eq!(client.drain("short"), ["3"]);
    assert_eq!(client.drain("dead"), ["1", "2"]);
}

#[test]
fn a_history_goes_with_its_exchange_and_with_a_restart() {
    let mut broker = TestBroker::new();
    let mut client = broker.session();
    declare(&mut client, 5);
    client.declare("q", "d");
    client.publish("H", "k", &["old"]);
    client.session.delete_exchange(&exchange("H"), false).unwrap();
    declare(&mut client, 5);
    client.bind("H", "q", "");
    assert!(client.drain("q").is_empty());
    client.publish("H", "k", &["stored in the queue"]);
    drop(client);
    broker.reopen();
    let mut client = broker.session();
    assert_eq!(client.drain("q"), ["stored in the queue"], "the exchange and its binding are there");
    client.bind("H", "q", "again");
    assert!(client.drain("q").is_empty(), "its history is not");
}

#[test]
fn history_that_a_durable_queue_was_given_is_there_after_a_restart() {
    let mut broker = TestBroker::new();
    let mut client = broker.session();
    declare(&mut client, 5);
    client.publish("H", "k", &["1", "2"]);
    client.declare("q", "d");
    client.bind("H", "q", "");
    drop(client);
    broker.reopen();
    assert_eq!(broker.session().drain("q"), ["1", "2"]);
}
