//! The audit log of the process: what is done by the command line, by files and by signals, and what its file holds.

use crate::binary::{Broker, BrokerOptions};
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

const TOPOLOGY: &str = r#"
exchanges: {in: {type: fanout}}
sources:
  beat: {timer: {every: 1h}}
rules:
  copy:
    on: {exchange: in}
    do:
      - log: {message: '"hidden-in-a-topology"'}
"#;

fn done(broker: &Broker, words: &[&str], input: &str) {
    let (code, told) = broker.ask_with(words, input);
    assert_eq!(code, 0, "{words:?}: {told}");
}

/// The newest entries, the last one at the end.
fn entries(broker: &Broker, words: &[&str]) -> Vec<Value> {
    let (code, told, error) = broker.ask(&[&["audit", "--json", "-n", "500"], words].concat());
    assert_eq!(code, 0, "{error}");
    serde_json::from_str(&told).expect("it answers in JSON")
}

fn text<'a>(entry: &'a Value, name: &str) -> &'a str {
    entry[name].as_str().unwrap_or_default()
}

#[test]
fn what_the_command_line_does_is_in_the_file_and_no_secret_is() {
    let mut broker = Broker::start(BrokerOptions::default());
    let file = broker.data_dir().join("topology.yaml");
    std::fs::write(&file, TOPOLOGY).expect("it is written");
    let file = file.to_str().expect("text");
    done(&broker, &["users", "add", "ann", "--tags", "management"], "hidden-password");
    done(&broker, &["users", "allow", "ann"], "");
    done(&broker, &["secrets", "set", "key"], "hidden-secret");
    done(&broker, &["apply", file], "");
    done(&broker, &["rules", "pause", "copy"], "");
    done(&broker, &["rules", "start", "copy"], "");
    done(&broker, &["sources", "stop", "beat"], "");
    done(&broker, &["secrets", "remove", "key"], "");
    done(&broker, &["queues", "declare", "orders"], "");
    done(&broker, &["queues", "purge", "orders"], "");
    done(
        &broker,
        &[
            "shovels",
            "add",
            "s",
            "--src-uri",
            "amqp://u:hidden-in-a-uri@127.0.0.1:1",
            "--src-queue",
            "q",
            "--dest-queue",
            "orders",
        ],
        "",
    );
    done(&broker, &["shovels", "remove", "s"], "");
    assert_eq!(broker.ask(&["queues", "delete", "orders"]).0, 0);
    let found = entries(&broker, &[]);
    let by_hand: Vec<_> = found.iter().filter(|it| it["front_end"] == "control").collect();
    let shown: Vec<_> =
        by_hand.iter().map(|it| format!("{} {}", text(it, "operation"), text(it, "name"))).collect();
    let topology = format!("topology.applied {file}");
    let expected = [
        "user.created ann",
        "permission.created ann",
        "secret.set key",
        &topology,
        "rule.paused copy",
        "rule.started copy",
        "source.stopped beat",
        "secret.cleared key",
        "queue.created orders",
        "queue.purged orders",
        "parameter.set shovel/s",
        "parameter.cleared shovel/s",
        "queue.deleted orders",
    ];
    assert_eq!(shown, expected);
    assert!(by_hand.iter().all(|it| text(it, "user_who_performed_action").starts_with("uid ")));
    assert_eq!(broker.ask(&["shutdown"]).0, 0);
    assert!(broker.wait().success());
    let file = std::fs::read_to_string(broker.data_dir().join("audit.log")).expect("it is there");
    let last: Vec<_> = file.lines().rev().take(2).collect();
    assert!(last[1].contains("\"broker.shutdown\"") && last[0].contains("\"broker.stopped\""), "{last:?}");
    assert_eq!(file.lines().count(), found.len() + 2, "each line is an entry");
    assert!(!file.contains("hidden"), "{file}");
}

#[test]
fn off_is_in_memory_only_and_another_path_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("elsewhere.log");
    for (setting, file) in [("off", None), (path.to_str().expect("text"), Some(&path))] {
        let broker =
            Broker::start(BrokerOptions { settings: &["--audit-log", setting], ..BrokerOptions::default() });
        done(&broker, &["queues", "declare", "q"], "");
        let created = entries(&broker, &["--operation", "queue.created", "--since", "1h"]);
        assert_eq!(created.len(), 1, "{created:?}");
        assert!(!broker.data_dir().join("audit.log").exists());
        assert_eq!(file.is_some_and(|file| file.exists()), file.is_some());
    }
}

fn write_certificate(folder: &Path, name: &str) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    std::fs::write(folder.join("server.key"), key.serialize_pem()).expect("it is written");
    std::fs::write(folder.join("server.pem"), certificate.pem()).expect("it is written");
}

#[test]
fn certificates_are_taken_up_when_their_files_change_and_at_sighup() {
    let folder = tempfile::tempdir().expect("a folder");
    write_certificate(folder.path(), "first");
    let file = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let (certificate, key) = (file("server.pem"), file("server.key"));
    let settings = [
        ["--tls-certificate", &certificate],
        ["--tls-key", &key],
        ["--amqps-listen", "127.0.0.1:0"],
        ["--https-listen", "127.0.0.1:0"],
    ];
    let broker =
        Broker::start(BrokerOptions { settings: settings.as_flattened(), ..BrokerOptions::default() });
    let wait = |operation: &str, why: &str| {
        let began = Instant::now();
        while !entries(&broker, &["--operation", operation])
            .iter()
            .any(|it| text(it, "detail").starts_with(why))
        {
            assert!(began.elapsed() < PATIENCE, "no {operation} because of '{why}': {}", broker.log());
            std::thread::park_timeout(Duration::from_millis(50));
        }
    };
    let valid = || broker.ask(&["tls", "show"]).1;
    let before = valid();
    write_certificate(folder.path(), "second");
    wait("tls.reloaded", "a file changed");
    let after = valid();
    assert!(
        before.contains("ok") && after.contains("ok") && !after.contains("not in use"),
        "{before}{after}"
    );
    broker.signal("-HUP");
    wait("tls.reloaded", "SIGHUP");
    std::fs::write(&key, "no key").expect("it is written");
    broker.signal("-HUP");
    wait("tls.reload.failed", "SIGHUP");
    assert!(valid().contains("not in use"), "{}", valid());
    let (_, found) = broker.http("GET /attention", "");
    let failing =
        |it: &Value| it["kind"] == "certificates_failing" && text(it, "reason").contains("server.key");
    assert!(found.as_array().is_some_and(|all| all.iter().any(failing)), "{found}");
    assert!(broker.ask(&["tls", "reload"]).2.contains("nothing is changed"));
    wait("tls.reload.failed", "asked for");
}
