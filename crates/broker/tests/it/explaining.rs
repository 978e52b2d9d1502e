//! Why a message would reach a queue, or not.

use crate::support::*;
use millpond_broker::*;
use millpond_model::properties::Properties;
use millpond_model::table::Value;
use millpond_model::{UserName, VhostName};

fn root() -> VhostName {
    VhostName::new("/").unwrap()
}

fn ask(exchange_: &str, key: &str, headers: &[(&str, Value)]) -> ExplainRequest {
    let properties = Properties { headers: arguments(headers), ..Properties::default() };
    ExplainRequest {
        exchange: exchange(exchange_),
        routing_key: key.as_bytes().into(),
        properties: properties.encode().unwrap(),
        queue: None,
        by: None,
    }
}

fn explain(broker: &TestBroker, request: &ExplainRequest) -> Explanation {
    broker.broker().explain(&root(), request).unwrap()
}

fn queues(told: &Explanation) -> Vec<&str> {
    told.queues.iter().map(|queue| queue.as_str()).collect()
}

fn bind(client: &mut Client, source: &str, key: &str, arguments_: &[(&str, Value)]) {
    let durability = client
        .session
        .bind(&Binding { arguments: arguments(arguments_), ..binding(source, "q", key) })
        .unwrap();
    client.wait_commit(durability);
}

#[test]
fn each_type_of_exchange_says_why_a_binding_takes_a_message_or_does_not() {
    type Case<'a> =
        (&'a str, &'a str, &'a [(&'a str, Value)], &'a str, &'a [(&'a str, Value)], &'a str, bool);
    let text = |text: &str| Value::from(text);
    let colour = [("colour", text("red"))];
    let both = [("colour", text("red")), ("size", Value::I32(1))];
    let blue = [("colour", text("blue"))];
    let wanted = [("source", text("/here"))];
    let here = [("cloudEvents:source", text("/here"))];
    let cases: &[Case<'_>] = &[
        ("direct", "k", &[], "k", &[], "key_equal", true),
        ("direct", "k", &[], "other", &[], "key_differs", false),
        ("fanout", "k", &[], "other", &[], "always", true),
        ("topic", "a.*", &[], "a.b", &[], "pattern_matches", true),
        ("topic", "a.*", &[], "a.b.c", &[], "pattern_differs", false),
        ("headers", "", &colour, "", &both, "headers_match", true),
        ("headers", "", &both, "", &colour, "headers_differ", false),
        ("headers", "", &colour, "", &blue, "headers_differ", false),
        ("x-events", "", &wanted, "", &here, "attributes_match", true),
        ("x-events", "", &wanted, "", &[], "attributes_differ", false),
        ("x-consistent-hash", "1", &[], "k", &[], "hash_chosen", true),
        ("x-modulus-hash", "", &[], "k", &[], "hash_chosen", true),
        ("x-random", "", &[], "k", &[], "chance", true),
        ("x-recent-history", "", &[], "k", &[], "always", true),
    ];
    for (kind, key, binding_arguments, routing_key, headers, code, matched) in cases {
        let broker = TestBroker::new();
        let mut client = broker.session();
        client.declare("q", "d");
        client.declare_exchange("x", kind, "d");
        bind(&mut client, "x", key, binding_arguments);
        let told = explain(&broker, &ask("x", routing_key, headers));
        let step = &told.steps[0];
        assert_eq!((step.code, step.matched), (*code, *matched), "{kind} {key} {routing_key}: {step:?}");
        assert_eq!(queues(&told).is_empty(), !matched, "what is told is what routing does: {kind}");
    }
}

#[test]
fn the_way_is_followed_through_bound_and_alternate_exchanges_once() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("q", "d");
    client.declare_exchange("lost", "fanout", "d");
    client.declare_exchange("inner", "topic", "d");
    let outer = DeclareExchange {
        arguments: arguments(&[("alternate-exchange", Value::from("lost"))]),
        ..exchange_request("outer", "direct", "d")
    };
    let durability = client.session.declare_exchange(&outer).unwrap();
    client.wait_commit(durability);
    for (source, to) in [("outer", "inner"), ("inner", "outer")] {
        let destination = Destination::Exchange(exchange(to));
        let durability = client.session.bind(&Binding { destination, ..binding(source, "q", "k") }).unwrap();
        client.wait_commit(durability);
    }
    client.bind("inner", "q", "k");
    let told = explain(&broker, &ask("outer", "k", &[]));
    let codes: Vec<_> = told.steps.iter().map(|step| (step.exchange.as_str(), step.code)).collect();
    assert_eq!(codes, [("outer", "key_equal"), ("inner", "pattern_matches"), ("inner", "pattern_matches")]);
    assert_eq!(queues(&told), ["q"]);
    let told = explain(&broker, &ExplainRequest { queue: Some(queue("q")), ..ask("outer", "other", &[]) });
    let codes: Vec<_> = told.steps.iter().map(|step| step.code).collect();
    assert_eq!(codes, ["key_differs", "alternate", "no_bindings"]);
    let reason = &told.queue_reasons[0];
    assert_eq!((reason.code, told.queues.len()), ("not_routed", 0), "{}", reason.reason);
    let told = explain(&broker, &ExplainRequest { queue: Some(queue("nobody")), ..ask("outer", "k", &[]) });
    assert_eq!(told.queue_reasons.last().unwrap().code, "missing");
    let told = explain(&broker, &ask("", "q", &[]));
    assert_eq!((told.steps[0].code, queues(&told)), ("queue_named", vec!["q"]));
    assert_eq!(explain(&broker, &ask("", "p", &[])).steps[0].code, "no_queue_named");
    let cc = [("CC", Value::Array(vec![Value::from("q")]))];
    assert_eq!(queues(&explain(&broker, &ask("", "p", &cc))), ["q"]);
    assert_eq!(explain(&broker, &ask("gone", "k", &[])).refused.unwrap().0, "exchange_missing");
}

#[test]
fn what_the_queue_would_do_and_who_may_not_publish_is_said() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    let limits = [("x-max-length", Value::I32(1)), ("x-overflow", Value::from("reject-publish"))];
    let request = DeclareQueue { arguments: arguments(&limits), ..queue_request("q", "d") };
    let (_, durability) = client.session.declare_queue(&request).unwrap();
    client.wait_commit(durability);
    let codes = || -> Vec<&'static str> {
        explain(&broker, &ask("", "q", &[])).queue_reasons.iter().map(|it| it.code).collect()
    };
    assert_eq!(codes(), ["stored", "no_consumers"]);
    client.publish("", "q", &["full"]);
    broker.broker().pause_queue(&root(), &queue("q"), true).unwrap().wait().unwrap();
    assert_eq!(codes(), ["refused_full", "paused", "no_consumers"]);
    let user = UserName::new("nobody").unwrap();
    let told = explain(&broker, &ExplainRequest { by: Some(Publisher::User(user)), ..ask("", "q", &[]) });
    assert_eq!((told.refused.unwrap().0, told.queues.len()), ("write_refused", 0));
}
