//! What an operator asks: vhosts, policies, limits, altered queues.

use crate::support::*;
use millpond_broker::*;
use millpond_model::table::{Table, Value};
use millpond_model::{UserName, VhostName};

fn vhost(name: &str) -> VhostName {
    VhostName::new(name).unwrap()
}

fn set_vhost(broker: &TestBroker, name: &str, default_queue_type: Option<QueueType>) -> bool {
    let spec =
        VhostSpec { description: "of a test".into(), default_queue_type, ..VhostSpec::new(vhost(name)) };
    let (is_new, saved) = broker.broker().set_vhost(&spec).unwrap();
    saved.wait().unwrap();
    is_new
}

fn policy(name: &str, pattern: &str, apply_to: &str, priority: i64, definition: &str) -> PolicySpec {
    PolicySpec {
        name: name.into(),
        pattern: pattern.into(),
        apply_to: ApplyTo::parse(apply_to).unwrap(),
        priority,
        definition: PolicyDefinition::from_json(definition).unwrap(),
    }
}

fn set_policy(broker: &TestBroker, kind: PolicyKind, spec: PolicySpec) {
    broker.broker().set_policy(&vhost("/"), kind, spec).unwrap().wait().unwrap();
}

fn queue_info(broker: &TestBroker, name: &str) -> QueueInfo {
    let queues = broker.broker().list_queues(&vhost("/")).unwrap();
    queues.into_iter().find(|queue| queue.name.as_str() == name).unwrap()
}

/// What a queue acts by, as `name=value` in the order of names.
fn acts_by(broker: &TestBroker, name: &str) -> Vec<String> {
    let effective = queue_info(broker, name).effective;
    let show = |value: &Value| match value {
        Value::LongStr(text) => String::from_utf8_lossy(text).into_owned(),
        other => other.as_i64().unwrap().to_string(),
    };
    let mut shown: Vec<_> = effective.iter().map(|(name, value)| format!("{name}={}", show(value))).collect();
    shown.sort();
    shown
}

#[test]
fn a_vhost_is_made_changed_kept_and_deleted_with_all_that_is_in_it() {
    let mut broker = TestBroker::new();
    assert!(set_vhost(&broker, "orders", None));
    assert!(!set_vhost(&broker, "orders", Some(QueueType::Quorum)));
    let mut client = broker.client("orders").unwrap();
    client.declare("q", "d");
    client.declare_exchange("x", "fanout", "d");
    client.bind("x", "q", "");
    client.publish("x", "", &["m"]);
    client.declare("own", "x");
    let listed = broker.broker().list_vhosts();
    let orders = listed.iter().find(|it| it.name == vhost("orders")).unwrap();
    assert_eq!((listed.len(), orders.connections, orders.queues), (2, 1, 2));
    assert_eq!((&*orders.description, orders.default_queue_type), ("of a test", Some(QueueType::Quorum)));
    drop(client);
    broker.reopen();
    let mut client = broker.client("orders").unwrap();
    assert_eq!(client.drain("q"), ["m"]);
    client.publish("x", "", &["m2"]);
    client.consume("q", 7);
    broker.broker().delete_vhost(&vhost("orders")).unwrap().wait().unwrap();
    client.wait_events();
    let closed = |event: &SessionEvent| matches!(event, SessionEvent::Closed { reason } if &**reason == "vhost 'orders' is deleted");
    while !client.events.iter().any(closed) {
        client.wait_events();
    }
    // Until the front end has closed it, the session finds nothing and leaves nothing.
    assert!(client.session.declare_queue(&queue_request("late", "d")).is_err());
    assert!(client.session.declare_exchange(&exchange_request("late", "fanout", "d")).is_err());
    assert!(client.session.bind(&binding("amq.topic", "q", "")).is_err());
    drop(client);
    assert!(matches!(broker.client("orders"), Err(OpenSessionError::VhostMissing { .. })));
    assert!(matches!(broker.broker().delete_vhost(&vhost("orders")), Err(VhostError::Missing(_))));
    broker.reopen();
    assert!(matches!(broker.client("orders"), Err(OpenSessionError::VhostMissing { .. })));
    set_vhost(&broker, "orders", None);
    broker.client("orders").unwrap();
    assert!(broker.broker().list_queues(&vhost("orders")).unwrap().is_empty());
}

