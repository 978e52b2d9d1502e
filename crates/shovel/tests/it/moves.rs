//! What is moved is moved whole, and nothing is lost.

use crate::wire::Wire;
use crate::{Client, ready, set, state, until, uri};
use millpond_amqp_client::ExchangeOptions;
use millpond_model::properties::{Properties, RawProperties};
use millpond_model::table::{Table, Value as Field};
use millpond_shovel::Shovels;
use millpond_testkit::TestServer;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;

fn properties() -> Vec<u8> {
    let mut headers = Table::new();
    headers.push("n", 7);
    headers.push("when", Field::Timestamp(1_700_000_000));
    headers.push("x-death", Field::Array(vec![]));
    Properties {
        content_type: Some("text/plain".into()),
        headers,
        delivery_mode: Some(2),
        priority: Some(3),
        correlation_id: Some("c".into()),
        expiration: Some("86400000".into()),
        timestamp: Some(1_600_000_000),
        app_id: Some("app".into()),
        ..Properties::default()
    }
    .encode()
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_from_another_broker_in_order_with_every_property() {
    let (there, here) = (TestServer::start().await, TestServer::start().await);
    let shovels = Shovels::start(here.broker().clone());
    let (mut from, mut to) = (Client::connect(&there).await, Client::connect(&here).await);
    from.declare("orders").await;
    from.publish("orders", 0..3000, &properties()).await;
    let value = json!({
        "src-uri": uri(there.amqp()), "src-queue": "orders", "src-prefetch-count": 100,
        "dest-uri": "amqp://", "dest-queue": "orders",
    });
    set(here.broker(), "in", value).unwrap();
    until("all is here", || ready(&here, "orders") == 3000 && ready(&there, "orders") == 0).await;
    let got = to.take_all("orders").await;
    assert_eq!(got.iter().map(|it| it.0).collect::<Vec<_>>(), (0..3000).collect::<Vec<_>>());
    assert!(got.iter().all(|it| it.1 == properties()));
    let shown = state(here.broker(), "in").unwrap();
    assert_eq!((&shown["state"], &shown["forwarded"]), (&json!("running"), &json!(3000)), "{shown}");
    assert!(!shown.to_string().contains(":guest@"), "{shown}");
    shovels.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_go_to_another_broker_by_an_exchange_with_headers_that_were_asked_for() {
    let (here, there) = (TestServer::start().await, TestServer::start().await);
    let shovels = Shovels::start(here.broker().clone());
    let (mut from, mut to) = (Client::connect(&here).await, Client::connect(&there).await);
    from.declare("out").await;
    to.declare("in").await;
    to.connection.declare_exchange(to.channel, "x", "topic", &ExchangeOptions::default()).await.unwrap();
    to.connection.bind_queue(to.channel, "in", "x", "k", &Table::new()).await.unwrap();
    from.publish("out", 0..10, &properties()).await;
    let value = json!({
        "src-uri": "amqp:///%2f", "src-queue": "out", "dest-uri": [uri(there.amqp())],
        "dest-exchange": "x", "dest-exchange-key": "k", "dest-add-forward-headers": true,
        "dest-add-timestamp-header": true, "dest-publish-properties": {"app_id": "moved"},
    });
    set(here.broker(), "out", value).unwrap();
    until("all is there", || ready(&there, "in") == 10 && ready(&here, "out") == 0).await;
    let got = to.take_all("in").await;
    let raw = RawProperties::parse(&got[0].1).unwrap();
    let headers = raw.headers().unwrap().to_table();
    let Some(Field::Array(hops)) = headers.get("x-shovelled") else { panic!("{headers:?}") };
    let [Field::Table(hop)] = &hops[..] else { panic!("{hops:?}") };
    assert_eq!(hop.get("shovel-name").and_then(Field::as_str), Some("out"));
    assert!(headers.get("x-shovelled-timestamp").is_some() && headers.get("n").is_some());
    assert_eq!((raw.app_id(), raw.timestamp()), (Some(&b"moved"[..]), Some(1_600_000_000)));
    shovels.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_within_this_broker_is_exactly_once_and_ends_by_itself() {
    for (after, moved) in [(json!("queue-length"), 500), (json!(120), 120), (json!(0), 0)] {
        let here = TestServer::start().await;
        let shovels = Shovels::start(here.broker().clone());
        let mut client = Client::connect(&here).await;
        client.declare("a").await;
        client.publish("a", 0..500, &properties()).await;
        let value = json!({
            "src-uri": "amqp://", "src-queue": "a", "dest-uri": "amqp://", "dest-queue": "b",
            "src-delete-after": after, "src-prefetch-count": 50,
        });
        set(here.broker(), "s", value).unwrap();
        until("it is gone", || {
            here.broker().list_parameters().is_empty() && state(here.broker(), "s").is_none()
        })
        .await;
        assert_eq!(ready(&here, "b"), moved, "{after}");
        let numbers = |got: Vec<(u32, Vec<u8>)>| got.into_iter().map(|it| it.0).collect::<Vec<_>>();
        if moved > 0 {
            assert_eq!(numbers(client.take_all("b").await), (0..moved as u32).collect::<Vec<_>>());
        }
        until("the rest is ready again", || ready(&here, "a") == 500 - moved).await;
        assert_eq!(numbers(client.take_all("a").await), (moved as u32..500).collect::<Vec<_>>());
        shovels.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_of_messages_from_elsewhere_and_not_one_more() {
    let (there, here) = (TestServer::start().await, TestServer::start().await);
    let shovels = Shovels::start(here.broker().clone());
    let mut from = Client::connect(&there).await;
    from.declare("q").await;
    from.publish("q", 0..500, &properties()).await;
    for (mode, left) in [("on-confirm", 400), ("on-publish", 300)] {
        let value = json!({
            "src-uri": uri(there.amqp()), "src-queue": "q", "src-delete-after": 100, "ack-mode": mode,
            "dest-uri": "amqp://", "dest-queue": "q",
        });
        set(here.broker(), "s", value).unwrap();
        until("it is gone", || here.broker().list_parameters().is_empty()).await;
        until("the rest is ready again", || ready(&there, "q") == left).await;
        assert_eq!(ready(&here, "q"), 500 - left);
    }
    shovels.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_queue_takes_stays_where_it_is_until_one_does() {
    let (there, here) = (TestServer::start().await, TestServer::start().await);
    let shovels = Shovels::start(here.broker().clone());
    let (mut near, mut far) = (Client::connect(&here).await, Client::connect(&there).await);
    near.connection.declare_exchange(near.channel, "x", "fanout", &ExchangeOptions::default()).await.unwrap();
    far.connection.declare_exchange(far.channel, "x", "fanout", &ExchangeOptions::default()).await.unwrap();
    near.declare("a").await;
    near.declare("b").await;
    near.publish("a", 0..5, &properties()).await;
    near.publish("b", 0..5, &properties()).await;
    for (name, queue, dest) in [("far", "a", uri(there.amqp())), ("near", "b", "amqp://".to_owned())] {
        let value = json!({
            "src-uri": "amqp://", "src-queue": queue, "dest-uri": dest, "dest-exchange": "x",
            "reconnect-delay": 1,
        });
        set(here.broker(), name, value).unwrap();
        let says = |word: &str| state(here.broker(), name).is_some_and(|it| it.to_string().contains(word));
        until("it says why", || says("no queue takes")).await;
        assert_eq!(ready(&here, queue), 5);
    }
    far.declare("q").await;
    far.connection.bind_queue(far.channel, "q", "x", "", &Table::new()).await.unwrap();
    near.declare("q").await;
    near.connection.bind_queue(near.channel, "q", "x", "", &Table::new()).await.unwrap();
    until("both went on", || ready(&there, "q") == 5 && ready(&here, "q") == 5).await;
    shovels.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_refuses_gets_them_when_it_has_room() {
    let (there, here) = (TestServer::start().await, TestServer::start().await);
    let shovels = Shovels::start(here.broker().clone());
    let (mut near, mut far) = (Client::connect(&here).await, Client::connect(&there).await);
    near.declare("a").await;
    near.publish("a", 0..20, &properties()).await;
    let arguments = json!({"x-max-length": 10, "x-overflow": "reject-publish"});
    let (at_home, away) = ("amqp://".to_owned(), uri(there.amqp()));
    // The last one's source is another broker, as far as the shovel can tell: tags are acked and given back over a wire.
    let ways = [
        ("near", "b", &at_home, &at_home),
        ("far", "c", &at_home, &away),
        ("in", "d", &uri(here.amqp()), &at_home),
    ];
    for (name, queue, source, dest) in ways {
        let value = json!({
            "src-uri": source, "src-queue": "a", "dest-uri": dest, "dest-queue": queue,
            "dest-queue-args": arguments, "src-delete-after": 20,
        });
        set(here.broker(), name, value).unwrap();
        let (side, client) = if name == "far" { (&there, &mut far) } else { (&here, &mut near) };
        until("it is full", || ready(side, queue) == 10).await;
        let mut got = client.take_all(queue).await;
        while got.len() < 20 {
            tokio::task::yield_now().await;
            got.extend(client.take_all(queue).await);
        }
        until("it is gone", || state(here.broker(), name).is_none()).await;
        let mut numbers: Vec<u32> = got.into_iter().map(|it| it.0).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..20).collect::<Vec<_>>(), "none twice, for no connection broke");
        near.publish("a", 0..20, &properties()).await;
    }
    shovels.shut_down().await;
}

/// A random history: messages are published in bursts at one broker while the wire is cut, both ways of moving.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_connections_break_at_any_moment() {
    for seed in 0..4 {
        let mut random = StdRng::seed_from_u64(seed);
        let (there, mut here) = (TestServer::start().await, TestServer::start().await);
        let mut shovels = Shovels::start(here.broker().clone());
        let wire = Wire::to(there.amqp()).await;
        let (mut far, mut near) = (Client::connect(&there).await, Client::connect(&here).await);
        far.declare("in").await;
        near.declare("out").await;
        let remote = uri(wire.address);
        let (inward, outward) = (
            json!({"src-uri": remote, "src-queue": "in", "dest-uri": "amqp://", "dest-queue": "in",
                   "src-prefetch-count": random.random_range(1..300), "reconnect-delay": 1}),
            json!({"src-uri": "amqp://", "src-queue": "out", "dest-uri": remote, "dest-queue": "out",
                   "src-prefetch-count": random.random_range(1..300), "reconnect-delay": 1}),
        );
        set(here.broker(), "inward", inward).unwrap();
        set(here.broker(), "outward", outward).unwrap();
        let mut next = 0;
        for step in 0..12 {
            let burst = next..next + random.random_range(1..400);
            next = burst.end;
            far.publish("in", burst.clone(), &properties()).await;
            near.publish("out", burst, &properties()).await;
            if random.random_bool(0.6) {
                wire.cut();
            }
            if step == 6 {
                // The whole of this side, with its definitions.
                shovels.shut_down().await;
                drop(near);
                here = here.restart().await;
                shovels = Shovels::start(here.broker().clone());
                near = Client::connect(&here).await;
            }
        }
        until("all is out of the sources", || ready(&there, "in") == 0 && ready(&here, "out") == 0).await;
        shovels.shut_down().await;
        for got in [near.take_all("in").await, far.take_all("out").await] {
            let numbers: std::collections::BTreeSet<u32> = got.iter().map(|it| it.0).collect();
            assert_eq!(numbers.len(), next as usize, "seed {seed}: {} of {next}", numbers.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_refuses_the_login_leaves_no_queue_at_the_destination() {
    let (there, here) = (TestServer::start().await, TestServer::start().await);
    let shovels = Shovels::start(here.broker().clone());
    let value = json!({
        "src-uri": uri(there.amqp()).replace(":guest@", ":wrong@"), "src-queue": "orders",
        "dest-uri": "amqp://", "dest-queue": "orders",
    });
    set(here.broker(), "s", value).unwrap();
    until("it waits", || state(here.broker(), "s").is_some_and(|it| it["state"] == "terminated")).await;
    assert!(
        here.broker().list_queues(&crate::vhost()).unwrap().iter().all(|it| it.name.as_str() != "orders")
    );
    shovels.shut_down().await;
}
