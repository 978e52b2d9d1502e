//! Declaring and deleting: equivalence, exclusivity, auto-delete, what restarts keep.

use crate::support::*;
use millpond_broker::*;
use millpond_model::table::Value;

#[test]
fn a_queue_is_declared_once_and_found_afterwards() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    assert_eq!(client.declare("q", "d"), QueueDeclared { name: queue("q"), ready: 0, consumers: 0 });
    client.publish("", "q", &["a"]);
    client.session.consume(ConsumeRequest { prefetch: 1, ..consume_request("q", 1) }).unwrap();
    client.publish("", "q", &["b"]);
    assert_eq!(client.declare("q", "d"), QueueDeclared { name: queue("q"), ready: 1, consumers: 1 });
    assert_eq!(client.declare("\rq\n", "d").name, queue("q"));
}

#[test]
fn names_are_made_up_on_request() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    let (a, b) = (client.declare("", "x").name, client.declare("", "x").name);
    assert!(a.as_str().starts_with("amq.gen-") && a.as_str().len() == 30 && a != b);
    let mut request = queue_request("", "");
    request.arguments = arguments(&[("x-name-prefix", "jobs-".into())]);
    assert!(client.session.declare_queue(&request).unwrap().0.name.as_str().starts_with("jobs-"));
    request.arguments = arguments(&[("x-name-prefix", "p".repeat(65).into())]);
    assert!(client.session.declare_queue(&request).is_err());
}

#[test]
fn a_declaration_must_fit_what_is_there() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    let mut request = queue_request("q", "d");
    request.arguments = arguments(&[("x-max-length", Value::I32(5)), ("x-unknown", 1.into())]);
    client.session.declare_queue(&request).unwrap();
    let mut check = |how: &str, args: &[(&str, Value)], wrong: Option<&str>| {
        let mut request = queue_request("q", how);
        request.arguments = arguments(args);
        let answer = client.session.declare_queue(&request).map_err(|error| error.to_string());
        match wrong {
            None => assert!(answer.is_ok(), "{answer:?}"),
            Some(wrong) => assert_eq!(answer.unwrap_err(), wrong),
        }
    };
    let inequivalent = |arg: &str, rest: &str| {
        format!("inequivalent arg '{arg}' for queue 'q' in vhost '/': received {rest}")
    };
    check("d", &[("x-max-length", Value::I64(5))], None);
    check("d", &[("x-max-length", Value::U8(5)), ("x-queue-type", "classic".into())], None);
    let length = ("x-max-length", Value::I32(5));
    check("", std::slice::from_ref(&length), Some(&inequivalent("durable", "'false' but current is 'true'")));
    check("da", &[length], Some(&inequivalent("auto_delete", "'true' but current is 'false'")));
    check(
        "d",
        &[("x-max-length", Value::I32(6))],
        Some(&inequivalent(
            "x-max-length",
            "the value '6' of type 'signedint' but current is the value '5' of type 'signedint'",
        )),
    );
    let none = "none but current is the value '5' of type 'signedint'";
    check("d", &[], Some(&inequivalent("x-max-length", none)));
    check("pxa", &[], None);
}

