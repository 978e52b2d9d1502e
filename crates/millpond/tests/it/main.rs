//! The binary as a person, a script and systemd meet it.

mod audit;
mod binary;
mod commands;
mod engine;
mod traces;

use binary::{Broker, BrokerOptions, millpond, said};
use serde_json::Value;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// For waits that end at once unless something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn systemd_is_told_of_the_start_of_life_and_of_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut got = [0; 256];
        let length = systemd.recv(&mut got).expect("the broker tells something");
        String::from_utf8_lossy(&got[..length]).into_owned()
    };
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "20000")];
    let mut broker = Broker::start(BrokerOptions { environment: &environment, ..BrokerOptions::default() });
    assert_eq!(hear(), "READY=1");
    for _ in 0..3 {
        assert_eq!(hear(), "WATCHDOG=1");
    }
    broker.terminate();
    let ends = std::iter::repeat_with(hear).find(|state| state != "WATCHDOG=1");
    assert_eq!(ends.as_deref(), Some("STOPPING=1"));
    assert!(broker.wait().success());
}

#[test]
fn a_listing_is_a_table_for_a_person_and_json_for_a_program() {
    let broker = Broker::start(BrokerOptions::default());
    let (code, table, _) = broker.ask(&["users", "list"]);
    assert_eq!((code, table.as_str()), (0, "USER   TAGS           VHOSTS\nguest  administrator  /\n"));
    let json = |words: &[&str]| -> Value { serde_json::from_str(&broker.ask(words).1).unwrap() };
    let users = json(&["users", "list", "--json"]);
    assert_eq!(users, serde_json::json!([{"user": "guest", "tags": ["administrator"], "vhosts": ["/"]}]));
    assert_eq!(json(&["vhosts", "list", "--json"])[0]["queues"], 0);
    assert_eq!(broker.ask(&["policies", "set", "short", "^q", "{\"max-length\": 5}", "--operator"]).0, 0);
    assert_eq!(json(&["policies", "list", "--operator", "--json"])[0]["definition"]["max-length"], 5);
    let empty = [
        vec!["policies"],
        vec!["limits"],
        vec!["queues"],
        vec!["rules"],
        vec!["sources"],
        vec!["schedules"],
        vec!["secrets"],
        vec!["delayed"],
    ];
    for noun in empty {
        assert_eq!(json(&[&noun[..], &["list", "--json"]].concat()), Value::Array(vec![]), "{noun:?}");
    }
    assert_eq!(json(&["alarms", "list", "--json"])[1]["resource"], "disk");
}

#[test]
fn the_doctor_looks_at_a_broker_that_runs_and_at_one_that_does_not() {
    let mut broker = Broker::start(BrokerOptions::default());
    let examine = |broker: &Broker| -> (i32, Vec<Value>) {
        let (code, found, error) = broker.ask_as_served(&["doctor", "--json"]);
        let found = serde_json::from_str(&found).unwrap_or_else(|_| panic!("{found}{error}"));
        (code, found)
    };
    let state = |found: &[Value], check: &str| {
        let row = found.iter().find(|row| row["check"].as_str().is_some_and(|it| it.starts_with(check)));
        row.map(|row| (row["state"].as_str().unwrap().to_owned(), row["found"].as_str().unwrap().to_owned()))
    };
    let (code, found) = examine(&broker);
    assert_eq!(code, 0, "{found:?}");
    let running = ("ok".to_owned(), format!("running as process {}", broker.pid()));
    assert_eq!(state(&found, "broker"), Some(running));
    let served = Some(("ok".to_owned(), "served by the running broker".to_owned()));
    assert_eq!((state(&found, "AMQP"), state(&found, "HTTP")), (served.clone(), served));
    let (code, told, _) = broker.ask(&["shutdown"]);
    assert_eq!((code, told.as_str()), (0, "the broker is stopping\nstopped\n"));
    assert!(broker.wait().success());
    let (code, found) = examine(&broker);
    assert_eq!(code, 0, "{found:?}");
    assert_eq!(state(&found, "broker"), Some(("ok".to_owned(), "not running".to_owned())));
    assert_eq!(state(&found, "AMQP"), Some(("ok".to_owned(), "free".to_owned())));
}

