//! Definitions: what is taken, and that passwords are not shown.

use crate::{set, state, until};
use millpond_shovel::Shovels;
use millpond_testkit::TestServer;
use serde_json::{Value, json};

#[expect(clippy::needless_pass_by_value, reason = "a macro's value, made at the call")]
fn with(changes: Value) -> Value {
    let mut value = json!({
        "src-uri": "amqp://a:b@localhost:1/", "src-queue": "q", "dest-uri": "amqp://", "dest-queue": "q",
    });
    for (key, change) in changes.as_object().unwrap() {
        value[key] = change.clone();
    }
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_cannot_be_is_refused_with_the_key_and_without_the_password() {
    let here = TestServer::start().await;
    let shovels = Shovels::start(here.broker().clone());
    for (value, says) in [
        (json!("text"), "an object"),
        (json!({"src-uri": "amqp://", "dest-uri": "amqp://"}), "'src-queue' is missing"),
        (json!({"src-queue": "q", "dest-uri": "amqp://"}), "'src-uri' is missing"),
        (with(json!({"src-uri": "http://u:secret@h/"})), "amqp://"),
        (with(json!({"src-uri": "amqp://u:***@h/"})), "write the password"),
        (with(json!({"src-uri": []})), "a list of 1 to 32"),
        (with(json!({"src-exchange": "x"})), "one of the two"),
        (with(json!({"dest-exchange": "x"})), "one of the two"),
        (with(json!({"ack-mode": "never"})), "on-confirm"),
        (with(json!({"ack-mode": "no-ack", "src-delete-after": 5})), "needs acks"),
        (with(json!({"src-delete-after": -1})), "queue-length"),
        (with(json!({"src-prefetch-count": 0})), "1 to 65535"),
        (with(json!({"src-protocol": "amqp10"})), "amqp091"),
        (with(json!({"reconnect-delay": "soon"})), "seconds"),
        (with(json!({"dest-uri": "amqp:///other"})), "the shovel's own vhost"),
        (with(json!({"src-uri": "amqp://"})), "in a circle"),
        (with(json!({"dest-publish-properties": {"colour": 1}})), "'colour'"),
        (with(json!({"dest-publish-properties": {"delivery_mode": 3}})), "delivery_mode"),
        (with(json!({"surprise": 1})), "'surprise'"),
    ] {
        let error = set(here.broker(), "s", value.clone()).unwrap_err();
        assert!(error.contains(says) && !error.contains("secret"), "{value}: {error}");
    }
    assert!(here.broker().list_parameters().is_empty());
    shovels.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_never_shown_and_what_was_shown_can_be_set_again() {
    let here = TestServer::start().await;
    let shovels = Shovels::start(here.broker().clone());
    let uris = json!(["amqp://user:p%40ss@127.0.0.1:1/v?heartbeat=5", "amqps://other@127.0.0.1:1"]);
    let value = with(json!({"src-uri": uris}));
    set(here.broker(), "s", value.clone()).unwrap();
    until("it waits", || state(here.broker(), "s").is_some_and(|it| it["state"] == "terminated")).await;
    let shown = here.broker().list_parameters().remove(0).value;
    let hidden = json!(["amqp://user:***@127.0.0.1:1/v?heartbeat=5", "amqps://other@127.0.0.1:1"]);
    assert_eq!(shown["src-uri"], hidden);
    let told = state(here.broker(), "s").unwrap().to_string();
    assert!(!told.contains("p%40ss") && !told.contains("p@ss"), "{told}");
    // As exported and imported again, with a change.
    let mut again = shown;
    again["src-prefetch-count"] = 5.into();
    set(here.broker(), "s", again.clone()).unwrap();
    let kept = here.broker().kept_parameters("shovel").remove(0).value;
    assert_eq!((&kept["src-uri"], &kept["src-prefetch-count"]), (&uris, &json!(5)));
    // Where it is not known, it is asked for.
    assert!(set(here.broker(), "other", again).unwrap_err().contains("write the password"));
    shovels.shut_down().await;
}
