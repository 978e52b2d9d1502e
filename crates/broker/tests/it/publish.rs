//! Publishing: routing at the door, grouping by queue, commits, transactions.

use crate::support::*;
use millpond_broker::*;
use millpond_model::properties::Properties;
use millpond_model::table::Value;

#[test]
fn a_published_message_is_delivered_and_gone_once_it_is_acked() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("q", "d");
    client.consume("q", 7);
    client.publish("", "q", &["a", "b", "c"]);
    let seen = client.deliveries(3);
    assert_eq!(bodies(&seen), ["a", "b", "c"]);
    assert!(seen.iter().all(|seen| seen.cookie == 7 && !seen.redelivered));
    client.settle(&seen, Outcome::Accept);
    drop(client);
    assert_eq!(broker.session().ready("q"), 0);
}

#[test]
fn one_batch_reaches_every_queue_in_order() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare_exchange("news", "topic", "");
    for (name, key) in [("all", "#"), ("a", "a.*"), ("b", "b.*")] {
        client.declare(name, "");
        client.bind("news", name, key);
    }
    let mut batch = Vec::new();
    for (at, key) in ["a.1", "b.1", "a.2", "c", "b.2"].into_iter().enumerate() {
        batch.push(client.message("news", key, &at.to_string(), &transient()).unwrap());
    }
    assert_eq!(client.session.publish(&mut batch).unwrap(), Durability::Now);
    assert_eq!(client.drain("all"), ["0", "1", "2", "3", "4"]);
    assert_eq!(client.drain("a"), ["0", "2"]);
    assert_eq!(client.drain("b"), ["1", "4"]);
}

#[test]
fn only_persistent_messages_in_durable_queues_wait_for_the_disk() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("durable", "d");
    client.declare("transient", "");
    client.declare("mine", "dx");
    let mut check = |queue: &str, properties: &Properties, waits: bool| {
        let durability = client.publish_with("", queue, &["m"], properties);
        assert_eq!(matches!(durability, Durability::Pending(_)), waits, "{queue}");
        client.wait_commit(durability);
    };
    check("durable", &persistent(), true);
    check("durable", &transient(), false);
    check("transient", &persistent(), false);
    check("mine", &persistent(), false);
    check("nowhere", &persistent(), false);
}

#[test]
fn commits_of_a_session_complete_in_order() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("q", "d");
    let tokens: Vec<_> = (0..200).map(|_| client.publish_with("", "q", &["m"], &persistent())).collect();
    client.commit_result(*tokens.last().unwrap()).unwrap();
    let mut last = 0;
    for event in &client.events {
        let SessionEvent::Committed { token, result } = event else { panic!("{event:?}") };
        assert!(*token > last && result.is_ok());
        last = *token;
    }
}

#[test]
fn a_route_follows_the_topology() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    let route = |client: &mut Client, key: &str| client.message("", key, "m", &transient()).unwrap().1;
    assert!(route(&mut client, "q").is_unroutable());
    let mut other = broker.session();
    other.declare("q", "");
    assert!(!route(&mut client, "q").is_unroutable());
    other.session.delete_queue(&queue("q"), false, false).unwrap();
    assert!(route(&mut client, "q").is_unroutable());
    // A message on its way to a queue that goes meanwhile is dropped, as if it had been there before.
    other.declare("q", "");
    let mut batch = vec![client.message("", "q", "late", &transient()).unwrap()];
    other.session.delete_queue(&queue("q"), false, false).unwrap();
    assert_eq!(client.session.publish(&mut batch).unwrap(), Durability::Now);
    // More keys than are remembered.
    for key in 0..3000 {
        assert!(route(&mut client, &format!("k{key}")).is_unroutable());
    }
}

