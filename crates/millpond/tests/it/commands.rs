//! The commands that stand on the management API, and what all of them end with.

use super::binary::{Broker, BrokerOptions, said};
use serde_json::{Value, json};
use std::path::Path;

fn broker() -> Broker {
    Broker::start(BrokerOptions::default())
}

/// Runs commands that are to succeed.
fn run(broker: &Broker, commands: &[&[&str]]) {
    for words in commands {
        let (code, told, error) = broker.ask(words);
        assert_eq!(code, 0, "{words:?}: {told}{error}");
    }
}

fn json_of(broker: &Broker, words: &[&str]) -> Value {
    let (code, told, error) = broker.ask(words);
    assert_eq!(code, 0, "{words:?}: {error}");
    serde_json::from_str(&told).expect("it answers in JSON")
}

#[test]
fn what_is_declared_bound_published_and_got_by_hand_is_there() {
    let broker = broker();
    run(
        &broker,
        &[
            &["queues", "declare", "orders", "max-length=10", "--type", "quorum"],
            &["queues", "declare", "copies"],
            &["exchanges", "declare", "shop", "--type", "topic", "alternate-exchange=amq.fanout"],
            &["bindings", "add", "shop", "orders", "--key", "orders.*"],
            &["bindings", "add", "shop", "amq.direct", "--to-exchange", "--key", "#"],
            &["bindings", "add", "amq.headers", "copies", "--argument", "kind=7"],
            &["messages", "publish", "orders.new", "{}", "--exchange", "shop", "--header", "n=1"],
        ],
    );
    let queue = json_of(&broker, &["queues", "show", "orders", "--json"]);
    assert_eq!((&queue["messages"], &queue["arguments"]["x-max-length"]), (&json!(1), &json!(10)));
    let exchange = json_of(&broker, &["exchanges", "show", "shop", "--json"]);
    assert_eq!(
        (&exchange["type"], &exchange["arguments"]["alternate-exchange"]),
        (&json!("topic"), &json!("amq.fanout"))
    );
    let bindings = json_of(&broker, &["bindings", "list", "--source", "shop", "--json"]);
    assert_eq!(bindings.as_array().map(Vec::len), Some(2), "{bindings}");
    let got = json_of(&broker, &["messages", "get", "orders", "--ack", "--json"]);
    assert_eq!((&got[0]["payload"], &got[0]["properties"]["headers"]["n"]), (&json!("{}"), &json!(1)));
    assert_eq!(broker.ask(&["messages", "get", "orders"]).1, "the queue is empty\n");
    run(
        &broker,
        &[
            &["bindings", "remove", "shop", "orders", "--key", "orders.*"],
            &["bindings", "remove", "amq.headers", "copies"],
            &["exchanges", "delete", "shop"],
            &["queues", "purge", "copies"],
            &["queues", "delete", "copies", "--if-empty", "--if-unused"],
        ],
    );
    let (code, _, error) = broker.ask(&["messages", "publish", "nowhere", "x"]);
    assert_eq!(code, 1);
    assert!(error.contains("no queue took it"), "{error}");
    let names = json_of(&broker, &["api", "GET", "/queues?columns=name"]);
    assert_eq!(names, json!([{"name": "orders"}]));
}