#[test]
fn a_vhost_needs_a_name_and_the_one_of_the_start_stays() {
    let broker = TestBroker::new();
    let spec = VhostSpec::new(vhost(""));
    assert!(matches!(broker.broker().set_vhost(&spec), Err(VhostError::NoName)));
    assert!(matches!(broker.broker().delete_vhost(&vhost("/")), Err(VhostError::Default)));
    assert!(matches!(broker.client(""), Err(OpenSessionError::VhostMissing { .. })));
}

#[test]
fn the_default_queue_type_is_for_durable_queues_that_name_none() {
    let broker = TestBroker::new();
    set_vhost(&broker, "/", Some(QueueType::Quorum));
    let mut client = broker.session();
    client.declare("durable", "d");
    client.declare("transient", "");
    client.declare("exclusive", "dx");
    client.declare("auto", "da");
    let mut classic = queue_request("classic", "d");
    classic.arguments = arguments(&[("x-queue-type", "classic".into())]);
    client.session.declare_queue(&classic).unwrap();
    let kind = |name: &str| queue_info(&broker, name).queue_type;
    assert_eq!(kind("durable"), QueueType::Quorum);
    for name in ["transient", "exclusive", "auto", "classic"] {
        assert_eq!(kind(name), QueueType::Classic, "{name}");
    }
    // Declaring it again without a type is the same declaration.
    client.declare("durable", "d");
    set_vhost(&broker, "/", None);
    let again = client.session.declare_queue(&queue_request("durable", "d"));
    assert!(matches!(again, Err(DeclareQueueError::Inequivalent { .. })));
}

#[test]
fn a_vhost_takes_no_more_connections_and_queues_than_its_limits_say() {
    let mut broker = TestBroker::new();
    let limits = VhostLimits { connections_max: Some(1), queues_max: Some(2) };
    broker.broker().set_vhost_limits(&vhost("/"), limits).unwrap().wait().unwrap();
    broker.reopen();
    let mut client = broker.client("/").unwrap();
    let refused = broker.client("/").err().unwrap().to_string();
    assert_eq!(refused, "access to vhost '/' refused for user 'guest': connection limit (1) is reached");
    let _internal = broker.session();
    client.declare("a", "d");
    client.declare("b", "x");
    let refused = client.session.declare_queue(&queue_request("c", "d")).unwrap_err().to_string();
    assert_eq!(refused, "cannot declare queue 'c': queue limit in vhost '/' (2) is reached");
    client.declare("a", "d");
    drop(client);
    let mut client = broker.client("/").unwrap();
    client.declare("c", "d");
    drop(client);
    let none = VhostLimits { connections_max: Some(0), queues_max: None };
    broker.broker().set_vhost_limits(&vhost("/"), none).unwrap().wait().unwrap();
    assert!(broker.client("/").is_err());
    broker.broker().set_vhost_limits(&vhost("/"), VhostLimits::default()).unwrap().wait().unwrap();
    broker.client("/").unwrap();
}

#[test]
fn a_user_has_no_more_connections_and_channels_than_allowed() {
    let mut broker = TestBroker::new();
    let guest = UserName::new("guest").unwrap();
    let limits = UserLimits { connections_max: Some(2), channels_max: Some(3) };
    broker.broker().set_user_limits(&guest, limits).unwrap().wait().unwrap();
    broker.reopen();
    assert_eq!(broker.broker().list_user_limits(), [(guest.clone(), limits)]);
    let (mut one, mut two) = (broker.client("/").unwrap(), broker.client("/").unwrap());
    let refused = broker.client("/").err().unwrap().to_string();
    assert_eq!(refused, "connection refused for user 'guest': user connection limit (2) is reached");
    one.session.channel_opened(1).unwrap();
    one.session.channel_opened(2).unwrap();
    two.session.channel_opened(1).unwrap();
    let refused = two.session.channel_opened(2).unwrap_err().to_string();
    assert!(refused.ends_with("has reached the maximum allowed user limit of (3)"), "{refused}");
    two.session.channel_closed(1);
    two.session.channel_opened(3).unwrap();
    drop(one);
    two.session.channel_opened(4).unwrap();
    two.session.channel_opened(5).unwrap();
    two.session.channel_opened(6).unwrap_err();
    broker.session().session.channel_opened(1).unwrap();
    drop(two);
    broker.broker().set_user_limits(&guest, UserLimits::default()).unwrap().wait().unwrap();
    assert!(broker.broker().list_user_limits().is_empty());
}

