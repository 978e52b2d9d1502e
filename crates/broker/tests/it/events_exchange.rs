//! `x-events` exchanges: routed by attributes, remembered no longer than is right, kept over a restart.

use crate::support::*;
use millpond_broker::*;
use millpond_model::properties::Properties;
use millpond_model::table::{Table, Value};

fn bind(client: &mut Client, to: &str, arguments: Table) {
    let durability = client.session.bind(&Binding { arguments, ..binding("bus", to, "") }).unwrap();
    client.wait_commit(durability);
}

fn prefix(text: &str) -> Value {
    Value::Table([("prefix", text)].into_iter().collect())
}

fn event(source: &str) -> Properties {
    let mut headers = Table::new();
    headers.push("cloudEvents:source", source);
    Properties { headers, ..persistent() }
}

#[test]
fn events_find_their_queues_by_attributes_also_after_a_restart() {
    let mut broker = TestBroker::new();
    {
        let mut client = broker.session();
        client.declare_exchange("bus", "x-events", "d");
        for queue in ["all", "shop", "either"] {
            client.declare(queue, "d");
        }
        bind(&mut client, "all", Table::new());
        bind(&mut client, "shop", arguments(&[("type", "order".into()), ("source", prefix("/shop/"))]));
        bind(&mut client, "either", arguments(&[("type", Value::Array(vec!["row".into(), prefix("ord")]))]));
    }
    for round in 0..2 {
        let mut client = broker.session();
        // One routing key, two answers: the first must not be remembered for the second.
        client.publish_with("bus", "order", &["of the shop"], &event("/shop/eu"));
        client.publish_with("bus", "order", &["of the web"], &event("/web"));
        client.publish_with("bus", "row", &["a row"], &event("/shop/eu"));
        assert_eq!(client.drain("all"), ["of the shop", "of the web", "a row"], "round {round}");
        assert_eq!(client.drain("shop"), ["of the shop"], "round {round}");
        assert_eq!(client.drain("either"), ["of the shop", "of the web", "a row"], "round {round}");
        drop(client);
        broker.reopen();
    }
    let mut client = broker.session();
    let same = arguments(&[("source", prefix("/shop/")), ("type", "order".into())]);
    client.session.unbind(&Binding { arguments: same, ..binding("bus", "shop", "") }).unwrap();
    client.publish_with("bus", "order", &["of the shop"], &event("/shop/eu"));
    assert!(client.drain("shop").is_empty());
}

#[test]
fn a_condition_that_cannot_be_is_refused_with_its_reason() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare_exchange("bus", "x-events", "");
    client.declare("q", "");
    let bad = Binding { arguments: arguments(&[("type", Value::F64(1.5))]), ..binding("bus", "q", "") };
    let error = client.session.bind(&bad).unwrap_err().to_string();
    assert!(error.contains("the argument 'type' is a double: expected a text"), "{error}");
}
