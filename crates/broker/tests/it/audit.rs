//! The audit log: what becomes an entry, what does not, and what its file holds.

use crate::support::*;
use millpond_broker::*;
use millpond_model::properties::Properties;
use millpond_model::table::{Table, Value};
use millpond_model::{UserName, VhostName};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(30);
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

fn vhost(name: &str) -> VhostName {
    VhostName::new(name).unwrap()
}

fn guest(broker: &TestBroker, front_end: FrontEnd) -> Login {
    broker.broker().at(front_end).login("guest", b"guest", Some(PEER)).unwrap()
}

fn client(broker: &TestBroker) -> Client {
    broker.open_session(guest(broker, FrontEnd::Amqp), "/").unwrap()
}

/// The broker in the hands of guest, who came to the management API.
fn administrator(broker: &TestBroker) -> Broker {
    let operator = broker.broker().operator(guest(broker, FrontEnd::Management));
    operator.may(Operation::Administer).unwrap().clone()
}

/// The entries, the oldest first, without that of the start and of the default user.
fn entries(broker: &TestBroker) -> Vec<AuditEntry> {
    let (found, _) = broker.broker().audit_entries(&AuditQuery::default());
    let mut found: Vec<_> = found.iter().map(|entry| (**entry).clone()).collect();
    found.reverse();
    found.retain(|entry| entry.actor.front_end != FrontEnd::Internal);
    found
}

fn short(entry: &AuditEntry) -> String {
    let vhost = entry.object.vhost.as_deref().unwrap_or("-");
    format!("{} {} {vhost} {}", entry.operation, entry.object.kind, entry.object.name)
}

fn spec(name: &str, password: NewPassword) -> UserSpec {
    UserSpec { name: user(name), password, tags: Some(vec!["management".into()]) }
}

type Change = fn(&Broker);

/// What an administrator does, and the entry that it is.
const CHANGES: [(&str, Change); 23] = [
    ("user.created user - u", |b| drop(b.set_user(&spec("u", NewPassword::None)).unwrap())),
    ("user.changed user - u", |b| {
        drop(b.set_user(&spec("u", NewPassword::Plain((*b"secret").into()))).unwrap());
    }),
    ("permission.created permission / u", |b| {
        drop(b.set_permissions(&user("u"), &vhost("/"), Permissions::all()).unwrap());
    }),
    ("permission.deleted permission / u", |b| {
        drop(b.clear_permissions(&user("u"), &vhost("/")).unwrap());
    }),
    ("topic.permission.created topic_permission / u", |b| {
        let permission =
            TopicPermission { exchange: exchange("amq.topic"), write: "a".into(), read: "b".into() };
        drop(b.set_topic_permission(&user("u"), &vhost("/"), permission).unwrap());
    }),
    ("topic.permission.deleted topic_permission / u", |b| {
        drop(b.clear_topic_permissions(&user("u"), &vhost("/"), None).unwrap());
    }),
    ("user.limits.set user - u", |b| {
        let limits = UserLimits { connections_max: Some(1), ..UserLimits::default() };
        drop(b.set_user_limits(&user("u"), limits).unwrap());
    }),
    ("user.limits.cleared user - u", |b| {
        drop(b.set_user_limits(&user("u"), UserLimits::default()).unwrap());
    }),
    ("user.deleted user - u", |b| drop(b.delete_user(&user("u")).unwrap())),
    ("vhost.created vhost - v", |b| drop(b.set_vhost(&VhostSpec::new(vhost("v"))).unwrap())),
    ("vhost.changed vhost - v", |b| drop(b.set_vhost(&VhostSpec::new(vhost("v"))).unwrap())),
    ("vhost.limits.set vhost - v", |b| {
        let limits = VhostLimits { queues_max: Some(1), ..VhostLimits::default() };
        drop(b.set_vhost_limits(&vhost("v"), limits).unwrap());
    }),
    ("policy.set policy v p", |b| drop(b.set_policy(&vhost("v"), PolicyKind::User, policy()).unwrap())),
    ("policy.set operator_policy v p", |b| {
        drop(b.set_policy(&vhost("v"), PolicyKind::Operator, policy()).unwrap());
    }),
    ("policy.cleared policy v p", |b| {
        drop(b.clear_policy(&vhost("v"), PolicyKind::User, "p").unwrap());
    }),
    ("parameter.set parameter v c/n", |b| {
        drop(b.set_parameter(parameter(Some("v"), "c")).unwrap());
    }),
    ("parameter.cleared parameter v c/n", |b| {
        drop(b.clear_parameter(Some(&vhost("v")), "c", "n").unwrap());
    }),
    ("parameter.set global_parameter - n", |b| drop(b.set_parameter(parameter(None, "")).unwrap())),
    ("queue.paused queue / q", |b| drop(b.pause_queue(&vhost("/"), &queue("q"), true).unwrap())),
    ("queue.resumed queue / q", |b| drop(b.pause_queue(&vhost("/"), &queue("q"), false).unwrap())),
    ("queue.changed queue / q", |b| {
        let changes: Table = [("x-max-length", 7)].into_iter().collect();
        drop(b.alter_queue(&vhost("/"), &queue("q"), &changes).unwrap());
    }),
    ("vhost.deleted vhost - v", |b| drop(b.delete_vhost(&vhost("v")).unwrap())),
    ("login.attempts.reset node - ", |b| b.forget_login_counts(false)),
];