#[test]
fn bad_queue_arguments_are_refused() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    let mut check = |how: &str, args: &[(&str, Value)], wrong: Option<&str>| {
        let mut request = queue_request(&format!("q{args:?}{how}"), how);
        request.arguments = arguments(args);
        let answer = client.session.declare_queue(&request).map_err(|error| error.to_string());
        match (answer, wrong) {
            (Ok(_), None) => {}
            (Err(error), Some(text)) => assert!(error.contains(text), "{error}"),
            (answer, _) => panic!("{args:?}: {answer:?}"),
        }
    };
    check("", &[("x-expires", 0.into())], Some("invalid arg 'x-expires'"));
    check("", &[("x-expires", 1.into())], None);
    check("", &[("x-message-ttl", (-1).into())], Some("x-message-ttl"));
    check("", &[("x-message-ttl", "1".into())], Some("unacceptable type longstr"));
    check("", &[("x-dead-letter-routing-key", "k".into())], Some("x-dead-letter-exchange"));
    check("", &[("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", "k".into())], None);
    check("", &[("x-overflow", "spill".into())], Some("x-overflow"));
    check("", &[("x-overflow", "reject-publish".into())], None);
    check("", &[("x-max-priority", 256.into())], Some("x-max-priority"));
    check("", &[("x-max-priority", 255.into())], None);
    check("", &[("x-queue-type", "stack".into())], Some("x-queue-type"));
    check("", &[("x-queue-type", "stream".into())], Some("must be durable"));
    check("dx", &[("x-queue-type", "stream".into())], Some("must be durable"));
    check("da", &[("x-queue-type", "stream".into())], Some("must be durable"));
    check("d", &[("x-queue-type", "stream".into()), ("x-max-age", "7".into())], Some("such as 7D"));
    check(
        "d",
        &[("x-queue-type", "stream".into()), ("x-max-priority", Value::I32(5))],
        Some("not supported by streams"),
    );
    check("d", &[("x-queue-type", "quorum".into())], None);
    check("", &[("x-queue-type", "quorum".into())], Some("quorum"));
    check("dx", &[("x-queue-type", "quorum".into())], Some("quorum"));
    check("", &[("x-anything", Value::Void)], None);
    let error = client.session.declare_queue(&queue_request("amq.mine", "")).unwrap_err();
    assert!(error.to_string().contains("reserved prefix"));
    let error = client.session.declare_queue(&queue_request("none", "p")).unwrap_err();
    assert_eq!(error.to_string(), "no queue 'none' in vhost '/'");
}

#[test]
fn an_exclusive_queue_is_its_sessions_alone_and_goes_with_it() {
    let broker = TestBroker::new();
    let mut owner = broker.session();
    let mut other = broker.session();
    owner.declare("mine", "x");
    owner.publish("", "mine", &["a"]);
    let locked = |error: &dyn std::fmt::Display| {
        assert!(error.to_string().starts_with("cannot obtain exclusive access"), "{error}");
    };
    for how in ["x", "", "p"] {
        locked(&other.session.declare_queue(&queue_request("mine", how)).unwrap_err());
    }
    locked(&owner.session.declare_queue(&queue_request("mine", "")).unwrap_err());
    owner.declare("shared", "");
    locked(&owner.session.declare_queue(&queue_request("shared", "x")).unwrap_err());
    locked(&other.session.consume(consume_request("mine", 1)).unwrap_err());
    locked(&other.session.get(&queue("mine"), true).unwrap_err());
    locked(&other.session.purge_queue(&queue("mine")).unwrap_err());
    locked(&other.session.delete_queue(&queue("mine"), false, false).unwrap_err());
    locked(&other.session.bind(&binding("amq.fanout", "mine", "")).unwrap_err());
    drop(owner);
    assert!(other.session.declare_queue(&queue_request("mine", "p")).is_err());
    assert!(other.session.declare_queue(&queue_request("shared", "p")).is_ok());
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    let mut other = broker.session();
    let exists = |client: &mut Client| client.session.declare_queue(&queue_request("q", "p")).is_ok();
    for closes in [false, true] {
        client.declare("q", "da");
        assert!(exists(&mut client));
        let consumer = client.consume("q", 1);
        other.consume("q", 1);
        client.session.cancel(consumer);
        assert!(exists(&mut client));
        if closes {
            other = broker.session();
        } else {
            let consumer = client.consume("q", 2);
            other = broker.session();
            assert!(exists(&mut client));
            client.session.cancel(consumer);
        }
        assert!(!exists(&mut client));
    }
    drop(other);
}

