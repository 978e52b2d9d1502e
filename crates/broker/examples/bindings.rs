//! What an event costs on an `x-events` exchange with 10 to 10,000 bindings of which one matches: routed alone, and
//! published. `cargo run --release -p millpond-broker --example bindings`; with the number of bindings and of events
//! as arguments it does that alone, for a counting tool.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use millpond_broker::*;
use millpond_model::properties::{Properties, RawProperties};
use millpond_model::table::{Table, Value};
use millpond_model::{ExchangeName, Message, QueueName, UserName, VhostName};
use millpond_store::{Store, StoreOptions};
use std::time::Instant;

const EVENTS: usize = 20_000;

fn options() -> BrokerOptions {
    BrokerOptions {
        message_size_max_bytes: 1 << 20,
        consumers_max_per_session: 100,
        sessions_max: 100,
        inbox_max_bytes: 1 << 20,
        default_user: UserName::new("guest").unwrap(),
        default_password: "guest".into(),
        default_user_loopback_only: true,
        statistics_interval_ms: 5000,
        clock: Clock::system(),
        audit: Default::default(),
    }
}

fn prefix(text: String) -> Value {
    Value::Table([("prefix", text)].into_iter().collect())
}

/// Rules as they are written: a type alone, a type of one source, a subject that begins so, a list of types.
fn asked(number: usize) -> Table {
    let text = |text: String| Value::from(text.as_str());
    match number % 4 {
        0 => [("type", text(format!("order.{number}.created")))].into_iter().collect(),
        1 => {
            [("type", "row.updated".into()), ("source", text(format!("/db/{number}")))].into_iter().collect()
        }
        2 => [("type", "file.line".into()), ("subject", prefix(format!("/log/{number}/")))]
            .into_iter()
            .collect(),
        _ => {
            let types = vec![text(format!("a.{number}")), text(format!("b.{number}"))];
            [("type", Value::Array(types)), ("tenant", text(format!("t{}", number % 7)))]
                .into_iter()
                .collect()
        }
    }
}

/// Routing key and properties of an event that concerns one of the first ten bindings.
fn event(number: usize) -> (&'static str, Vec<u8>) {
    let (kind, source, subject) = [
        ("order.0.created", "/web/shop", "0"),
        ("row.updated", "/db/1", "users/7"),
        ("file.line", "/files", "/log/2/app"),
        ("b.3", "/web", "x"),
    ][number % 4];
    let attributes = [
        ("id", "e1"),
        ("source", source),
        ("subject", subject),
        ("type", kind),
        ("tenant", "t3"),
        ("specversion", "1.0"),
    ];
    let headers =
        attributes.map(|(name, value)| (format!("cloudEvents:{name}"), value)).into_iter().collect();
    let properties = Properties { headers, ..Properties::default() };
    (kind, properties.encode().unwrap())
}

fn session(rules: usize, dir: &std::path::Path) -> (Broker, Session) {
    let (store, recovery) = Store::open(StoreOptions::new(dir)).unwrap();
    let broker = Broker::open(store, recovery, options()).unwrap();
    let vhost = VhostName::new("/").unwrap();
    let request = OpenSession { login: broker.internal_login(), vhost, name: "bindings".into() };
    let mut session = broker.open_session(request).unwrap();
    let bus = ExchangeName::new("bus").unwrap();
    let declare = DeclareExchange {
        name: bus.clone(),
        kind: "x-events".into(),
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
    };
    session.declare_exchange(&declare).unwrap();
    for number in 0..rules {
        let name = QueueName::new(&format!("rule.{number}")).unwrap();
        let arguments: Table = [("x-max-length", Value::I32(10))].into_iter().collect();
        let queue = DeclareQueue {
            name: name.clone(),
            passive: false,
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments,
        };
        session.declare_queue(&queue).unwrap();
        let (source, destination) = (bus.clone(), Destination::Queue(name));
        let arguments = asked(number);
        session.bind(&Binding { source, destination, key: Box::default(), arguments }).unwrap();
    }
    (broker, session)
}

/// Nanoseconds an event: routed, and routed and published.
fn measure(rules: usize, events: usize) -> (f64, f64) {
    let dir = tempfile::tempdir().unwrap();
    let (broker, mut session) = session(rules, dir.path());
    let messages: Vec<_> = (0..4).map(event).collect();
    let mut nanos = [f64::INFINITY; 2];
    for _ in 0..5 {
        for (publish, best) in [false, true].into_iter().zip(&mut nanos) {
            let start = Instant::now();
            for round in 0..events {
                let (key, properties) = &messages[round % messages.len()];
                let raw = RawProperties::from_checked(properties);
                let route = session.route(b"bus", key.as_bytes(), &raw, 2).unwrap();
                assert!(!route.is_unroutable());
                if publish {
                    let message = Message::new(b"bus", key.as_bytes(), properties, false, b"{}");
                    session.publish(&mut vec![(message, route)]).unwrap();
                }
            }
            *best = best.min(start.elapsed().as_nanos() as f64 / events.max(1) as f64);
        }
    }
    drop(session);
    broker.shut_down();
    (nanos[0], nanos[1])
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|word| word.parse().ok());
    if let Some(rules) = arguments.next() {
        measure(rules, arguments.next().unwrap_or(EVENTS));
        return;
    }
    let all = [10, 100, 1_000, 10_000].map(|rules| {
        let (routed, published) = measure(rules, EVENTS);
        println!("{rules:6} bindings: {routed:.0} ns an event routed, {published:.0} ns published");
        (routed, published)
    });
    println!("10,000 to 10: {:.2} routed, {:.2} published", all[3].0 / all[0].0, all[3].1 / all[0].1);
}