fn policy() -> PolicySpec {
    PolicySpec {
        name: "p".into(),
        pattern: "^q".into(),
        apply_to: ApplyTo::Queues,
        priority: 1,
        definition: PolicyDefinition::from_json(r#"{"max-length": 5}"#).unwrap(),
    }
}

fn parameter(at: Option<&str>, component: &str) -> Parameter {
    let value = serde_json::json!({ "uri": "amqp://user:hidden-in-a-parameter@host" });
    Parameter { vhost: at.map(vhost), component: component.into(), name: "n".into(), value }
}

#[test]
fn each_change_of_an_administrator_is_one_entry_with_who_and_from_where() {
    let broker = TestBroker::new();
    broker.session().declare("q", "d");
    let hands = administrator(&broker);
    for (expected, change) in CHANGES {
        let before = entries(&broker).len();
        change(&hands);
        let found: Vec<_> = entries(&broker).split_off(before);
        assert_eq!(found.iter().map(short).collect::<Vec<_>>(), [expected]);
        let actor = &found[0].actor;
        assert_eq!((&*actor.user, actor.peer), ("guest", Some(PEER)), "{expected}");
        assert_eq!((actor.credential, actor.front_end), (Credential::Password, FrontEnd::Management));
        assert_eq!(found[0].result, AuditResult::Done);
    }
}

#[test]
fn what_a_client_declares_deletes_and_binds_is_entered_once_and_what_is_its_own_is_not() {
    let broker = TestBroker::new();
    let mut client = client(&broker);
    client.declare("q", "d");
    client.declare("q", "d");
    client.declare_exchange("x", "topic", "d");
    client.declare_exchange("x", "topic", "d");
    client.bind("x", "q", "a.*");
    client.bind("x", "q", "a.*");
    client.publish("x", "a.b", &["one"]);
    let declared = client.declare("", "xa");
    client.bind("x", declared.name.as_str(), "b.*");
    client.declare("mine", "x");
    let own = client.declare("", "a");
    client.bind("x", own.name.as_str(), "c");
    client.session.purge_queue(&own.name).unwrap();
    client.session.delete_queue(&own.name, false, false).unwrap();
    client.session.purge_queue(&queue("q")).unwrap();
    client.session.unbind(&binding("x", "q", "a.*")).unwrap();
    client.session.unbind(&binding("x", "q", "a.*")).unwrap();
    client.session.delete_queue(&queue("q"), false, false).unwrap();
    client.session.delete_queue(&queue("q"), false, false).unwrap();
    client.session.delete_exchange(&exchange("x"), false).unwrap();
    client.session.delete_exchange(&exchange("none"), false).unwrap();
    let found: Vec<_> =
        entries(&broker).iter().map(|entry| format!("{}: {}", short(entry), entry.detail)).collect();
    let expected = [
        "queue.created queue / q: durable",
        "exchange.created exchange / x: type topic, durable",
        "binding.created binding / x -> q: to queue, key 'a.*'",
        "queue.purged queue / q: 1 messages",
        "binding.deleted binding / x -> q: to queue, key 'a.*'",
        "queue.deleted queue / q: 0 messages went with it",
        "exchange.deleted exchange / x: ",
    ];
    assert_eq!(found, expected);
    assert!(entries(&broker).iter().all(|entry| entry.actor.front_end == FrontEnd::Amqp));
}

#[test]
fn what_the_process_does_for_itself_is_no_change_of_somebody() {
    let broker = TestBroker::new();
    broker.session().declare("q", "d");
    let (found, _) = broker.broker().audit_entries(&AuditQuery::default());
    assert_eq!(found.iter().map(|it| &*it.operation).collect::<Vec<_>>(), ["user.created", "broker.started"]);
}

#[test]
fn messages_moved_and_a_closed_connection_are_entered() {
    let broker = TestBroker::new();
    let mut client = client(&broker);
    client.declare("from", "d");
    client.declare("to", "d");
    client.publish("", "from", &["1", "2"]);
    let hands = administrator(&broker);
    let request = TransferRequest {
        from: queue("from"),
        to: TransferTo::Queue(queue("to")),
        of: TransferOf::Ready,
        keep: false,
        filter: MessageFilter::default(),
        limit: None,
        dry_run: false,
    };
    for dry_run in [true, false] {
        let mut transfer =
            hands.transfer(&vhost("/"), TransferRequest { dry_run, ..request.clone() }).unwrap();
        let mut more = true;
        while more {
            block_on(|cx| transfer.poll_step(cx, 3).map(|it| more = it.unwrap()));
        }
        transfer.saved().wait().unwrap();
    }
    assert_eq!(hands.close_connections("test", "enough"), 1);
    assert_eq!(hands.close_connections("none", "enough"), 0);
    let found: Vec<_> = entries(&broker).split_off(2);
    let found: Vec<_> = found.iter().map(|entry| format!("{}: {}", short(entry), entry.detail)).collect();
    let moved = "queue.messages.moved queue / from: 2 messages to queue 'to'";
    assert_eq!(found, [moved, "connection.closed connection - test: reason: enough"]);
}

#[test]
fn what_somebody_may_not_do_is_entered_as_refused() {
    let broker = TestBroker::new();
    let owner = broker.broker();
    drop(owner.set_user(&spec("u", NewPassword::Plain((*b"secret").into()))).unwrap());
    let login = || owner.at(FrontEnd::Amqp).login("u", b"secret", Some(PEER)).unwrap();
    assert!(broker.open_session(login(), "/").is_err());
    let permissions = Permissions { configure: "".into(), write: "".into(), read: "".into() };
    drop(owner.set_permissions(&user("u"), &vhost("/"), permissions).unwrap());
    let mut client = broker.open_session(login(), "/").unwrap();
    assert!(client.session.declare_queue(&queue_request("q", "d")).is_err());
    assert!(client.session.delete_exchange(&exchange("x"), false).is_err());
    assert!(client.session.purge_queue(&queue("q")).is_err());
    assert!(client.session.consume(consume_request("q", 1)).is_err());
    assert!(client.message("amq.topic", "k", "body", &Properties::default()).is_err());
    let operator = owner.operator(login()).asking("PUT /users/u");
    assert!(operator.may(Operation::Administer).is_err());
    assert!(!operator.can(Operation::SeeAll), "a question is no attempt");
    let found = entries(&broker);
    let expected = [
        "vhost.open vhost - /",
        "queue.configure queue / q",
        "exchange.configure exchange / x",
        "queue.read queue / q",
        "queue.read queue / q",
        "exchange.write exchange / amq.topic",
        "node.administer node - ",
    ];
    assert_eq!(found.iter().map(short).collect::<Vec<_>>(), expected);
    assert!(found.iter().all(|it| it.result == AuditResult::Refused && &*it.actor.user == "u"));
    let last = found.last().unwrap();
    assert_eq!(&*last.detail, "PUT /users/u");
    assert!(last.reason.contains("the tag administrator is needed"), "{}", last.reason);
}

#[test]
fn refused_logins_are_entered_and_many_of_them_counted_together() {
    let clock = Clock::fake(1_000_000);
    let broker = TestBroker::with(BrokerOptions { clock: clock.clone(), ..options() });
    let at = broker.broker().at(FrontEnd::Amqp);
    let guess = || at.login("guest", b"a guess", Some(PEER)).is_err();
    assert!((0..500).all(|_| guess()));
    assert!(at.login_proven("nobody", Some([10, 0, 0, 9].into())).is_err());
    assert!(at.login("guest", b"guest", Some([10, 0, 0, 9].into())).is_err(), "loopback only");
    assert_eq!(entries(&broker).len(), 7);
    clock.advance(60_000);
    let found = entries(&broker);
    let counts: Vec<_> = found.iter().map(|it| (it.count, it.actor.credential)).collect();
    let password = (1, Credential::Password);
    let all = [&[password; 5][..], &[(1, Credential::Certificate), password, (495, Credential::Password)]];
    assert_eq!(counts, all.concat());
    assert!(found.iter().all(|it| &*it.operation == "user.authentication.failure"));
    assert_eq!(&*found[0].reason, "wrong password for user `guest`");
    assert_eq!(&*found[7].detail, "495 further refusals within 60s");
    assert!(at.login("guest", b"guest", Some(PEER)).is_ok());
    let counted = broker.broker().login_counts();
    let sum = LoginCount { succeeded: 1, failed: 502 };
    assert_eq!(counted, [(FrontEnd::Amqp, sum)]);
    let sources = broker.broker().login_sources();
    let count = LoginCount { succeeded: 1, failed: 500 };
    let source = LoginSource { front_end: FrontEnd::Amqp, peer: Some(PEER), user: "guest".into(), count };
    assert!(sources.contains(&source), "{sources:?}");
}

#[test]
fn bad_tokens_are_slowed_down_like_bad_passwords() {
    let clock = Clock::fake(1_000_000);
    let broker = TestBroker::with(BrokerOptions { clock: clock.clone(), ..options() });
    let at = broker.broker().at(FrontEnd::Amqp);
    let tried = (0..100).take_while(|_| {
        let looked_at = at.check_token_attempt("u", PEER).is_ok();
        if looked_at {
            at.refuse_token("u", PEER, "expired");
        }
        looked_at
    });
    assert_eq!(tried.count(), 20);
    let wait = at.check_token_attempt("u", PEER);
    assert!(
        matches!(wait, Err(LoginError::TooManyAttempts { retry_after_ms, .. }) if retry_after_ms <= 60_000)
    );
    assert!(at.check_token_attempt("other", PEER).is_ok(), "others from there are not held up");
    assert!(at.check_token_attempt("u", [10, 0, 0, 1].into()).is_ok(), "nor the same from elsewhere");
    assert!(
        at.login("u", b"guess", Some(PEER)).is_err_and(|it| matches!(it, LoginError::UnknownUser { .. }))
    );
    clock.advance(60_000);
    assert!(at.check_token_attempt("u", PEER).is_ok());
}

#[test]
fn entries_are_found_by_what_is_said_of_them() {
    let broker = TestBroker::new();
    let mut client = client(&broker);
    client.declare("q", "d");
    client.declare("r", "d");
    client.session.delete_queue(&queue("q"), false, false).unwrap();
    drop(administrator(&broker).set_vhost(&VhostSpec::new(vhost("v"))).unwrap());
    let find = |query: AuditQuery| -> Vec<String> {
        broker.broker().audit_entries(&query).0.iter().map(|it| short(it)).collect()
    };
    let some = |text: &str| Some(text.to_owned());
    let no = AuditQuery::default;
    let (created_q, created_r, deleted) =
        ("queue.created queue / q", "queue.created queue / r", "queue.deleted queue / q");
    assert_eq!(find(AuditQuery { operation: some("queue"), ..no() }), [deleted, created_r, created_q]);
    assert_eq!(find(AuditQuery { operation: some("queue.deleted"), ..no() }), [deleted]);
    assert_eq!(find(AuditQuery { operation: some("queue.del"), ..no() }), [""; 0]);
    assert_eq!(find(AuditQuery { object: some("q"), kind: some("queue"), ..no() }), [deleted, created_q]);
    assert_eq!(find(AuditQuery { vhost: some("v"), ..no() }), ["vhost.created vhost - v"]);
    assert_eq!(find(AuditQuery { front_end: some("management"), ..no() }), ["vhost.created vhost - v"]);
    assert_eq!(find(AuditQuery { user: some("nobody"), ..no() }), [""; 0]);
    assert_eq!(find(AuditQuery { result: some("refused"), ..no() }), [""; 0]);
    let ids: Vec<u64> = entries(&broker).iter().map(|it| it.id).collect();
    assert_eq!(find(AuditQuery { after_id: Some(ids[2]), ..no() }), ["vhost.created vhost - v"]);
    let (all, _) = broker.broker().audit_entries(&no());
    let (oldest, newest) = (all.last().unwrap().at_ms, all[0].at_ms);
    assert_eq!(find(AuditQuery { since_ms: Some(newest + 1), ..no() }), [""; 0]);
    assert_eq!(find(AuditQuery { until_ms: Some(oldest - 1), ..no() }), [""; 0]);
    assert_eq!(find(AuditQuery { since_ms: Some(oldest), until_ms: Some(newest), ..no() }).len(), all.len());
}

// ---- the file

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

#[test]
fn the_details_of_a_policy_and_a_queue_say_what_they_are() {
    let broker = TestBroker::new();
    drop(administrator(&broker).set_policy(&vhost("/"), PolicyKind::User, policy()).unwrap());
    let mut client = client(&broker);
    let arguments = arguments(&[("x-max-length", Value::I32(7))]);
    client.session.declare_queue(&DeclareQueue { arguments, ..queue_request("q", "da") }).unwrap();
    let found: Vec<_> = entries(&broker).iter().map(|it| it.detail.to_string()).collect();
    let policy = "pattern '^q', applies to queues, priority 1, definition {\"max-length\":5}";
    assert_eq!(found, [policy, "durable, auto-delete, arguments {\"x-max-length\":7}"]);
}