#[test]
fn what_is_wrong_with_a_publish_is_said_at_the_door() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("q", "");
    client.declare_exchange("inside", "fanout", "i");
    let with = |set: &dyn Fn(&mut Properties)| {
        let mut properties = transient();
        set(&mut properties);
        properties
    };
    let mut check = |exchange: &str, properties: Properties, wrong: Option<&str>| {
        let answer = client.message(exchange, "q", "m", &properties);
        match (answer, wrong) {
            (Ok(_), None) => {}
            (Err(error), Some(text)) => assert!(error.to_string().contains(text), "{error}"),
            (answer, _) => panic!("{exchange} {properties:?}: {answer:?}"),
        }
    };
    check("none", transient(), Some("no exchange 'none' in vhost '/'"));
    check("inside", transient(), Some("cannot publish to internal exchange 'inside'"));
    check("", with(&|p| p.user_id = Some("guest".into())), None);
    check("", with(&|p| p.user_id = Some("root".into())), Some("user_id property set to 'root'"));
    for good in ["0", "60000"] {
        check("", with(&|p| p.expiration = Some(good.into())), None);
    }
    for bad in ["", "-1", "1.5", "soon", "99999999999999"] {
        check("", with(&|p| p.expiration = Some(bad.into())), Some("invalid expiration"));
    }
    check("", with(&|p| p.headers.push("CC", "q")), Some("CC"));
    check("", with(&|p| p.headers.push("BCC", vec![Value::Bool(true)])), Some("BCC"));
    check("", with(&|p| p.reply_to = Some("amq.rabbitmq.reply-to".into())), Some("reply"));
    let raw = millpond_model::properties::RawProperties::default();
    let error = client.session.route(b"", b"q", &raw, (1 << 20) + 1).unwrap_err();
    assert!(error.to_string().contains("larger than configured max size 1048576"), "{error}");
}

#[test]
fn copies_go_to_their_keys_and_blind_ones_leave_no_trace() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    for name in ["a", "b", "c"] {
        client.declare(name, "");
    }
    let mut properties = transient();
    properties.headers.push("CC", vec![Value::from("b")]);
    properties.headers.push("BCC", vec![Value::from("c")]);
    for _ in 0..2 {
        client.publish_with("", "a", &["m"], &properties);
    }
    client.publish_with("", "a", &["plain"], &transient());
    assert_eq!(client.drain("a"), ["m", "m", "plain"]);
    assert_eq!(client.drain("b"), ["m", "m"]);
    let got = client.get("c", true).unwrap();
    let kept = millpond_model::properties::RawProperties::parse(got.delivery.message.properties()).unwrap();
    let headers = kept.headers().unwrap();
    assert!(headers.get("BCC").is_none() && headers.get("CC").is_some());
}

#[test]
fn what_no_queue_takes_goes_to_the_alternate_exchange() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare_exchange("rest", "fanout", "");
    client.declare("leftovers", "");
    client.bind("rest", "leftovers", "");
    let mut request = exchange_request("main", "direct", "");
    request.arguments = arguments(&[("alternate-exchange", "rest".into())]);
    client.session.declare_exchange(&request).unwrap();
    client.publish_with("main", "nobody", &["m"], &transient());
    assert_eq!(client.drain("leftovers"), ["m"]);
    request.name = exchange("bad");
    request.arguments = arguments(&[("alternate-exchange", 5.into())]);
    assert!(client.session.declare_exchange(&request).is_err());
}

fn change(key: &str, value: Option<&str>) -> ValueChange {
    ValueChange { room: "room", key: key.as_bytes().into(), value: value.map(|it| it.as_bytes().into()) }
}

#[test]
fn a_transaction_settles_publishes_and_changes_values_together() {
    let mut broker = TestBroker::new();
    let mut client = broker.session();
    for name in ["in", "out", "log"] {
        client.declare(name, "d");
    }
    client.publish("", "in", &["order", "next"]);
    let first = client.get("in", false).unwrap();
    let id = DeliveryId { queue: first.queue, seq: first.delivery.seq };
    let mut publishes = vec![
        client.message("", "out", "receipt", &persistent()).unwrap(),
        client.message("", "log", "line", &persistent()).unwrap(),
    ];
    let durability =
        client.session.transact(&mut publishes, &[(id, Outcome::Accept)], &[change("a", Some("1"))]).unwrap();
    client.wait_commit(durability);
    let changes = [change("b", Some("2")), change("a", None), change("c", Some("3"))];
    let durability = client.session.transact(&mut Vec::new(), &[], &changes).unwrap();
    client.wait_commit(durability);
    drop(client);
    broker.reopen();
    assert_eq!(broker.broker().values("room").unwrap(), [("b".into(), "2".into()), ("c".into(), "3".into())]);
    let mut client = broker.session();
    assert_eq!(client.drain("in"), ["next"]);
    assert_eq!(client.drain("out"), ["receipt"]);
    assert_eq!(client.drain("log"), ["line"]);
}
