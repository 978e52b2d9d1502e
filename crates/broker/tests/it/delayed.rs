//! Delayed exchanges: messages wait for their time, in order, through restarts, and are released once (contract M7).

use crate::delayed_cancel::{cancel, cancelling, named};
use crate::support::*;
use millpond_broker::*;
use millpond_model::VhostName;
use millpond_model::properties::{Properties, RawProperties};
use millpond_model::table::Value;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::time::{Duration, Instant};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn broker() -> (TestBroker, Clock) {
    let clock = Clock::fake(1_700_000_000_000);
    (TestBroker::with(BrokerOptions { clock: clock.clone(), ..options() }), clock)
}

/// Declares exchange `D`, delayed and routing as `kind`.
fn declare(client: &mut Client, kind: &str) {
    let arguments = arguments(&[("x-delayed-type", Value::from(kind))]);
    let request = DeclareExchange { arguments, ..exchange_request("D", "x-delayed-message", "d") };
    let durability = client.session.declare_exchange(&request).unwrap();
    client.wait_commit(durability);
}

/// Declares durable queue `q`, bound to `D` by key `k`.
pub(crate) fn declare_with_queue(client: &mut Client) {
    declare(client, "direct");
    client.declare("q", "d");
    client.bind("D", "q", "k");
}

pub(crate) fn delayed(delay: impl Into<Value>) -> Properties {
    Properties { headers: arguments(&[("x-delay", delay.into())]), ..persistent() }
}

pub(crate) fn publish(client: &mut Client, body: &str, properties: &Properties) {
    let durability = client.publish_with("D", "k", &[body], properties);
    client.wait_commit(durability);
}

/// Waits until so many messages are ready.
pub(crate) fn wait_ready(client: &mut Client, queue: &str, count: u64) {
    let started = Instant::now();
    while client.ready(queue) < count {
        assert!(started.elapsed() < PATIENCE, "{count} wanted, {} there", client.ready(queue));
        std::thread::yield_now();
    }
}

pub(crate) fn root() -> VhostName {
    VhostName::new("/").unwrap()
}

pub(crate) fn waiting(broker: &TestBroker) -> u64 {
    broker.broker().list_delayed_exchanges(&root()).unwrap().iter().map(|it| it.waiting).sum()
}

/// Waits until so many are found to wait.
pub(crate) fn wait_waiting(broker: &TestBroker, count: u64) {
    let started = Instant::now();
    while waiting(broker) != count {
        assert!(started.elapsed() < PATIENCE, "{count} wanted, {} wait", waiting(broker));
        std::thread::yield_now();
    }
}

#[test]
fn messages_come_when_they_are_due_and_in_the_order_of_their_times() {
    let (broker, clock) = broker();
    let mut client = broker.session();
    declare_with_queue(&mut client);
    for (body, delay_ms) in [("300", 300), ("100", 100), ("200", 200), ("100 too", 100)] {
        publish(&mut client, body, &delayed(delay_ms));
    }
    assert_eq!(waiting(&broker), 4);
    clock.advance(100);
    assert_eq!(client.ready("q"), 0);
    clock.advance(1);
    wait_ready(&mut client, "q", 2);
    assert_eq!(client.drain("q"), ["100", "100 too"]);
    clock.advance(200);
    wait_ready(&mut client, "q", 2);
    assert_eq!(client.drain("q"), ["200", "300"]);
    assert_eq!(waiting(&broker), 0);
}

#[test]
fn a_message_without_a_positive_whole_delay_goes_on_at_once() {
    let (broker, _) = broker();
    let mut client = broker.session();
    declare_with_queue(&mut client);
    publish(&mut client, "none", &persistent());
    for (body, delay) in [
        ("zero", Value::I32(0)),
        ("negative", Value::I64(-5)),
        ("text", Value::from("soon")),
        ("void", Value::Void),
        ("float", Value::F64(5.5)),
    ] {
        publish(&mut client, body, &delayed(delay));
    }
    assert_eq!(client.drain("q"), ["none", "zero", "negative", "text", "void", "float"]);
    publish(&mut client, "digits are a number", &delayed("5"));
    assert_eq!((client.ready("q"), waiting(&broker)), (0, 1));
}

#[test]
fn what_was_released_says_for_how_long_it_waited_and_does_not_wait_again() {
    let (broker, clock) = broker();
    let mut client = broker.session();
    declare_with_queue(&mut client);
    declare_second(&mut client);
    publish(&mut client, "m", &delayed(5000));
    clock.advance(5001);
    for queue in ["q", "second"] {
        wait_ready(&mut client, queue, 1);
        let message = client.get(queue, true).unwrap().delivery.message;
        let headers = RawProperties::from_checked(message.properties()).headers().unwrap();
        assert_eq!(headers.get("x-delay").and_then(|value| value.as_i64()), Some(-5000));
        assert_eq!((message.exchange(), message.routing_key()), (&b"D"[..], &b"k"[..]));
    }
}

