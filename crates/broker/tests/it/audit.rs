//! The audit log: what becomes an entry, and what does not.

use crate::support::*;
use millpond_broker::*;
use millpond_model::properties::Properties;
use millpond_model::table::{Table, Value};
use millpond_model::{UserName, VhostName};
use std::net::IpAddr;

pub(crate) const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

pub(crate) fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

pub(crate) fn vhost(name: &str) -> VhostName {
    VhostName::new(name).unwrap()
}

fn guest(broker: &TestBroker, front_end: FrontEnd) -> Login {
    broker.broker().at(front_end).login("guest", b"guest", Some(PEER)).unwrap()
}

pub(crate) fn client(broker: &TestBroker) -> Client {
    broker.open_session(guest(broker, FrontEnd::Amqp), "/").unwrap()
}

/// The broker in the hands of guest, who came to the management API.
pub(crate) fn administrator(broker: &TestBroker) -> Broker {
    let operator = broker.broker().operator(guest(broker, FrontEnd::Management));
    operator.may(Operation::Administer).unwrap().clone()
}

/// The entries, the oldest first, without that of the start and of the default user.
pub(crate) fn entries(broker: &TestBroker) -> Vec<AuditEntry> {
    let (found, _) = broker.broker().audit_entries(&AuditQuery::default());
    let mut found: Vec<_> = found.iter().map(|entry| (**entry).clone()).collect();
    found.reverse();
    found.retain(|entry| entry.actor.front_end != FrontEnd::Internal);
    found
}

pub(crate) fn short(entry: &AuditEntry) -> String {
    let vhost = entry.object.vhost.as_deref().unwrap_or("-");
    format!("{} {} {vhost} {}", entry.operation, entry.object.kind, entry.object.name)
}

pub(crate) fn spec(name: &str, password: NewPassword) -> UserSpec {
    UserSpec { name: user(name), password, tags: Some(vec!["management".into()]) }
}

pub(crate) type Change = fn(&Broker);

/// What an administrator does, and the entry that it is.
pub(crate) const CHANGES: [(&str, Change); 23] = [
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

pub(crate) fn parameter(at: Option<&str>, component: &str) -> Parameter {
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
        to_vhost: None,
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
