//! Users, permissions, logins: who may do what.

use crate::support::*;
use millpond_broker::*;
use millpond_model::properties::Properties;
use millpond_model::table::{Table, Value};
use millpond_model::{ExchangeName, UserName, VhostName};

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

fn vhost(name: &str) -> VhostName {
    VhostName::new(name).unwrap()
}

fn add(broker: &TestBroker, name: &str, tags: &[&str]) {
    let spec = UserSpec {
        name: user(name),
        password: NewPassword::Plain(b"secret".as_slice().into()),
        tags: Some(tags.iter().map(|tag| (*tag).into()).collect()),
    };
    broker.broker().set_user(&spec).unwrap().1.wait().unwrap();
}

fn permit(broker: &TestBroker, name: &str, [configure, write, read]: [&str; 3]) {
    let permissions = Permissions { configure: configure.into(), write: write.into(), read: read.into() };
    broker.broker().set_permissions(&user(name), &vhost("/"), permissions).unwrap().wait().unwrap();
}

fn log_in(broker: &TestBroker, name: &str) -> Login {
    broker.broker().login(name, b"secret", Some([10, 1, 2, 3].into())).unwrap()
}

fn client(broker: &TestBroker, name: &str) -> Client {
    broker.open_session(log_in(broker, name), "/").unwrap()
}

/// What a client is told, or `ok`.
fn told<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
    result.err().map_or_else(|| "ok".to_owned(), |error| error.to_string())
}

/// Each operation of a session, on queue `q` and the exchanges `x` (topic) and `y`.
type Try = fn(&mut Client) -> String;

fn with(name: &str, value: &str) -> Table {
    arguments(&[(name, Value::from(value))])
}

const OPERATIONS: [(&str, Try); 18] = [
    ("declare queue", |c| told(c.session.declare_queue(&queue_request("q", "d")))),
    ("declare queue passively", |c| told(c.session.declare_queue(&queue_request("q", "p")))),
    ("declare nameless queue", |c| told(c.session.declare_queue(&queue_request("", "x")))),
    ("declare queue with dead letters", |c| {
        let request =
            DeclareQueue { arguments: with("x-dead-letter-exchange", "y"), ..queue_request("fresh", "x") };
        told(c.session.declare_queue(&request))
    }),
    ("delete queue", |c| told(c.session.delete_queue(&queue("none"), false, false))),
    ("declare exchange", |c| told(c.session.declare_exchange(&exchange_request("x", "topic", "d")))),
    ("declare exchange passively", |c| told(c.session.declare_exchange(&exchange_request("x", "", "p")))),
    ("declare exchange with alternate", |c| {
        let request = DeclareExchange {
            arguments: with("alternate-exchange", "y"),
            ..exchange_request("z", "fanout", "a")
        };
        told(c.session.declare_exchange(&request))
    }),
    ("delete exchange", |c| told(c.session.delete_exchange(&exchange("none"), false))),
    ("bind queue", |c| told(c.session.bind(&binding("x", "q", "a.b")))),
    ("unbind queue", |c| told(c.session.unbind(&binding("x", "q", "a.b")))),
    ("bind exchange", |c| {
        let to = Binding { destination: Destination::Exchange(exchange("y")), ..binding("x", "", "a.b") };
        told(c.session.bind(&to))
    }),
    ("purge", |c| told(c.session.purge_queue(&queue("q")))),
    ("consume", |c| told(c.session.consume(consume_request("q", 1)))),
    ("get", |c| told(c.session.get(&queue("q"), true))),
    ("publish", |c| told(c.message("x", "a.b", "body", &Properties::default()))),
    ("publish to the default exchange", |c| told(c.message("", "q", "body", &Properties::default()))),
    ("publish with copies", |c| {
        let headers = arguments(&[("CC", Value::from(vec![Value::from("c.d")]))]);
        let properties = Properties { headers, ..Properties::default() };
        told(c.message("x", "a.b", "body", &properties))
    }),
];

fn topology() -> TestBroker {
    let broker = TestBroker::new();
    let mut owner = broker.session();
    owner.declare("q", "d");
    owner.declare_exchange("x", "topic", "d");
    owner.declare_exchange("y", "fanout", "d");
    broker
}