#[test]
fn the_doctor_fails_with_what_is_to_be_done() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (address, dir) = (taken.local_addr().unwrap().to_string(), file.join("data"));
    let found = said(&["doctor", "--amqp-listen", &address, "--data-dir", dir.to_str().unwrap()]);
    assert_eq!(found.0, 1, "{found:?}");
    assert!(found.1.contains("in use by another program"), "{}", found.1);
    assert!(found.1.contains("is no directory"), "{}", found.1);
    let (code, table, _) = said(&["doctor", "--sync", "sometimes"]);
    assert_eq!(code, 1);
    assert!(table.contains("`--sync` must be always, os or an interval"), "{table}");
}

#[test]
fn health_is_an_exit_status() {
    let mut broker = Broker::start(BrokerOptions::default());
    let (code, told, _) = broker.ask_as_served(&["health"]);
    assert_eq!(code, 0);
    assert!(told.contains("\"status\":\"ok\""), "{told}");
    let (code, told, _) = broker.ask(&["status"]);
    assert_eq!(code, 0);
    assert!(
        told.contains(&format!("pid      {}\n", broker.pid())) && told.contains("alarms   none"),
        "{told}"
    );
    broker.terminate();
    broker.wait();
    let (code, _, error) = broker.ask_as_served(&["health"]);
    assert_eq!(code, 1);
    assert!(error.contains("no answer from http://127.0.0.1:"), "{error}");
}

#[test]
fn a_log_in_json_is_an_object_a_line() {
    let mut broker =
        Broker::start(BrokerOptions { settings: &["--log-format", "json"], ..BrokerOptions::default() });
    broker.terminate();
    broker.wait();
    let log = broker.log();
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    assert!(lines.iter().any(|line| line["message"] == "stopped" && line["level"] == "INFO"), "{log}");
}

#[test]
fn completions_are_printed_for_each_shell() {
    for (shell, word) in
        [("bash", "complete -F _millpond"), ("zsh", "#compdef millpond"), ("fish", "complete -c millpond")]
    {
        let (code, script, _) = said(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(script.contains(word) && script.contains("doctor"), "{shell}");
    }
    assert_eq!(millpond().args(["completions", "csh"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn definitions_are_imported_at_the_start_and_what_is_broken_stops_it_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("10.json");
    let text = file.to_str().unwrap();
    let start = |path: &str, more: &[&str]| {
        let data = folder.path().join("data");
        let words = ["serve", "--amqp-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--data-dir"];
        said(&[&words[..], &[data.to_str().unwrap(), "--load-definitions", path], more].concat())
    };
    std::fs::write(&file, "{\"queues\": [\n  {\"name\": }\n]}").unwrap();
    let (code, _, error) = start(text, &[]);
    assert!(code == 1 && error.contains("10.json") && error.contains("line 2 column 12"), "{error}");
    std::fs::write(&file, r#"{"queues": [{"name": "q", "vhost": "/"}, {"name": "r", "vhost": "none"}]}"#)
        .unwrap();
    let (code, _, error) = start(text, &[]);
    assert!(code == 1 && error.contains("queues[1] (name 'r', vhost 'none')"), "{error}");
    let good = r#"{"vhosts": [{"name": "/"}, {"name": "v"}], "queues": [{"name": "q", "vhost": "v", "durable": true}],
        "users": [{"name": "guest", "password": "guest", "tags": "administrator"}],
        "permissions": [{"user": "guest", "vhost": "v", "configure": ".*", "write": ".*", "read": ".*"}]}"#;
    std::fs::write(&file, good).unwrap();
    let settings = ["--load-definitions", folder.path().to_str().unwrap()];
    let broker = Broker::start(BrokerOptions { settings: &settings, ..BrokerOptions::default() });
    assert_eq!(broker.http("GET /queues/v/q", "").0, 200);
    // Not the default user, who may do everything in `/`.
    assert_eq!(broker.http("GET /permissions/%2F/guest", "").0, 404);
}