/// Another delayed exchange behind the first, with a queue.
fn declare_second(client: &mut Client) {
    let arguments = arguments(&[("x-delayed-type", "fanout".into())]);
    let request = DeclareExchange { arguments, ..exchange_request("E", "x-delayed-message", "") };
    client.session.declare_exchange(&request).unwrap();
    client.declare("second", "");
    client.bind("E", "second", "");
    let to = Binding { destination: Destination::Exchange(exchange("E")), ..binding("D", "unused", "k") };
    client.session.bind(&to).unwrap();
}

#[test]
fn a_message_is_routed_by_the_bindings_of_the_moment_of_its_release() {
    let (broker, clock) = broker();
    let mut client = broker.session();
    declare(&mut client, "topic");
    client.declare("early", "");
    client.bind("D", "early", "#");
    let (message, route) = client.message("D", "k", "m", &delayed(10)).unwrap();
    assert!(!route.is_unroutable() && !route.is_nowhere(), "delayed is routed");
    client.session.publish(&mut vec![(message, route)]).unwrap();
    client.session.unbind(&binding("D", "early", "#")).unwrap();
    client.declare("late", "");
    client.bind("D", "late", "*");
    clock.advance(11);
    wait_ready(&mut client, "late", 1);
    assert_eq!(client.ready("early"), 0);
    assert!(client.message("D", "a.b", "m", &transient()).unwrap().1.is_unroutable());
}

#[test]
fn blind_copies_are_made_at_the_release_and_the_header_goes_then() {
    let (broker, clock) = broker();
    let mut client = broker.session();
    declare_with_queue(&mut client);
    client.declare("copy", "");
    client.bind("D", "copy", "blind");
    let mut properties = delayed(10);
    properties.headers.push("BCC", vec![Value::from("blind")]);
    publish(&mut client, "m", &properties);
    clock.advance(11);
    for queue in ["q", "copy"] {
        wait_ready(&mut client, queue, 1);
        let message = client.get(queue, true).unwrap().delivery.message;
        let headers = RawProperties::from_checked(message.properties()).headers().unwrap();
        assert!(headers.get("BCC").is_none());
    }
}

#[test]
fn a_time_to_live_begins_at_the_release() {
    let (broker, clock) = broker();
    let mut client = broker.session();
    declare_with_queue(&mut client);
    publish(&mut client, "m", &Properties { expiration: Some("50".into()), ..delayed(1000) });
    clock.advance(1001);
    wait_ready(&mut client, "q", 1);
    clock.advance(49);
    assert_eq!(client.drain("q"), ["m"]);
}

#[test]
fn persistent_messages_wait_through_restarts_and_those_that_are_overdue_come_at_once() {
    let (mut broker, clock) = broker();
    let mut client = broker.session();
    declare_with_queue(&mut client);
    publish(&mut client, "1", &delayed(1000));
    publish(&mut client, "2", &delayed(500));
    publish(&mut client, "3", &delayed(2000));
    publish(&mut client, "transient", &Properties { delivery_mode: None, ..delayed(1000) });
    drop(client);
    for _ in 0..2 {
        broker.reopen();
        wait_waiting(&broker, 3);
    }
    broker.reopen_after(|| clock.advance(1501));
    let mut client = broker.session();
    wait_ready(&mut client, "q", 2);
    assert_eq!(client.drain("q"), ["2", "1"]);
    drop(client);
    broker.reopen();
    wait_waiting(&broker, 1);
    let mut client = broker.session();
    clock.advance(500);
    wait_ready(&mut client, "q", 1);
    assert_eq!(client.drain("q"), ["3"]);
}

#[test]
fn what_waits_goes_with_its_exchange() {
    let (mut broker, clock) = broker();
    let mut client = broker.session();
    declare_with_queue(&mut client);
    publish(&mut client, "old", &delayed(10));
    client.session.delete_exchange(&exchange("D"), false).unwrap();
    declare_with_queue(&mut client);
    assert_eq!(waiting(&broker), 0);
    publish(&mut client, "new", &delayed(10));
    drop(client);
    broker.reopen();
    wait_waiting(&broker, 1);
    let mut client = broker.session();
    clock.advance(11);
    wait_ready(&mut client, "q", 1);
    assert_eq!(client.drain("q"), ["new"]);
}