type Case = ([&'static str; 3], &'static [(&'static str, &'static str)]);

/// Permissions, then the operations that are refused with what they are told.
const REFUSED: [Case; 5] = [
    ([".*", ".*", ".*"], &[]),
    (
        ["^q$|^x$", "", ""],
        &[
            ("declare nameless queue", "configure access to queue 'amq.gen-"),
            ("declare queue with dead letters", "configure access to queue 'fresh'"),
            ("delete queue", "configure access to queue 'none'"),
            ("declare exchange with alternate", "configure access to exchange 'z'"),
            ("delete exchange", "configure access to exchange 'none'"),
            ("bind queue", "write access to queue 'q'"),
            ("unbind queue", "write access to queue 'q'"),
            ("bind exchange", "write access to exchange 'y'"),
            ("purge", "read access to queue 'q'"),
            ("consume", "read access to queue 'q'"),
            ("get", "read access to queue 'q'"),
            ("publish", "write access to exchange 'x'"),
            ("publish to the default exchange", "write access to exchange 'amq.default'"),
            ("publish with copies", "write access to exchange 'x'"),
        ],
    ),
    (
        ["", ".*", ".*"],
        &[
            ("declare queue", "configure access to queue 'q'"),
            ("declare nameless queue", "configure access to queue 'amq.gen-"),
            ("declare queue with dead letters", "configure access to queue 'fresh'"),
            ("delete queue", "configure access to queue 'none'"),
            ("declare exchange", "configure access to exchange 'x'"),
            ("declare exchange with alternate", "configure access to exchange 'z'"),
            ("delete exchange", "configure access to exchange 'none'"),
        ],
    ),
    (
        [".*", "", ".*"],
        &[
            ("declare queue with dead letters", "write access to exchange 'y'"),
            ("declare exchange with alternate", "write access to exchange 'y'"),
            ("bind queue", "write access to queue 'q'"),
            ("unbind queue", "write access to queue 'q'"),
            ("bind exchange", "write access to exchange 'y'"),
            ("publish", "write access to exchange 'x'"),
            ("publish to the default exchange", "write access to exchange 'amq.default'"),
            ("publish with copies", "write access to exchange 'x'"),
        ],
    ),
    (
        [".*", ".*", ""],
        &[
            ("declare queue with dead letters", "read access to queue 'fresh'"),
            ("declare exchange with alternate", "read access to exchange 'z'"),
            ("bind queue", "read access to exchange 'x'"),
            ("unbind queue", "read access to exchange 'x'"),
            ("bind exchange", "read access to exchange 'x'"),
            ("purge", "read access to queue 'q'"),
            ("consume", "read access to queue 'q'"),
            ("get", "read access to queue 'q'"),
        ],
    ),
];

#[test]
fn every_operation_asks_for_its_permissions() {
    for (permissions, refused) in REFUSED {
        // What is there already asks for less.
        let broker = topology();
        add(&broker, "u", &[]);
        permit(&broker, "u", permissions);
        for (name, operation) in OPERATIONS {
            let answer = operation(&mut client(&broker, "u"));
            match refused.iter().find(|(it, _)| *it == name) {
                None => assert_eq!(answer, "ok", "{permissions:?} {name}"),
                Some((_, text)) => {
                    assert!(answer.starts_with(text), "{permissions:?} {name}: {answer}");
                    assert!(answer.ends_with(" in vhost '/' refused for user 'u'"), "{answer}");
                }
            }
        }
    }
    // The process itself may do everything.
    let broker = topology();
    for (name, operation) in OPERATIONS {
        assert_eq!(operation(&mut broker.session()), "ok", "{name}");
    }
}

#[test]
fn what_is_there_is_declared_again_by_whoever_may_configure_it() {
    let broker = topology();
    let queue = DeclareQueue { arguments: with("x-dead-letter-exchange", "y"), ..queue_request("dead", "d") };
    let exchange = DeclareExchange {
        arguments: with("alternate-exchange", "y"),
        ..exchange_request("z", "fanout", "d")
    };
    let declare = |mut client: Client| {
        [told(client.session.declare_queue(&queue)), told(client.session.declare_exchange(&exchange))]
    };
    assert_eq!(declare(broker.session()), ["ok", "ok"]);
    add(&broker, "u", &[]);
    permit(&broker, "u", [".*", "", ""]);
    assert_eq!(declare(client(&broker, "u")), ["ok", "ok"]);
    permit(&broker, "u", ["", ".*", ".*"]);
    assert!(declare(client(&broker, "u")).iter().all(|told| told.starts_with("configure access")));
}

#[test]
fn topic_permissions_hold_for_every_key() {
    let broker = topology();
    add(&broker, "u", &[]);
    permit(&broker, "u", [".*", ".*", ".*"]);
    let set = |write: &str, read: &str| {
        let permission = TopicPermission { exchange: exchange("x"), write: write.into(), read: read.into() };
        let saved = broker.broker().set_topic_permission(&user("u"), &vhost("/"), permission);
        saved.unwrap().wait().unwrap();
    };
    let answers = || {
        let mut client = client(&broker, "u");
        ["publish", "publish with copies", "bind queue", "publish to the default exchange"].map(|name| {
            let operation = OPERATIONS.iter().find(|(it, _)| *it == name).unwrap().1;
            operation(&mut client)
        })
    };
    let refused = |right, key| {
        format!("{right} access to topic '{key}' in exchange 'x' in vhost '/' refused for user 'u'")
    };
    let ok = || "ok".to_owned();
    set("^a\\.", "^a\\.");
    assert_eq!(answers(), [ok(), refused("write", "c.d"), ok(), ok()]);
    set("^[ac]\\.", "^{username}\\.");
    assert_eq!(answers(), [ok(), ok(), refused("read", "a.b"), ok()]);
    set("", "");
    let all = [refused("write", "a.b"), refused("write", "a.b"), refused("read", "a.b"), ok()];
    assert_eq!(answers(), all);
    broker.broker().clear_topic_permissions(&user("u"), &vhost("/"), None).unwrap().wait().unwrap();
    assert_eq!(answers(), [ok(), ok(), ok(), ok()]);
}

#[test]
fn permissions_that_change_hold_for_connections_that_are_open() {
    let broker = topology();
    add(&broker, "u", &[]);
    permit(&broker, "u", ["", "^x$", ""]);
    let mut client = client(&broker, "u");
    let mut publish = || told(client.message("x", "k", "body", &Properties::default()));
    assert_eq!((publish(), publish()), ("ok".into(), "ok".into()));
    permit(&broker, "u", ["", "^y$", ""]);
    assert!(publish().starts_with("write access"));
    permit(&broker, "u", ["", "^x$", ""]);
    assert_eq!(publish(), "ok");
    broker.broker().clear_permissions(&user("u"), &vhost("/")).unwrap().wait().unwrap();
    assert!(publish().starts_with("write access"));
    let refused = broker.open_session(log_in(&broker, "u"), "/").err().unwrap();
    assert_eq!(refused.to_string(), "access to vhost '/' refused for user 'u'");
}

#[test]
fn users_and_permissions_are_there_after_a_restart() {
    let mut broker = topology();
    add(&broker, "u", &["monitoring", "billing"]);
    permit(&broker, "u", ["^c", "^w", "^r"]);
    let permission = TopicPermission { exchange: exchange("x"), write: "w".into(), read: "r".into() };
    broker.broker().set_topic_permission(&user("u"), &vhost("/"), permission).unwrap().wait().unwrap();
    add(&broker, "gone", &[]);
    permit(&broker, "gone", [".*", ".*", ".*"]);
    broker.broker().delete_user(&user("gone")).unwrap().wait().unwrap();
    let before = broker.broker().list_users();
    assert_eq!(before.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["guest", "u"]);
    broker.reopen();
    assert_eq!(broker.broker().list_users(), before);
    log_in(&broker, "u");
    // A user of the same name is another one.
    add(&broker, "gone", &[]);
    assert_eq!(broker.broker().user(&user("gone")).unwrap().permissions, []);
}

#[test]
fn the_default_user_is_made_once_and_may_use_every_vhost() {
    let mut broker = TestBroker::new();
    let spec = VhostSpec::new(vhost("v"));
    broker.broker().set_vhost(&spec).unwrap().1.wait().unwrap();
    assert!(broker.client("v").is_ok() && broker.client("/").is_ok());
    broker.reopen();
    assert!(broker.client("v").is_ok());
    broker.broker().delete_user(&user("guest")).unwrap().wait().unwrap();
    broker.reopen();
    assert!(broker.broker().list_users().is_empty());
    broker.broker().delete_vhost(&vhost("v")).unwrap().wait().unwrap();
    broker.broker().set_vhost(&spec).unwrap().1.wait().unwrap();
}

#[test]
fn permissions_go_with_their_vhost() {
    let mut broker = TestBroker::new();
    let spec = VhostSpec::new(vhost("v"));
    add(&broker, "u", &[]);
    let again = |broker: &TestBroker| {
        broker.broker().set_vhost(&spec).unwrap().1.wait().unwrap();
        broker.broker().user(&user("u")).unwrap().permissions.len()
    };
    assert_eq!(again(&broker), 0);
    broker.broker().set_permissions(&user("u"), &vhost("v"), Permissions::all()).unwrap().wait().unwrap();
    assert_eq!(again(&broker), 1);
    broker.broker().delete_vhost(&vhost("v")).unwrap().wait().unwrap();
    assert_eq!(again(&broker), 0);
    broker.reopen();
    assert_eq!(again(&broker), 0);
}

#[test]
fn a_deleted_users_connections_are_closed() {
    let broker = topology();
    add(&broker, "u", &[]);
    permit(&broker, "u", [".*", ".*", ".*"]);
    let mut client = client(&broker, "u");
    broker.broker().delete_user(&user("u")).unwrap().wait().unwrap();
    client.wait_events();
    let reason = client.events.iter().find_map(|event| match event {
        SessionEvent::Closed { reason } => Some(reason.to_string()),
        _ => None,
    });
    assert_eq!(reason.as_deref(), Some("user 'u' is deleted"));
    assert!(told(client.session.declare_queue(&queue_request("q", "d"))).starts_with("configure access"));
}

#[test]
fn a_changed_password_holds_at_once() {
    let broker = TestBroker::new();
    let login =
        |password: &str| broker.broker().login("u", password.as_bytes(), Some([10, 0, 0, 9].into())).is_ok();
    let known = |password: &str| broker.broker().login_known("u", password.as_bytes(), None);
    add(&broker, "u", &[]);
    assert!(known("secret").is_none());
    assert!(login("secret") && login("secret") && !login("other") && !login(""));
    assert!(known("secret").is_some_and(|answer| answer.is_ok()) && known("other").is_none());
    let spec = |password| UserSpec { name: user("u"), password, tags: None };
    let change = |password| broker.broker().set_user(&spec(password)).unwrap().1.wait().unwrap();
    change(NewPassword::Plain(b"other".as_slice().into()));
    assert!(!login("secret") && login("other"));
    change(NewPassword::AsBefore);
    assert!(login("other"));
    change(NewPassword::None);
    assert!(!login("other") && !login(""));
}

#[test]
fn an_imported_hash_lets_in_and_is_hashed_anew() {
    let mut broker = TestBroker::new();
    let hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
    let password = NewPassword::Hashed { algorithm: HashAlgorithm::Sha256, hash: hash.into() };
    let spec = UserSpec { name: user("u"), password, tags: Some(vec![]) };
    broker.broker().set_user(&spec).unwrap().1.wait().unwrap();
    let algorithm = |broker: &TestBroker| broker.broker().user(&user("u")).unwrap().hash.unwrap().0;
    assert_eq!(algorithm(&broker), HashAlgorithm::Sha256);
    let login = |broker: &TestBroker, password: &[u8]| {
        broker.broker().login("u", password, Some([10, 0, 0, 9].into()))
    };
    assert!(login(&broker, b"test13").is_err());
    assert_eq!(algorithm(&broker), HashAlgorithm::Sha256);
    login(&broker, b"test12").unwrap();
    assert_eq!(algorithm(&broker), HashAlgorithm::Argon2id);
    broker.reopen();
    assert_eq!(algorithm(&broker), HashAlgorithm::Argon2id);
    login(&broker, b"test12").unwrap();
}

#[test]
fn who_guesses_passwords_has_to_wait() {
    let broker = TestBroker::new();
    add(&broker, "u", &[]);
    let from =
        |last: u8, password: &[u8]| broker.broker().login("u", password, Some([10, 0, 0, last].into()));
    let refused =
        (0..1000).position(|_| matches!(from(1, b"guess"), Err(LoginError::TooManyAttempts { .. })));
    assert_eq!(refused, Some(20));
    assert!(
        matches!(from(1, b"secret"), Err(LoginError::TooManyAttempts { retry_after_ms, .. }) if retry_after_ms <= 60_000)
    );
    assert!(from(2, b"secret").is_ok(), "from elsewhere");
}

#[test]
fn the_management_side_asks_for_tags() {
    let broker = topology();
    let names = ["administrator", "monitoring", "policymaker", "management", ""];
    for name in names {
        let login = if name.is_empty() { "none" } else { name };
        add(&broker, login, if name.is_empty() { &[] } else { std::slice::from_ref(&name) });
        permit(&broker, login, ["", "", "^q$"]);
    }
    let spec = VhostSpec::new(vhost("v"));
    broker.broker().set_vhost(&spec).unwrap().1.wait().unwrap();
    let (here, there, own, other) = (vhost("/"), vhost("v"), user("management"), user("someone"));
    let cases = [
        (Operation::Enter, [true, true, true, true, false]),
        (Operation::See(&here), [true, true, true, true, false]),
        (Operation::See(&there), [true, true, false, false, false]),
        (Operation::SeeAll, [true, true, false, false, false]),
        (Operation::Connections(&own), [true, false, false, true, false]),
        (Operation::Connections(&other), [true, false, false, false, false]),
        (Operation::SetPolicy(&here), [true, false, true, false, false]),
        (Operation::SetPolicy(&there), [true, false, false, false, false]),
        (Operation::SeeParameters, [true, false, true, false, false]),
        (Operation::Administer, [true, false, false, false, false]),
        (Operation::SeeEngine, [true, true, false, false, false]),
        (Operation::ChangeEngine, [true, false, false, false, false]),
        (Operation::Use(&here, Right::Read, Thing::Queue("q")), [true, true, true, true, false]),
        (Operation::Use(&here, Right::Write, Thing::Queue("q")), [false; 5]),
        (Operation::Use(&there, Right::Read, Thing::Queue("q")), [false; 5]),
    ];
    for (operation, allowed) in cases {
        for (name, allowed) in names.into_iter().zip(allowed) {
            let login = log_in(&broker, if name.is_empty() { "none" } else { name });
            assert_eq!(broker.broker().operator(login).can(operation), allowed, "{name} {operation:?}");
        }
        assert!(broker.broker().operator(broker.broker().internal_login()).can(operation), "{operation:?}");
    }
}

#[test]
fn what_is_no_user_or_permission_is_refused_in_words() {
    let broker = TestBroker::new();
    let named = |name: &str| UserSpec { name: user(name), password: NewPassword::None, tags: None };
    let set = |spec: UserSpec| told(broker.broker().set_user(&spec));
    assert!(set(named("")).contains("needs a name"));
    assert!(
        set(UserSpec { password: NewPassword::Plain((*b"").into()), ..named("u") })
            .contains("must not be empty")
    );
    let long = NewPassword::Plain(vec![b'x'; 5000].into());
    assert!(set(UserSpec { password: long, ..named("u") }).contains("5000 bytes"));
    assert!(set(UserSpec { tags: Some(vec!["a,b".into()]), ..named("u") }).contains("'a,b'"));
    let hash = NewPassword::Hashed { algorithm: HashAlgorithm::Sha256, hash: "AAAA".into() };
    assert!(set(UserSpec { password: hash, ..named("u") }).contains("has 3 bytes, not 36"));
    let permit = |name: &str, at: &str, read: &str| {
        let permissions = Permissions { read: read.into(), ..Permissions::all() };
        told(broker.broker().set_permissions(&user(name), &vhost(at), permissions))
    };
    assert_eq!(permit("nobody", "/", ".*"), "no user 'nobody'");
    assert_eq!(permit("guest", "none", ".*"), "no vhost 'none'");
    assert!(permit("guest", "/", "(").starts_with("the pattern '(' cannot be used"));
    assert_eq!(told(broker.broker().delete_user(&user("nobody"))), "no user 'nobody'");
    let exchange = ExchangeName::new("x").unwrap();
    let permission = TopicPermission { exchange, write: "(".into(), read: "".into() };
    assert!(
        told(broker.broker().set_topic_permission(&user("guest"), &vhost("/"), permission))
            .contains("pattern")
    );
}