#[test]
fn consumers_hear_when_their_queue_goes() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    let mut other = broker.session();
    client.declare("q", "d");
    other.consume("q", 9);
    client.publish("", "q", &["a", "b"]);
    let held = other.deliveries(2);
    client.publish("", "q", &[]);
    assert!(matches!(
        client.session.delete_queue(&queue("q"), true, false),
        Err(DeleteQueueError::InUse { .. })
    ));
    let (ready, durability) = client.session.delete_queue(&queue("q"), false, true).unwrap();
    assert_eq!(ready, 0);
    client.wait_commit(durability);
    other.wait_events();
    assert!(matches!(&other.events[..],
        [SessionEvent::ConsumerCancelled { cookie: 9, queue }] if queue.as_str() == "q"));
    other.settle(&held, Outcome::Accept);
    assert_eq!(client.session.delete_queue(&queue("q"), false, false).unwrap(), (0, Durability::Now));
    client.declare("q", "d");
    client.publish("", "q", &["a"]);
    assert!(matches!(
        client.session.delete_queue(&queue("q"), false, true),
        Err(DeleteQueueError::NotEmpty { .. })
    ));
    assert_eq!(client.session.delete_queue(&queue("q"), true, false).unwrap().0, 1);
}

#[test]
fn exchanges_keep_their_shape_and_the_built_in_ones_stay() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare_exchange("x", "direct", "d");
    client.declare_exchange("x", "direct", "d");
    let error = client.session.declare_exchange(&exchange_request("x", "fanout", "d")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "inequivalent arg 'type' for exchange 'x' in vhost '/': received 'fanout' but current is 'direct'"
    );
    for (name, kind) in [
        ("amq.direct", "direct"),
        ("amq.fanout", "fanout"),
        ("amq.topic", "topic"),
        ("amq.headers", "headers"),
        ("amq.match", "headers"),
    ] {
        client.declare_exchange(name, kind, "d");
        assert!(matches!(
            client.session.delete_exchange(&exchange(name), false),
            Err(DeleteExchangeError::BuiltIn { .. })
        ));
    }
    assert!(client.session.delete_exchange(&exchange("none"), false).is_ok());
    assert!(client.session.unbind(&binding("none", "none", "")).is_ok());
    assert!(matches!(
        client.session.bind(&binding("x", "none", "")),
        Err(BindError::Queue(QueueError::Missing { .. }))
    ));
}

#[test]
fn durable_definitions_survive_a_restart_and_others_do_not() {
    let mut broker = TestBroker::new();
    let mut client = broker.session();
    let mut request = queue_request("q", "d");
    request.arguments = arguments(&[("x-max-length", 5.into())]);
    let (_, durability) = client.session.declare_queue(&request).unwrap();
    client.wait_commit(durability);
    client.declare("transient", "");
    client.declare("mine", "dx");
    client.declare("gone", "d");
    client.declare_exchange("x", "topic", "d");
    client.declare_exchange("y", "fanout", "da");
    client.declare_exchange("z", "fanout", "");
    client.bind("x", "q", "a.#");
    client.bind("x", "gone", "a.#");
    client.bind("y", "q", "");
    client.bind("amq.fanout", "q", "");
    client.bind("amq.fanout", "transient", "");
    client.bind("z", "q", "");
    let with_arguments = Binding {
        arguments: arguments(&[("x-match", "all".into()), ("kind", 1.into())]),
        ..binding("amq.headers", "q", "")
    };
    let durability = client.session.bind(&with_arguments).unwrap();
    client.wait_commit(durability);
    let to_exchange = Binding { destination: Destination::Exchange(exchange("y")), ..binding("x", "", "b") };
    let durability = client.session.bind(&to_exchange).unwrap();
    client.wait_commit(durability);
    let (_, durability) = client.session.delete_queue(&queue("gone"), false, false).unwrap();
    client.wait_commit(durability);
    client.publish("", "q", &["kept"]);
    client.wait_commit(Durability::Now);
    drop(client);
    broker.reopen();

    let mut client = broker.session();
    client.session.declare_queue(&request).unwrap();
    for missing in ["transient", "mine", "gone"] {
        assert!(client.session.declare_queue(&queue_request(missing, "p")).is_err(), "{missing}");
    }
    assert_eq!(client.drain("q"), ["kept"]);
    for (source, key) in [("x", "a.b.c"), ("y", ""), ("amq.fanout", ""), ("x", "b")] {
        client.publish(source, key, &[source]);
        assert_eq!(client.drain("q"), [source]);
    }
    let mut properties = transient();
    properties.headers = arguments(&[("kind", 1.into())]);
    client.publish_with("amq.headers", "", &["headers"], &properties);
    assert_eq!(client.drain("q"), ["headers"]);
    assert!(client.message("z", "", "", &transient()).is_err());
    // An unbound auto-delete exchange goes for good, with what was bound to it.
    let durability = client.session.unbind(&binding("y", "q", "")).unwrap();
    client.wait_commit(durability);
    drop(client);
    broker.reopen();
    let mut client = broker.session();
    assert!(client.message("y", "", "", &transient()).is_err());
    assert!(client.message("x", "b", "", &transient()).unwrap().1.is_unroutable());
}