#[test]
fn a_message_is_taken_back_by_its_id() {
    let (mut broker, clock) = broker();
    let mut client = broker.session();
    declare_with_queue(&mut client);
    publish(&mut client, "stays", &delayed(20));
    publish(&mut client, "goes", &Properties { message_id: Some("order-7".into()), ..delayed(10) });
    let list = |broker: &TestBroker| broker.broker().list_delayed(&root(), &exchange("D"), 10).unwrap();
    let listed = list(&broker);
    let dues: Vec<u64> = listed.iter().map(|one| one.due_ms).collect();
    assert_eq!(dues, [1_700_000_000_011, 1_700_000_000_021]);
    let content = listed[0].content.as_ref().unwrap();
    assert_eq!(content.message_id.as_deref(), Some(&b"order-7"[..]));
    let cancel = |broker: &TestBroker, id| broker.broker().cancel_delayed(&root(), &exchange("D"), id);
    cancel(&broker, listed[0].id).unwrap().wait().unwrap();
    let missing = cancel(&broker, listed[0].id).unwrap_err().to_string();
    assert_eq!(
        missing,
        format!("no message {} waits at exchange 'D': it may have been released", listed[0].id)
    );
    drop(client);
    broker.reopen();
    wait_waiting(&broker, 1);
    let mut client = broker.session();
    clock.advance(21);
    wait_ready(&mut client, "q", 1);
    assert_eq!(client.drain("q"), ["stays"]);
}

#[test]
fn a_policy_delays_at_any_exchange() {
    let (broker, clock) = broker();
    let mut client = broker.session();
    client.declare_exchange("D", "fanout", "d");
    client.declare("q", "d");
    client.bind("D", "q", "");
    publish(&mut client, "no policy", &delayed(10));
    assert_eq!(client.drain("q"), ["no policy"]);
    let spec = PolicySpec {
        name: "delay".into(),
        pattern: "^D$".into(),
        apply_to: ApplyTo::Exchanges,
        priority: 0,
        definition: PolicyDefinition::from_json(r#"{"delayed-message": true}"#).unwrap(),
    };
    broker.broker().set_policy(&root(), PolicyKind::User, spec).unwrap().wait().unwrap();
    publish(&mut client, "delayed", &delayed(10));
    publish(&mut client, "not", &persistent());
    assert_eq!(client.drain("q"), ["not"]);
    clock.advance(11);
    wait_ready(&mut client, "q", 1);
    assert_eq!(client.drain("q"), ["delayed"]);
}

#[test]
fn dead_letters_wait_too() {
    let (broker, clock) = broker();
    let mut client = broker.session();
    declare_with_queue(&mut client);
    let arguments = arguments(&[
        ("x-message-ttl", Value::I32(10)),
        ("x-dead-letter-exchange", "D".into()),
        ("x-dead-letter-routing-key", "k".into()),
    ]);
    client.session.declare_queue(&DeclareQueue { arguments, ..queue_request("short", "d") }).unwrap();
    let durability = client.publish_with("", "short", &["m"], &delayed(100));
    client.wait_commit(durability);
    clock.advance(11);
    wait_waiting(&broker, 1);
    clock.advance(101);
    wait_ready(&mut client, "q", 1);
    assert_eq!(client.drain("q"), ["m"]);
}

#[test]
fn a_backlog_on_disk_is_released_in_the_order_of_its_times_each_message_once() {
    let clock = Clock::fake(1_700_000_000_000);
    let mut broker = TestBroker::paging(BrokerOptions { clock: clock.clone(), ..options() });
    let mut client = broker.session();
    declare_with_queue(&mut client);
    const COUNT: u64 = 3000;
    let delay_of = |n: u64| 1 + (n * 7919) % 20_000;
    let mut last = Durability::Now;
    for n in 0..COUNT {
        let body = format!("{n:05} {}", "x".repeat(60));
        last = client.publish_with("D", "k", &[&body], &delayed(delay_of(n) as i64));
    }
    client.wait_commit(last);
    drop(client);
    broker.reopen();
    wait_waiting(&broker, COUNT);
    let mut client = broker.session();
    let mut wanted: Vec<u64> = (0..COUNT).collect();
    wanted.sort_by_key(|n| (delay_of(*n), *n));
    let mut released = Vec::new();
    for step in 1..=41u64 {
        clock.advance(500);
        let due = wanted.iter().filter(|n| delay_of(**n) < step * 500).count();
        wait_ready(&mut client, "q", (due - released.len()) as u64);
        released.extend(client.drain("q").iter().map(|body| body[..5].parse::<u64>().unwrap()));
        assert_eq!(released[..], wanted[..due]);
    }
    assert_eq!(released.len() as u64, COUNT);
    drop(client);
    broker.reopen();
    assert_eq!(waiting(&broker), 0);
}

#[test]
fn a_delayed_exchange_needs_a_type_to_route_by() {
    let (broker, _) = broker();
    let mut client = broker.session();
    for (named, says) in [
        (None, "it is missing"),
        (Some(Value::from("nonsense")), "the value 'nonsense' of type 'longstr'"),
        (Some(Value::from("x-delayed-message")), "the value 'x-delayed-message' of type 'longstr'"),
        (Some(Value::I32(5)), "the value '5' of type 'signedint'"),
    ] {
        let arguments = named.map(|named| ("x-delayed-type", named)).into_iter().collect();
        let request = DeclareExchange { arguments, ..exchange_request("D", "x-delayed-message", "") };
        let error = client.session.declare_exchange(&request).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("invalid arg 'x-delayed-type' for exchange 'D': {says}")),
            "{error}"
        );
    }
    declare(&mut client, "topic");
    declare(&mut client, "topic");
    let arguments = arguments(&[("x-delayed-type", "fanout".into())]);
    let other = DeclareExchange { arguments, ..exchange_request("D", "x-delayed-message", "d") };
    let error = client.session.declare_exchange(&other).unwrap_err().to_string();
    assert!(error.contains("inequivalent arg 'x-delayed-type'"), "{error}");
}

