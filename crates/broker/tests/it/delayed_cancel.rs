//! Delayed messages taken back by the id that their publisher chose.

use crate::delayed::{
    PATIENCE, broker, declare_with_queue, delayed, publish, root, wait_ready, wait_waiting, waiting,
};
use crate::support::*;
use millpond_model::properties::Properties;
use millpond_model::table::Value;
use std::time::Instant;

/// To take back the messages with this id.
pub(crate) fn cancelling(id: impl Into<Value>) -> Properties {
    Properties { headers: arguments(&[("x-delay-cancel", id.into())]), ..persistent() }
}

pub(crate) fn named(id: &str, delay_ms: i64) -> Properties {
    Properties { message_id: Some(id.into()), ..delayed(delay_ms) }
}

/// Publishes an order to take back until it is known what waits; whether it missed.
pub(crate) fn cancel(client: &mut Client, properties: &Properties) -> bool {
    let started = Instant::now();
    loop {
        let (message, route) = client.message("D", "k", "not to be delivered", properties).unwrap();
        assert!(!route.is_unroutable() && !route.is_nowhere());
        let durability = client.session.publish(&mut vec![(message, route)]).unwrap();
        client.wait_commit(durability);
        let missed = !client.session.take_missed().is_empty();
        if client.session.take_refused().is_empty() {
            return missed;
        }
        assert!(started.elapsed() < PATIENCE, "what waits is not read");
    }
}

#[test]
fn a_publisher_takes_back_what_it_scheduled_by_the_id_it_chose() {
    let (mut broker, clock) = broker();
    let mut client = broker.session();
    declare_with_queue(&mut client);
    for (body, id) in [("1", "a"), ("2", "b"), ("3", "a"), ("4", "c")] {
        publish(&mut client, body, &named(id, 1000));
    }
    publish(&mut client, "5", &delayed(1000));
    assert!(!cancel(&mut client, &cancelling("a")));
    assert_eq!(waiting(&broker), 3, "both are gone");
    assert!(cancel(&mut client, &cancelling("a")), "none is left");
    assert!(cancel(&mut client, &cancelling("nobody's")));
    drop(client);
    broker.reopen();
    wait_waiting(&broker, 3);
    let mut client = broker.session();
    assert!(!cancel(&mut client, &cancelling("c")), "ids are known after a restart");
    clock.advance(1001);
    wait_ready(&mut client, "q", 2);
    assert_eq!(client.drain("q"), ["2", "5"]);
    assert!(cancel(&mut client, &cancelling("b")), "what was released is not taken back");
}

#[test]
fn a_message_with_a_delay_and_something_to_cancel_takes_its_place() {
    let (broker, clock) = broker();
    let mut client = broker.session();
    declare_with_queue(&mut client);
    publish(&mut client, "old", &named("a", 1000));
    let mut properties = named("a", 5000);
    properties.headers.push("x-delay-cancel", Value::from("a"));
    publish(&mut client, "new", &properties);
    assert_eq!(waiting(&broker), 1);
    clock.advance(1001);
    assert_eq!(client.ready("q"), 0);
    clock.advance(4000);
    wait_ready(&mut client, "q", 1);
    assert_eq!(client.drain("q"), ["new"]);
}

#[test]
fn orders_to_cancel_are_read_by_delayed_exchanges_only() {
    let (broker, _) = broker();
    let mut client = broker.session();
    declare_with_queue(&mut client);
    for (value, found) in [(Value::I32(5), "got a signedint"), (Value::from(""), "got an empty text")] {
        let error = client.message("D", "k", "m", &cancelling(value)).unwrap_err().to_string();
        assert!(error.contains("x-delay-cancel") && error.ends_with(found), "{error}");
    }
    let durability = client.publish_with("", "q", &["plain"], &cancelling("a"));
    client.wait_commit(durability);
    assert_eq!(client.drain("q"), ["plain"]);
}

#[test]
fn operators_cancel_by_message_id_too() {
    let (broker, clock) = broker();
    let mut client = broker.session();
    declare_with_queue(&mut client);
    publish(&mut client, "1", &named("a", 1000));
    publish(&mut client, "2", &named("a", 1000));
    let cancel = |id: &[u8]| broker.broker().cancel_delayed_named(&root(), &exchange("D"), id);
    let (count, saved) = cancel(b"a").unwrap();
    saved.wait().unwrap();
    assert_eq!(count, 2);
    let error = cancel(b"a").unwrap_err().to_string();
    assert_eq!(error, "no message with the message_id 'a' waits at exchange 'D': it may have been released");
    clock.advance(2001);
    publish(&mut client, "now", &persistent());
    assert_eq!(client.drain("q"), ["now"]);
}