#[test]
fn definitions_go_out_of_one_broker_and_into_another() {
    let (from, to) = (broker(), broker());
    run(
        &from,
        &[
            &["vhosts", "add", "shop"],
            &["queues", "declare", "orders", "--vhost", "shop"],
            &["bindings", "add", "amq.topic", "orders", "--key", "o.#", "--vhost", "shop"],
        ],
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("definitions.json");
    let file = file.to_str().unwrap();
    let (code, told, error) = from.ask(&["definitions", "export", file]);
    assert_eq!(code, 0, "{error}");
    assert!(told.contains("1 queues") && told.contains("2 vhosts"), "{told}");
    run(&to, &[&["definitions", "import", file]]);
    let bindings = json_of(&to, &["bindings", "list", "--queue", "orders", "--vhost", "shop", "--json"]);
    assert!(bindings.as_array().unwrap().iter().any(|it| it["routing_key"] == "o.#"), "{bindings}");
    let only = json_of(&from, &["definitions", "export", "--vhost", "shop"]);
    assert_eq!(only["queues"][0]["name"], "orders");
    std::fs::write(folder.path().join("bad"), r#"{"queues": [{"name": "q", "vhost": "none"}]}"#).unwrap();
    let (code, _, error) = to.ask(&["definitions", "import", folder.path().join("bad").to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(error.contains("queues[0]"), "{error}");
}

/// Each list and each show, as `--json`: the shape, whatever is in it.
#[test]
fn every_list_and_every_show_is_json_for_a_program() {
    let broker = broker();
    run(
        &broker,
        &[
            &["queues", "declare", "q"],
            &["schedules", "add", "hourly", "--cron", "@hourly", "--key", "q", "--body", "x"],
        ],
    );
    let lists: [&[&str]; 15] = [
        &["exchanges", "list"],
        &["bindings", "list"],
        &["connections", "list"],
        &["channels", "list"],
        &["consumers", "list"],
        &["permissions", "list"],
        &["permissions", "list", "--topics"],
        &["parameters", "list"],
        &["parameters", "list", "--global"],
        &["queues", "list"],
        &["vhosts", "list"],
        &["users", "list"],
        &["policies", "list"],
        &["limits", "list"],
        &["schedules", "list"],
    ];
    for words in lists {
        assert!(json_of(&broker, &[words, &["--json"]].concat()).is_array(), "{words:?}");
        assert_eq!(broker.ask(words).0, 0, "{words:?}");
    }
    let shows: [&[&str]; 8] = [
        &["queues", "show", "q"],
        &["queues", "stuck"],
        &["exchanges", "show", "amq.topic"],
        &["vhosts", "show", "/"],
        &["users", "show", "guest"],
        &["schedules", "show", "hourly"],
        &["overview"],
        &["status"],
    ];
    for words in shows {
        assert!(json_of(&broker, &[words, &["--json"]].concat()).is_object(), "{words:?}");
        let (code, told, error) = broker.ask(words);
        assert!(code == 0 && !told.starts_with('{'), "{words:?}: {told}{error}");
    }
    let permissions = json_of(&broker, &["permissions", "list", "--json"]);
    assert_eq!(
        permissions[0],
        json!({"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"})
    );
    let (code, told, error) = broker.ask_as_served(&["health", "alarms"]);
    assert_eq!((code, told.as_str()), (0, "{\"status\":\"ok\"}\n"), "{error}");
}

#[test]
fn a_command_ends_with_the_status_that_its_guide_says() {
    let broker = broker();
    let folder = tempfile::tempdir().unwrap();
    let nobody = folder.path().to_str().unwrap();
    let missing = Path::new(nobody).join("none.json");
    let table: [(i32, &[&str]); 9] = [
        (0, &["queues", "list"]),
        (0, &["queues", "declare", "q"]),
        (1, &["queues", "show", "none"]),
        (1, &["queues", "declare", "q", "max-length=7"]),
        (1, &["api", "GET", "/none"]),
        (1, &["definitions", "import", missing.to_str().unwrap()]),
        (2, &["queues", "lost"]),
        (2, &["queues", "declare"]),
        (2, &["api", "PATCH", "/queues"]),
    ];
    for (status, words) in table {
        let (code, told, error) = broker.ask(words);
        assert_eq!(code, status, "{words:?}: {told}{error}");
    }
    for words in [&["queues", "list"][..], &["status"], &["shutdown"], &["api", "GET", "/overview"]] {
        let (code, _, error) = said(&[words, &["--data-dir", nobody]].concat());
        assert_eq!(code, 3, "{words:?}: {error}");
        assert!(error.contains("no broker answers"), "{words:?}: {error}");
    }
}

#[test]
fn colours_are_for_who_wants_them() {
    let broker = broker();
    let alarms = |more: &[&str]| broker.ask(&[&["alarms", "list"], more].concat()).1;
    assert!(!alarms(&[]).contains('\u{1b}'));
    assert!(alarms(&["--color", "always"]).contains("\u{1b}[32m"));
    assert!(!alarms(&["--color", "never"]).contains('\u{1b}'));
}

#[test]
fn a_drain_without_clients_ends_at_once_and_one_by_a_signal_too() {
    let mut broker = broker();
    let (code, told, error) = broker.ask(&["shutdown", "--drain", "--drain-timeout", "5m"]);
    assert_eq!((code, told.as_str()), (0, "the broker is draining\nstopped\n"), "{error}");
    assert!(broker.wait().success());
    assert_eq!(broker.ask(&["shutdown", "--drain-timeout", "5m"]).0, 2);
    let mut broker =
        Broker::start(BrokerOptions { settings: &["--stop-drain", "5m"], ..BrokerOptions::default() });
    broker.terminate();
    assert!(broker.wait().success());
    assert!(broker.log().contains("draining"), "{}", broker.log());
}