/// What waits, as the test knows it: time and order of publishing.
type Model = std::collections::BTreeSet<(u64, u64)>;

#[test]
fn in_random_histories_every_message_is_released_once_in_order_or_taken_back() {
    for seed in 0..4 {
        let mut random = StdRng::seed_from_u64(seed);
        let clock = Clock::fake(1_700_000_000_000);
        let options = BrokerOptions { clock: clock.clone(), ..options() };
        let mut broker = if seed % 2 == 0 { TestBroker::with(options) } else { TestBroker::paging(options) };
        let mut client = broker.session();
        declare_with_queue(&mut client);
        let mut model = Model::new();
        for n in 0..250u64 {
            match random.random_range(0..100) {
                0..70 => {
                    let delay_ms = random.random_range(1..2000u64);
                    let properties = named(&format!("id {n}"), delay_ms as i64);
                    publish(&mut client, &format!("{n:04} {}", "x".repeat(50)), &properties);
                    model.insert((clock.now_ms() + delay_ms + 1, n));
                }
                70..85 => {
                    clock.advance(random.random_range(1..400));
                    take_due(&mut client, &mut model, clock.now_ms(), seed);
                }
                85..89 => {
                    let one = model.iter().copied().collect::<Vec<_>>().choose(&mut random).copied();
                    let id = format!("id {}", one.map_or(9999, |one| one.1));
                    let missed = cancel(&mut client, &cancelling(id.as_str()));
                    assert_eq!(missed, one.is_none(), "seed {seed}");
                    one.inspect(|one| assert!(model.remove(one)));
                }
                89..93 => {
                    let listed = broker.broker().list_delayed(&root(), &exchange("D"), 1000).unwrap();
                    // Of those due at the same millisecond nobody says which is which.
                    if let Some(one) = listed.choose(&mut random)
                        && let [known] = *model.iter().filter(|it| it.0 == one.due_ms).collect::<Vec<_>>()
                    {
                        let known = *known;
                        broker
                            .broker()
                            .cancel_delayed(&root(), &exchange("D"), one.id)
                            .unwrap()
                            .wait()
                            .unwrap();
                        model.remove(&known);
                    }
                }
                _ => {
                    drop(client);
                    broker.reopen();
                    wait_waiting(&broker, model.len() as u64);
                    client = broker.session();
                }
            }
            assert_eq!(waiting(&broker), model.len() as u64, "seed {seed}");
        }
        clock.advance(2001);
        take_due(&mut client, &mut model, clock.now_ms(), seed);
        assert!(model.is_empty());
    }
}

/// Takes all that is due out of the queue, and compares.
fn take_due(client: &mut Client, model: &mut Model, now_ms: u64, seed: u64) {
    let left = model.split_off(&(now_ms + 1, 0));
    let due: Vec<u64> = std::mem::replace(model, left).into_iter().map(|(_, n)| n).collect();
    wait_ready(client, "q", due.len() as u64);
    let found: Vec<u64> = client.drain("q").iter().map(|body| body[..4].parse().unwrap()).collect();
    assert_eq!(found, due, "seed {seed}");
}