#[test]
fn a_policy_is_in_force_at_once_for_queues_that_are_there_and_for_new_ones() {
    let mut broker = TestBroker::new();
    let mut client = broker.session();
    let mut with_ttl = queue_request("orders.b", "d");
    with_ttl.arguments = arguments(&[("x-message-ttl", 500.into())]);
    client.declare("orders.a", "d");
    client.session.declare_queue(&with_ttl).unwrap();
    client.declare("other", "d");
    set_policy(&broker, PolicyKind::User, policy("p", "^orders", "queues", 1, r#"{"message-ttl": 1000}"#));
    assert_eq!(acts_by(&broker, "orders.a"), ["x-message-ttl=1000"]);
    assert_eq!(acts_by(&broker, "orders.b"), ["x-message-ttl=500"]);
    assert!(acts_by(&broker, "other").is_empty());
    assert_eq!(queue_info(&broker, "orders.a").policy.as_deref(), Some("p"));
    client.declare("orders.c", "x");
    assert_eq!(acts_by(&broker, "orders.c"), ["x-message-ttl=1000"]);
    set_policy(&broker, PolicyKind::User, policy("high", ".", "queues", 2, r#"{"max-length": 7}"#));
    set_policy(
        &broker,
        PolicyKind::Operator,
        policy("op", "a$", "all", 0, r#"{"max-length": 5, "expires": 9000000}"#),
    );
    assert_eq!(acts_by(&broker, "orders.a"), ["x-expires=9000000", "x-max-length=5"]);
    assert_eq!(acts_by(&broker, "orders.b"), ["x-max-length=7", "x-message-ttl=500"]);
    assert_eq!(queue_info(&broker, "orders.a").operator_policy.as_deref(), Some("op"));
    // Declaring a queue again compares what was declared, whatever policies say.
    client.declare("orders.a", "d");
    drop(client);
    broker.reopen();
    assert_eq!(acts_by(&broker, "orders.a"), ["x-expires=9000000", "x-max-length=5"]);
    let names = |kind| {
        let policies = broker.broker().list_policies(&vhost("/"), kind).unwrap();
        policies.into_iter().map(|policy| policy.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(PolicyKind::User), ["high", "p"]);
    assert_eq!(names(PolicyKind::Operator), ["op"]);
    let clear = |kind, name: &str| broker.broker().clear_policy(&vhost("/"), kind, name);
    clear(PolicyKind::User, "high").unwrap().wait().unwrap();
    clear(PolicyKind::Operator, "op").unwrap().wait().unwrap();
    assert_eq!(acts_by(&broker, "orders.a"), ["x-message-ttl=1000"]);
    let missing = clear(PolicyKind::Operator, "op").unwrap_err().to_string();
    assert_eq!(missing, "no operator policy 'op' in vhost '/'");
}

#[test]
fn an_alternate_exchange_comes_and_goes_with_its_policy_unless_the_exchange_names_one() {
    let mut broker = TestBroker::new();
    let mut client = broker.session();
    for name in ["ae", "own-ae"] {
        client.declare_exchange(name, "fanout", "d");
        client.declare(&format!("{name}-q"), "d");
        client.bind(name, &format!("{name}-q"), "");
    }
    client.declare_exchange("x", "direct", "d");
    let mut own = exchange_request("own", "direct", "d");
    own.arguments = arguments(&[("alternate-exchange", "own-ae".into())]);
    client.session.declare_exchange(&own).unwrap();
    client.publish("x", "k", &["lost"]);
    let ae = policy("ae", "^(x|own|later)$", "exchanges", 0, r#"{"alternate-exchange": "ae"}"#);
    set_policy(&broker, PolicyKind::User, ae);
    client.declare_exchange("later", "topic", "");
    client.publish("x", "k", &["1"]);
    client.publish("own", "k", &["2"]);
    client.publish("later", "k", &["3"]);
    assert_eq!(client.drain("ae-q"), ["1", "3"]);
    assert_eq!(client.drain("own-ae-q"), ["2"]);
    drop(client);
    broker.reopen();
    let mut client = broker.session();
    client.publish("x", "k", &["4"]);
    assert_eq!(client.drain("ae-q"), ["4"]);
    broker.broker().clear_policy(&vhost("/"), PolicyKind::User, "ae").unwrap().wait().unwrap();
    client.publish("x", "k", &["lost"]);
    assert!(client.drain("ae-q").is_empty());
}

#[test]
fn a_queue_is_altered_in_place_and_clients_may_declare_it_as_before_or_as_it_is() {
    let mut broker = TestBroker::new();
    let mut client = broker.session();
    let declare = |client: &mut Client, entries: &[(&str, Value)]| {
        let mut request = queue_request("q", "d");
        request.arguments = arguments(entries);
        client.session.declare_queue(&request).map(|_| ()).map_err(|error| error.to_string())
    };
    declare(&mut client, &[("x-max-length", 5.into()), ("x-expires", 60_000.into())]).unwrap();
    let alter = |broker: &TestBroker, entries: &[(&str, Value)]| {
        let changes: Table = arguments(entries);
        broker.broker().alter_queue(&vhost("/"), &queue("q"), &changes).map(|saved| saved.wait().unwrap())
    };
    alter(&broker, &[("x-max-length", 9.into()), ("x-expires", Value::Void)]).unwrap();
    alter(&broker, &[("x-message-ttl", 100.into())]).unwrap();
    assert_eq!(acts_by(&broker, "q"), ["x-max-length=9", "x-message-ttl=100"]);
    drop(client);
    broker.reopen();
    let mut client = broker.session();
    assert_eq!(acts_by(&broker, "q"), ["x-max-length=9", "x-message-ttl=100"]);
    declare(&mut client, &[("x-max-length", 5.into()), ("x-expires", 60_000.into())]).unwrap();
    declare(&mut client, &[("x-max-length", 9.into()), ("x-message-ttl", 100.into())]).unwrap();
    let refused = declare(&mut client, &[("x-max-length", 6.into())]).unwrap_err();
    assert!(refused.starts_with("inequivalent arg"), "{refused}");
    // A policy is merged with what was altered.
    set_policy(&broker, PolicyKind::User, policy("p", "", "all", 0, r#"{"max-length": 4}"#));
    assert_eq!(acts_by(&broker, "q"), ["x-max-length=4", "x-message-ttl=100"]);
    // Back to what was declared.
    let back = [("x-max-length", 5.into()), ("x-expires", 60_000.into()), ("x-message-ttl", Value::Void)];
    alter(&broker, &back).unwrap();
    assert!(queue_info(&broker, "q").altered.is_empty());
    let fixed = alter(&broker, &[("x-queue-type", "quorum".into())]).unwrap_err().to_string();
    assert!(fixed.starts_with("'x-queue-type' cannot be altered on a queue that is there"), "{fixed}");
    let bad = alter(&broker, &[("x-max-length", (-1).into())]).unwrap_err().to_string();
    assert_eq!(bad, "'x-max-length' must be a whole number from 0 on, not -1");
    client.session.delete_queue(&queue("q"), false, false).unwrap();
    assert!(matches!(alter(&broker, &[("x-max-length", 1.into())]), Err(AlterError::Queue(_))));
}

#[test]
fn a_policy_acts_on_messages_that_are_there_already() {
    let clock = Clock::fake(1_700_000_000_000);
    let broker = TestBroker::with(BrokerOptions { clock: clock.clone(), ..options() });
    let mut client = broker.session();
    client.declare("dead", "d");
    client.declare("ttl", "d");
    client.declare("length", "d");
    client.declare("full", "d");
    client.declare("unused", "d");
    client.publish("", "ttl", &["1", "2"]);
    client.publish("", "length", &["1", "2", "3"]);
    let to_dead = r#""dead-letter-exchange": "", "dead-letter-routing-key": "dead""#;
    let define = |name: &str, says: &str| {
        let definition = format!("{{{says}}}");
        set_policy(&broker, PolicyKind::User, policy(name, &format!("^{name}$"), "queues", 0, &definition));
    };
    define("length", &format!(r#""max-length": 1, {to_dead}"#));
    assert_eq!(client.drain("length"), ["3"]);
    assert_eq!(client.drain("dead"), ["1", "2"]);
    define("ttl", &format!(r#""message-ttl": 1000, {to_dead}"#));
    assert_eq!(client.ready("ttl"), 2);
    clock.advance(1000);
    while client.ready("dead") < 2 {
        std::thread::yield_now();
    }
    assert_eq!(client.drain("dead"), ["1", "2"]);
    // A longer one again, and none.
    define("ttl", r#""message-ttl": 5000"#);
    client.publish("", "ttl", &["3"]);
    clock.advance(4999);
    assert_eq!(client.drain("ttl"), ["3"]);
    broker.broker().clear_policy(&vhost("/"), PolicyKind::User, "ttl").unwrap().wait().unwrap();
    client.publish("", "ttl", &["4"]);
    clock.advance(100_000);
    assert_eq!(client.drain("ttl"), ["4"]);
    // A limit that refuses, and its end.
    define("full", r#""max-length": 1, "overflow": "reject-publish""#);
    client.publish("", "full", &["1"]);
    let _ = client.publish_with("", "full", &["2"], &persistent());
    assert_eq!(client.ready("full"), 1);
    broker.broker().clear_policy(&vhost("/"), PolicyKind::User, "full").unwrap().wait().unwrap();
    client.publish("", "full", &["3"]);
    assert_eq!(client.drain("full"), ["1", "3"]);
    // Unused from now on counts, not from the beginning.
    define("unused", r#""expires": 1000"#);
    clock.advance(999);
    assert!(client.session.declare_queue(&queue_request("unused", "dp")).is_ok());
    clock.advance(1000);
    let gone = |client: &mut Client| {
        broker.broker().list_queues(&vhost("/")).unwrap().iter().all(|it| it.name.as_str() != "unused")
            && client.session.declare_queue(&queue_request("unused", "dp")).is_err()
    };
    while !gone(&mut client) {
        std::thread::yield_now();
    }
}

#[test]
fn a_protected_vhost_stays_and_its_tags_are_kept() {
    let mut broker = TestBroker::new();
    let tags = vec!["blue".into(), "eu".into()];
    let spec = VhostSpec { tags: tags.clone(), is_protected: true, ..VhostSpec::new(vhost("kept")) };
    drop(broker.broker().set_vhost(&spec).unwrap());
    assert!(matches!(broker.broker().delete_vhost(&vhost("kept")), Err(VhostError::Protected { .. })));
    broker.reopen();
    let listed = broker.broker().list_vhosts();
    let kept = listed.iter().find(|it| it.name == vhost("kept")).unwrap();
    assert_eq!((&kept.tags, kept.is_protected), (&tags, true));
    drop(broker.broker().set_vhost(&VhostSpec { is_protected: false, ..spec }).unwrap());
    broker.broker().delete_vhost(&vhost("kept")).unwrap().wait().unwrap();
}

fn parameter(of: Option<&str>, component: &str, name: &str, value: serde_json::Value) -> Parameter {
    Parameter { vhost: of.map(vhost), component: component.into(), name: name.into(), value }
}

#[test]
fn parameters_are_kept_as_they_are_and_go_with_their_vhost() {
    let mut broker = TestBroker::new();
    set_vhost(&broker, "v", None);
    let all = [
        parameter(None, "", "cluster_name", "mill".into()),
        parameter(Some("/"), "shovel", "s", serde_json::json!({ "src-uri": "amqp://", "n": [1, null] })),
        parameter(Some("v"), "shovel", "s", 7.into()),
    ];
    for parameter in &all {
        assert!(broker.broker().set_parameter(parameter.clone()).unwrap().0);
    }
    let (is_new, saved) = broker.broker().set_parameter(all[1].clone()).unwrap();
    assert!(!is_new);
    saved.wait().unwrap();
    broker.reopen();
    assert_eq!(broker.broker().list_parameters(), all);
    assert_eq!(broker.broker().cluster_name().as_deref(), Some("mill"));
    broker.broker().delete_vhost(&vhost("v")).unwrap().wait().unwrap();
    broker.broker().clear_parameter(None, "", "cluster_name").unwrap().wait().unwrap();
    broker.reopen();
    assert_eq!(broker.broker().list_parameters(), all[1..2]);
    assert_eq!(broker.broker().cluster_name(), None);
}

#[test]
fn a_parameter_needs_a_vhost_and_names_and_has_an_end() {
    let broker = TestBroker::new();
    let set = |parameter| broker.broker().set_parameter(parameter).map(|_| ()).unwrap_err();
    assert!(matches!(set(parameter(Some("none"), "c", "n", 1.into())), ParameterError::Vhost(_)));
    assert!(matches!(set(parameter(Some("/"), "", "n", 1.into())), ParameterError::BadName { .. }));
    assert!(matches!(set(parameter(None, "", &"n".repeat(256), 1.into())), ParameterError::BadName { .. }));
    let large = "x".repeat(1024 * 1024);
    assert!(matches!(set(parameter(None, "", "n", large.into())), ParameterError::TooLarge { .. }));
    assert!(matches!(set(parameter(None, "", "cluster_name", 1.into())), ParameterError::BadClusterName));
    let missing = broker.broker().clear_parameter(None, "", "n").map(|_| ());
    assert!(matches!(missing, Err(ParameterError::Missing { .. })));
}
