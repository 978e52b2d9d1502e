//! What thousands of rules on one bus cost: reading and applying the file, memory, and an event that concerns one of
//! them. `cargo run --release -p millpond-engine --example many_rules [RULES...]`
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use millpond_broker::{Broker, BrokerOptions, Clock, GetError, OpenSession, Session, SessionEvent};
use millpond_engine::{Engine, EngineOptions, check};
use millpond_model::properties::{Properties, RawProperties};
use millpond_model::{Message, QueueName, UserName, VhostName};
use millpond_store::{Store, StoreOptions};
use std::fmt::Write;
use std::future::poll_fn;
use std::time::Instant;

const EVENTS: usize = 20_000;
const BATCH: usize = 100;

fn topology(rules: usize) -> String {
    let mut text = String::from("exchanges:\n  bus: {type: x-events}\nqueues:\n  out: {}\nrules:\n");
    for number in 0..rules {
        let on = match number % 3 {
            0 => format!("{{bus: bus, type: order.{number}.created}}"),
            1 => format!("{{bus: bus, type: row.updated, source: /db/{number}}}"),
            _ => format!("{{bus: bus, type: file.line, subject: {{prefix: /log/{number}/}}}}"),
        };
        writeln!(text, "  rule{number}:\n    on: {on}\n    when: .data.amount > 0").unwrap();
        writeln!(text, "    do:\n      - publish: {{exchange: '', routing_key: out}}").unwrap();
    }
    text
}

/// Resident memory of this process. Bytes.
fn memory_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) * 1024.0
}

async fn publish(session: &mut Session, count: usize) {
    let headers = [("cloudEvents:source", "/shop"), ("cloudEvents:type", "order.0.created")];
    let properties = Properties {
        content_type: Some("application/json".into()),
        delivery_mode: Some(2),
        headers: headers.into_iter().collect(),
        ..Properties::default()
    };
    let encoded = properties.encode().unwrap();
    let raw = RawProperties::parse(&encoded).unwrap();
    let mut events = Vec::new();
    for _ in 0..count / BATCH {
        let mut batch = Vec::new();
        for _ in 0..BATCH {
            let route = session.route(b"bus", b"order.0.created", &raw, 20).unwrap();
            let body = br#"{"amount": 7, "a": 1}"#;
            batch.push((Message::new(b"bus", b"order.0.created", &encoded, true, body), route));
        }
        poll_fn(|cx| session.poll_publish_ready(cx)).await;
        let _ = session.publish(&mut batch).unwrap();
        events.retain(|event| !matches!(event, SessionEvent::Committed { .. }));
    }
}

/// Takes what the rule published.
async fn drain(session: &mut Session, count: usize) {
    let queue = QueueName::new("out").unwrap();
    let mut taken = 0;
    while taken < count {
        match session.get(&queue, true) {
            Ok(Some(_)) => taken += 1,
            Ok(None) => tokio::task::yield_now().await,
            Err(GetError::Loading) => poll_fn(|cx| session.poll_loaded(cx)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn measure(rules: usize) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let options = BrokerOptions {
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
    };
    let (store, recovery) = Store::open(StoreOptions::new(dir.path())).unwrap();
    let broker = Broker::open(store, recovery, options).unwrap();
    let engine = Engine::start(broker.clone(), EngineOptions::new(dir.path())).await.unwrap();
    let text = topology(rules);
    let start = Instant::now();
    check("many.yaml", &text).unwrap();
    let checked = start.elapsed();
    let before = memory_bytes();
    let start = Instant::now();
    engine.apply("many.yaml", &text).await.unwrap();
    let applied = start.elapsed();
    let start = Instant::now();
    engine.apply("many.yaml", &text).await.unwrap();
    let again = start.elapsed();
    let a_rule = (memory_bytes() - before) / rules as f64;
    println!(
        "{rules:6} rules: checked in {checked:.1?}, applied in {applied:.1?}, once more in {again:.1?}, {a_rule:.0} bytes a rule"
    );
    let vhost = VhostName::new("/").unwrap();
    let open = |name: &str| {
        let request = OpenSession { login: broker.internal_login(), vhost: vhost.clone(), name: name.into() };
        broker.open_session(request).unwrap()
    };
    let (mut producer, mut consumer) = (open("producer"), open("consumer"));
    let mut best = f64::INFINITY;
    for _ in 0..4 {
        let start = Instant::now();
        tokio::join!(publish(&mut producer, EVENTS), drain(&mut consumer, EVENTS));
        best = best.min(start.elapsed().as_micros() as f64 / EVENTS as f64);
    }
    println!("{rules:6} rules: {best:.2} us an event, in to the bus, through the rule, out of its queue");
    drop((producer, consumer));
    engine.shut_down().await;
    broker.shut_down();
    best
}

#[tokio::main]
async fn main() {
    let mut given: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    if given.is_empty() {
        given = vec![10, 1_000, 10_000];
    }
    let mut all = Vec::new();
    for rules in &given {
        all.push(measure(*rules).await);
    }
    if let [first, .., last] = all[..] {
        println!("the last to the first: {:.2} an event", last / first);
    }
}
