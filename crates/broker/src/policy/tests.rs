use super::*;
use millpond_model::table::{Table, Value};

fn spec(name: &str, pattern: &str, apply_to: &str, priority: i64, definition: &str) -> PolicySpec {
    PolicySpec {
        name: name.into(),
        pattern: pattern.into(),
        apply_to: ApplyTo::parse(apply_to).unwrap(),
        priority,
        definition: PolicyDefinition::from_json(definition).unwrap(),
    }
}

fn refused(kind: PolicyKind, apply_to: &str, definition: &str) -> String {
    let made = PolicyDefinition::from_json(definition).and_then(|definition| {
        let spec = PolicySpec { definition, ..spec("p", ".*", apply_to, 0, "{\"max-length\": 1}") };
        Policy::new(kind, spec)
    });
    made.err().map_or_else(|| "taken".to_owned(), |error| error.to_string())
}

#[test]
fn every_key_is_taken_with_a_value_that_fits_and_refused_with_another() {
    let check = |definition: &str, expected: &str| {
        let answer = refused(PolicyKind::User, "all", definition);
        assert!(answer.starts_with(expected), "{definition}: {answer}");
    };
    check(r#"{"message-ttl": 0}"#, "taken");
    check(r#"{"message-ttl": -1}"#, "'message-ttl' must be a whole number from 0 to 315360000000, not -1");
    check(r#"{"message-ttl": "5"}"#, "'message-ttl' must be a whole number");
    check(r#"{"message-ttl": 1.5}"#, "'message-ttl' must be a whole number from 0 to 315360000000, not 1.5");
    check(r#"{"expires": 0}"#, "'expires' must be a whole number from 1");
    check(r#"{"max-length": 18446744073709551615}"#, "'max-length' must be");
    check(r#"{"max-length": 5, "max-length-bytes": 0}"#, "taken");
    check(r#"{"overflow": "reject-publish"}"#, "taken");
    check(r#"{"overflow": "drop-tail"}"#, "'overflow' must be one of drop-head, reject-publish");
    check(r#"{"dead-letter-exchange": "", "dead-letter-routing-key": "k"}"#, "taken");
    check(r#"{"dead-letter-exchange": 1}"#, "'dead-letter-exchange' must be a text, not 1");
    check(r#"{"delivery-limit": -1}"#, "taken");
    check(r#"{"delivery-limit": -2}"#, "'delivery-limit' must be a whole number from -1 on");
    check(r#"{"max-age": "7D"}"#, "taken");
    check(r#"{"max-age": "7"}"#, "'max-age' must be an age");
    check(r#"{"max-age": "é"}"#, "'max-age' must be an age");
    check(r#"{"rate": 0.5}"#, "taken");
    check(r#"{"rate": 0}"#, "'rate' must be a number above 0, not 0");
    check(r#"{"alternate-exchange": "ae", "delayed-message": true}"#, "taken");
    check(r#"{"delayed-message": "yes"}"#, "'delayed-message' must be true or false, not 'yes'");
    check(r#"{"queue-mode": "lazy"}"#, "taken");
    check(r#"{"mesage-ttl": 1}"#, "'mesage-ttl' is not a policy key; known are message-ttl, expires");
    check("{}", "the definition is empty");
    check("[1]", "the definition must be a JSON object");
    check("{", "the definition must be a JSON object");
}

#[test]
fn operator_policies_hold_limits_only_and_keys_go_where_they_have_a_meaning() {
    let answer = refused(PolicyKind::Operator, "queues", r#"{"dead-letter-exchange": "x"}"#);
    assert!(answer.starts_with("'dead-letter-exchange' cannot be in an operator policy; these can: message"));
    assert_eq!(
        refused(PolicyKind::Operator, "queues", r#"{"max-length": 1, "overflow": "drop-head"}"#),
        "taken"
    );
    let answer = refused(PolicyKind::User, "queues", r#"{"alternate-exchange": "x"}"#);
    assert_eq!(answer, "'alternate-exchange' has no meaning for a policy that applies to queues");
    let answer = refused(PolicyKind::User, "exchanges", r#"{"max-length": 1}"#);
    assert_eq!(answer, "'max-length' has no meaning for a policy that applies to exchanges");
}

#[test]
fn names_patterns_and_words_are_bounded() {
    let policy = |name: &str, pattern: &str| {
        Policy::new(PolicyKind::User, spec(name, pattern, "all", 0, r#"{"max-length": 1}"#))
            .map_err(|error| error.to_string())
    };
    assert!(policy("p", "^(?!amq\\.).*").is_ok(), "RabbitMQ's guides look ahead");
    assert!(policy("", "a").unwrap_err().contains("1 to 255 bytes, not 0"));
    assert!(policy(&"n".repeat(256), "a").unwrap_err().contains("not 256"));
    assert!(policy("p", "(").unwrap_err().starts_with("the pattern '(' cannot be used"));
    assert!(policy("p", &"a".repeat(4097)).unwrap_err().contains("over the limit of 4096"));
    assert!(policy("p", "\\w{1000}{1000}").is_err(), "too large when compiled");
    assert!(ApplyTo::parse("queue").unwrap_err().to_string().starts_with("'queue' is nothing"));
    for (it, word) in APPLY_TO {
        assert_eq!(ApplyTo::parse(word), Ok(it));
        assert_eq!(it.as_str(), word);
    }
}

#[test]
fn a_pattern_that_does_not_come_to_an_end_does_not_fit() {
    let spec = spec("p", r"^(?=(a+)+$)\1b", "all", 0, r#"{"max-length": 1}"#);
    let policy = Policy::new(PolicyKind::User, spec).unwrap();
    assert!(!policy.fits(Subject::Exchange, &"a".repeat(200)));
}

#[test]
fn the_highest_priority_that_fits_is_in_force() {
    let mut policies = Policies::default();
    assert!(policies.is_empty());
    let mut add = |kind, spec| policies.set(kind, Policy::new(kind, spec).unwrap()).unwrap();
    let one = r#"{"max-length": 1}"#;
    add(PolicyKind::User, spec("all", "", "all", 0, one));
    add(PolicyKind::User, spec("b-orders", "^orders", "queues", 5, one));
    add(PolicyKind::User, spec("a-orders", "^orders", "queues", 5, one));
    add(PolicyKind::User, spec("quorum", "^orders", "quorum_queues", 9, one));
    add(PolicyKind::User, spec("streams", "s$", "streams", 9, one));
    add(PolicyKind::User, spec("low", "x", "all", -1, one));
    add(PolicyKind::User, spec("exchanges", "^ex$", "exchanges", 1, r#"{"alternate-exchange": "ae"}"#));
    add(PolicyKind::Operator, spec("limit", "^orders$", "classic_queues", 0, one));
    let classic = Subject::Queue { queue_type: "classic" };
    let quorum = Subject::Queue { queue_type: "quorum" };
    let stream = Subject::Queue { queue_type: "stream" };
    let check = |subject, name: &str, policy: Option<&str>, operator: Option<&str>| {
        let best = policies.best(subject, name);
        let found = (best.policy.map(|it| &*it.spec.name), best.operator.map(|it| &*it.spec.name));
        assert_eq!(found, (policy, operator), "{name}");
    };
    check(classic, "orders", Some("a-orders"), Some("limit"));
    check(classic, "orders2", Some("a-orders"), None);
    check(classic, "my-orders", Some("all"), None);
    check(quorum, "orders", Some("quorum"), None);
    check(stream, "orders", Some("streams"), None);
    check(Subject::Exchange, "orders", Some("all"), None);
    check(Subject::Exchange, "ex", Some("exchanges"), None);
    assert!(policies.clear(PolicyKind::User, "all"));
    assert!(!policies.clear(PolicyKind::User, "all"));
    assert!(policies.best(classic, "my-orders").policy.is_none());
    assert!(policies.best(classic, "max").policy.is_some_and(|it| &*it.spec.name == "low"));
}

/// Merges arguments, a policy and an operator policy for queues, each given as JSON; the result likewise.
fn merged(arguments: &[(&str, Value)], policy: &str, operator: &str) -> Vec<(String, String)> {
    let make =
        |kind, text: &str| (text != "-").then(|| Policy::new(kind, spec("p", "", "all", 0, text)).unwrap());
    let (policy, operator) = (make(PolicyKind::User, policy), make(PolicyKind::Operator, operator));
    let arguments: Table = arguments.iter().cloned().collect();
    let best = Best { policy: policy.as_ref(), operator: operator.as_ref() };
    let effective = effective(On::Queues, &arguments, &best);
    effective.iter().map(|(name, value)| (name.to_string(), keys::show(value).replace('\'', ""))).collect()
}

#[test]
fn arguments_policy_and_operator_policy_become_one() {
    let check = |arguments: &[(&str, Value)], policy: &str, operator: &str, expected: &[(&str, &str)]| {
        let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert_eq!(merged(arguments, policy, operator), expected, "{policy} {operator}");
    };
    let ttl = |ms: i32| [("x-message-ttl", Value::I32(ms))];
    // A policy alone, an operator policy alone, both.
    check(&[], r#"{"message-ttl": 5}"#, "-", &[("x-message-ttl", "5")]);
    check(&[], "-", r#"{"message-ttl": 5}"#, &[("x-message-ttl", "5")]);
    check(&[], r#"{"message-ttl": 5}"#, r#"{"message-ttl": 3}"#, &[("x-message-ttl", "3")]);
    check(&[], r#"{"message-ttl": 5}"#, r#"{"message-ttl": 9}"#, &[("x-message-ttl", "5")]);
    check(&[], r#"{"max-length": 5}"#, r#"{"expires": 9}"#, &[("x-max-length", "5"), ("x-expires", "9")]);
    // Numbers beside an argument: the smaller one.
    check(&ttl(4), r#"{"message-ttl": 5}"#, "-", &[("x-message-ttl", "4")]);
    check(&ttl(6), r#"{"message-ttl": 5}"#, "-", &[("x-message-ttl", "5")]);
    check(&ttl(6), r#"{"message-ttl": 5}"#, r#"{"message-ttl": 3}"#, &[("x-message-ttl", "3")]);
    // No limit loses to any limit.
    let limit = |n: i32| [("x-delivery-limit", Value::I32(n))];
    check(&limit(-1), r#"{"delivery-limit": 7}"#, "-", &[("x-delivery-limit", "7")]);
    check(&limit(3), r#"{"delivery-limit": -1}"#, "-", &[("x-delivery-limit", "3")]);
    check(&[], r#"{"delivery-limit": -1}"#, r#"{"delivery-limit": 7}"#, &[("x-delivery-limit", "7")]);
    // Texts: the argument wins; of policies the operator's.
    let dlx = [("x-dead-letter-exchange", Value::from("mine"))];
    let policy = r#"{"dead-letter-exchange": "theirs", "dead-letter-routing-key": "k"}"#;
    let both = [("x-dead-letter-exchange", "mine"), ("x-dead-letter-routing-key", "k")];
    check(&dlx, policy, "-", &both);
    let overflow = [("x-overflow", "reject-publish")];
    check(&[], r#"{"overflow": "drop-head"}"#, r#"{"overflow": "reject-publish"}"#, &overflow);
    let age = [("x-max-age", Value::from("2D"))];
    check(&age, r#"{"max-age": "47h"}"#, "-", &[("x-max-age", "47h")]);
    check(&age, r#"{"max-age": "3D"}"#, "-", &[("x-max-age", "2D")]);
    // What is for exchanges or has no effect stays out; unknown arguments stay.
    check(
        &[("x-a", Value::I32(1))],
        r#"{"alternate-exchange": "x", "queue-mode": "lazy"}"#,
        "-",
        &[("x-a", "1")],
    );
}

#[test]
fn only_what_a_policy_can_say_may_be_altered() {
    let check = |argument: &str, value: Value| check_alteration(argument, &value);
    assert_eq!(check("x-message-ttl", Value::I32(5)), Some(Ok(())));
    assert_eq!(check("x-message-ttl", Value::Void), Some(Ok(())));
    assert!(check("x-message-ttl", Value::I32(-5)).is_some_and(|it| it.is_err()));
    for fixed in ["x-queue-type", "x-max-priority", "alternate-exchange", "max-length"] {
        assert_eq!(check(fixed, Value::I32(1)), None, "{fixed}");
    }
    assert!(alterable().starts_with("x-message-ttl, x-expires"));
}

#[test]
fn definitions_are_shown_as_they_were_written() {
    let text = r#"{"dead-letter-exchange":"","delayed-message":true,"max-length":5,"rate":0.5}"#;
    assert_eq!(PolicyDefinition::from_json(text).unwrap().to_json(), text);
}