#[test]
fn a_queue_declared_again_under_an_old_name_is_a_new_queue() {
    let mut broker = TestBroker::new();
    for round in ["one", "two", "three"] {
        let mut client = broker.session();
        client.declare("q", "d");
        client.publish("", "q", &[round]);
        let (_, durability) = client.session.delete_queue(&queue("q"), false, false).unwrap();
        client.wait_commit(durability);
        client.declare("q", "d");
        client.publish("", "q", &["after", round]);
        drop(client);
        broker.reopen();
        let mut client = broker.session();
        assert_eq!(client.drain("q"), ["after", round]);
        let (_, durability) = client.session.delete_queue(&queue("q"), false, false).unwrap();
        client.wait_commit(durability);
        drop(client);
        broker.reopen();
    }
}

#[test]
fn logins_are_checked() {
    let broker = TestBroker::new();
    let login = |user: &str, password: &[u8], peer: &str| {
        broker.broker().login(user, password, Some(peer.parse().unwrap())).map(|login| login.user)
    };
    for local in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(login("guest", b"guest", local).unwrap().as_str(), "guest");
    }
    assert!(matches!(login("guest", b"guest", "10.0.0.1"), Err(LoginError::LoopbackOnly { .. })));
    assert!(matches!(login("guest", b"gues", "::1"), Err(LoginError::WrongPassword { .. })));
    assert!(matches!(login("root", b"guest", "::1"), Err(LoginError::UnknownUser { .. })));
}

/// A client's: those of the process itself are not counted.
fn client_login(broker: &TestBroker) -> millpond_broker::Login {
    broker.broker().login("guest", b"guest", Some(std::net::Ipv4Addr::LOCALHOST.into())).unwrap()
}

#[test]
fn sessions_have_a_limit_and_hear_of_the_end() {
    let broker = TestBroker::with(BrokerOptions { sessions_max: 1, ..options() });
    let open = |vhost: &str| {
        broker.broker().open_session(OpenSession {
            login: client_login(&broker),
            vhost: millpond_model::VhostName::new(vhost).unwrap(),
            name: "test".into(),
        })
    };
    assert!(matches!(open("none"), Err(OpenSessionError::VhostMissing { .. })));
    let first = open("/").unwrap();
    assert!(matches!(open("/"), Err(OpenSessionError::TooManySessions { limit: 1 })));
    drop(first);
    let mut second = open("/").unwrap();
    broker.broker().announce_shutdown();
    let mut events = Vec::new();
    assert!(second.try_events(&mut events));
    assert!(matches!(events[..], [SessionEvent::Shutdown]));
    drop(second);
    assert!(matches!(open("/"), Err(OpenSessionError::ShuttingDown)));
}

#[test]
fn other_rooms_keep_values() {
    let mut broker = TestBroker::new();
    broker.broker().put_value("rules", b"a", Some(b"1"), None);
    broker.broker().put_value("rules", b"b", Some(b"2"), None);
    broker.broker().put_value("rules2", b"c", Some(b"3"), None);
    broker.broker().put_value("rules", b"b", None, None);
    broker.reopen();
    let values = broker.broker().values("rules").unwrap();
    assert_eq!(values, [(b"a".as_slice().into(), b"1".as_slice().into())]);
}
