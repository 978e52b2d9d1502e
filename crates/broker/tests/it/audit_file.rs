//! The file of the audit log: what it holds, how it goes on, and what becomes of it when the disk does not play along.

use crate::audit::{CHANGES, PEER, administrator, client, entries, parameter, short, spec};
use crate::support::*;
use millpond_broker::*;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(30);

fn with_file(path: &Path, size_max_bytes: u64, keep: usize) -> TestBroker {
    let audit = AuditOptions { path: Some(path.into()), size_max_bytes, keep };
    TestBroker::with(BrokerOptions { audit, ..options() })
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn the_file_goes_on_after_a_restart_and_so_do_memory_and_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let mut broker = with_file(&path, 1 << 20, 3);
    client(&broker).declare("q", "d");
    broker.reopen_after(|| {
        let before = lines(&path);
        let words: Vec<_> = before.iter().map(|it| it["operation"].as_str().unwrap()).collect();
        assert_eq!(words, ["broker.started", "user.created", "queue.created"]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let entry = &before[2];
        assert_eq!(
            (&entry["user_who_performed_action"], &entry["peer_host"]),
            (&"guest".into(), &"127.0.0.1".into())
        );
        assert_eq!((&entry["authenticated_by"], &entry["front_end"]), (&"password".into(), &"amqp".into()));
        assert_eq!(
            (&entry["kind"], &entry["vhost"], &entry["name"]),
            (&"queue".into(), &"/".into(), &"q".into())
        );
        // A process that was killed while it wrote.
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, b"{\"id\":4,\"opera").unwrap();
    });
    client(&broker).declare("r", "d");
    let (found, _) = broker.broker().audit_entries(&AuditQuery::default());
    let found: Vec<_> = found.iter().map(|it| (it.id, short(it))).collect();
    let short = |id: u64, text: &str| (id, text.to_owned());
    let expected = [
        short(5, "queue.created queue / r"),
        short(4, "broker.started broker - "),
        short(3, "queue.created queue / q"),
        short(2, "user.created user - guest"),
        short(1, "broker.started broker - "),
    ];
    assert_eq!(found, expected);
    broker.broker().close_audit();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("{\"id\":4,\"opera\n{"), "half a line stands alone: {text}");
}

#[test]
fn files_are_rotated_by_size_and_few_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let broker = with_file(&path, 2000, 3);
    let mut client = client(&broker);
    for n in 0..100 {
        client.declare(&format!("q{n}"), "");
    }
    broker.broker().close_audit();
    let names: Vec<_> =
        files(dir.path()).iter().map(|it| it.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(names, ["audit.log", "audit.log.1", "audit.log.2", "audit.log.3"]);
    let mut ids = Vec::new();
    for file in files(dir.path()).iter().rev() {
        let length = std::fs::metadata(file).unwrap();
        assert!(
            (1..=2000).contains(&length.len()) && length.permissions().mode() & 0o777 == 0o600,
            "{file:?}"
        );
        ids.extend(lines(file).iter().map(|it| it["id"].as_u64().unwrap()));
    }
    assert_eq!(ids.last(), Some(&102), "the newest is at the end");
    assert!(ids.windows(2).all(|two| two[1] == two[0] + 1), "none is missing: {ids:?}");
    assert!(ids[0] > 1, "the oldest went");
}

#[test]
fn a_file_that_somebody_else_has_moved_away_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let broker = with_file(&path, 1 << 20, 3);
    let mut client = client(&broker);
    client.declare("q", "d");
    let began = Instant::now();
    while std::fs::read_to_string(&path).unwrap_or_default().matches('\n').count() < 3 {
        assert!(began.elapsed() < PATIENCE, "{:?}", broker.broker().audit_status());
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let away = dir.path().join("away");
    std::fs::rename(&path, &away).unwrap();
    // As a rotating program may leave it.
    std::fs::write(&path, "").unwrap();
    client.declare("r", "d");
    broker.broker().close_audit();
    assert_eq!((lines(&away).len(), lines(&path).len()), (3, 1));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn no_secret_comes_into_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let broker = with_file(&path, 1 << 20, 3);
    let hands = administrator(&broker);
    let plain = |text: &str| NewPassword::Plain(text.as_bytes().into());
    let hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
    let hashed = NewPassword::Hashed { algorithm: HashAlgorithm::Sha256, hash: hash.into() };
    drop(hands.set_user(&spec("a", plain("hidden-password"))).unwrap());
    drop(hands.set_user(&spec("b", hashed)).unwrap());
    drop(hands.set_parameter(parameter(Some("/"), "shovel")).unwrap());
    drop(hands.set_parameter(parameter(None, "")).unwrap());
    let at = broker.broker().at(FrontEnd::Amqp);
    assert!(at.login("a", b"hidden-guess", Some(PEER)).is_err());
    assert!(at.login("a", b"hidden-password", Some(PEER)).is_ok());
    assert!(at.login("b", b"test12", Some(PEER)).is_ok(), "it is hashed anew");
    CHANGES.iter().filter(|(name, _)| !name.contains("queue / q")).for_each(|(_, change)| change(&hands));
    broker.broker().close_audit();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(lines(&path).len() > 20);
    let hashes = broker.broker().list_users().into_iter().filter_map(|it| it.hash);
    let mut secrets: Vec<String> = hashes.map(|(_, hash)| hash.into()).collect();
    secrets.extend(["hidden", hash, "test12"].map(str::to_owned));
    for secret in secrets {
        assert!(!text.contains(&secret), "{secret}: {text}");
    }
}

#[test]
fn a_file_that_cannot_be_written_stops_nothing_and_is_written_when_it_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("later");
    let path = folder.join("audit.log");
    let broker = with_file(&path, 1 << 20, 3);
    let mut client = client(&broker);
    client.declare("q", "d");
    let wait = |fits: &dyn Fn(&AuditStatus) -> bool| {
        let began = Instant::now();
        while !fits(&broker.broker().audit_status()) {
            assert!(began.elapsed() < PATIENCE, "{:?}", broker.broker().audit_status());
            std::thread::park_timeout(Duration::from_millis(5));
        }
    };
    wait(&|status| status.trouble.is_some() && status.lost == 3);
    assert_eq!(entries(&broker).len(), 1, "in memory it is there");
    std::fs::create_dir(&folder).unwrap();
    client.declare("r", "d");
    wait(&|status| status.trouble.is_none());
    // The writer says what is lost when it has written again.
    let lost = AuditQuery { operation: Some("audit.lost".into()), ..AuditQuery::default() };
    wait(&|_| !broker.broker().audit_entries(&lost).0.is_empty());
    broker.broker().close_audit();
    let words: Vec<_> = lines(&path).iter().map(|it| it["operation"].as_str().unwrap().to_owned()).collect();
    assert_eq!(words, ["queue.created", "audit.lost"]);
    assert_eq!(lines(&path)[1]["count"], 3);
}
