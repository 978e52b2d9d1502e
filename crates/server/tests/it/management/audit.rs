//! Who changed what, and who was refused, as the management API shows it.

use super::*;
use millpond_testkit::Client;
use serde_json::json;

/// The entries of a query, the newest first, as operation, name and result.
async fn found(server: &TestServer, query: &str) -> Vec<(String, String, String)> {
    let list = get(server, &format!("/audit?{query}")).await;
    let text = |it: &Value, name: &str| it[name].as_str().unwrap_or_default().to_owned();
    let items = list.as_array().unwrap().iter();
    items.map(|it| (text(it, "operation"), text(it, "name"), text(it, "result"))).collect()
}

fn entry(operation: &str, name: &str, result: &str) -> (String, String, String) {
    (operation.into(), name.into(), result.into())
}

const ANN: &str = r#"{"password": "hidden-password", "tags": "management"}"#;

#[tokio::test]
async fn what_was_changed_over_any_door_is_listed_with_who_did_it() {
    let server = TestServer::start().await;
    let definitions = r#"{"queues": [{"name": "imported", "vhost": "/", "durable": true}]}"#;
    let steps: &[Step] = &[
        ("PUT /api/users/ann", ANN, 201, ""),
        ("PUT /api/queues/%2F/q", "{}", 201, ""),
        ("PUT /api/queues/%2F/q", "{}", 204, ""),
        ("PUT /api/queues/%2F/q/pause", "", 204, ""),
        ("POST /api/bindings/%2F/e/amq.topic/q/q", r#"{"routing_key": "k"}"#, 201, ""),
        ("DELETE /api/queues/%2F/q/contents", "", 204, ""),
        ("PUT /api/policies/%2F/p", r#"{"pattern": "^q", "definition": {"max-length": 5}}"#, 201, ""),
        ("POST /api/definitions", definitions, 204, ""),
        ("DELETE /api/queues/%2F/q", "", 204, ""),
    ];
    walk(&server, steps).await;
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client.declare_queue(1, "by-amqp", true).await;
    let expected = [
        entry("queue.created", "by-amqp", "done"),
        entry("queue.deleted", "q", "done"),
        entry("definitions.imported", "", "done"),
        entry("queue.created", "imported", "done"),
        entry("policy.set", "p", "done"),
        entry("queue.purged", "q", "done"),
        entry("binding.created", "amq.topic -> q", "done"),
        entry("queue.paused", "q", "done"),
        entry("queue.created", "q", "done"),
        entry("user.created", "ann", "done"),
    ];
    assert_eq!(found(&server, "user=guest").await, expected);
    let all = get(&server, "/audit").await;
    let newest = &all[0];
    let who = ["user_who_performed_action", "authenticated_by", "front_end", "peer_host", "kind", "vhost"];
    let who = who.map(|name| newest[name].as_str().unwrap());
    assert_eq!(who, ["guest", "password", "amqp", "127.0.0.1", "queue", "/"]);
    assert!(
        all.as_array()
            .unwrap()
            .iter()
            .all(|it| it["peer_host"] == "127.0.0.1" || it["front_end"] == "internal")
    );
    assert!(!all.to_string().contains("hidden"), "{all}");
}

#[tokio::test]
async fn entries_are_filtered_and_come_by_pages() {
    let server = TestServer::start().await;
    walk(
        &server,
        &[
            ("PUT /api/vhosts/v", "{}", 201, ""),
            ("PUT /api/queues/v/a", "{}", 201, ""),
            ("PUT /api/queues/%2F/b", "{}", 201, ""),
            ("DELETE /api/queues/v/a", "", 204, ""),
        ],
    )
    .await;
    let (created, deleted) = (entry("queue.created", "a", "done"), entry("queue.deleted", "a", "done"));
    assert_eq!(found(&server, "operation=queue&vhost=v").await, [deleted.clone(), created.clone()]);
    assert_eq!(found(&server, "operation=queue.deleted").await, [deleted]);
    assert_eq!(found(&server, "object=b").await, [entry("queue.created", "b", "done")]);
    assert_eq!(found(&server, "user=nobody").await, []);
    assert_eq!(found(&server, "result=refused").await, []);
    assert_eq!(found(&server, "until=1970-01-02T00:00:00Z").await, []);
    assert_eq!(
        found(&server, "since=2000-01-01T00:00:00Z&operation=queue&front_end=management").await.len(),
        3
    );
    let page = get(&server, "/audit?page=2&page_size=1&operation=queue").await;
    assert_eq!((&page["filtered_count"], &page["page_count"]), (&json!(3), &json!(3)), "{page}");
    assert_eq!(page["items"][0]["name"], "b", "the newest is on the first page");
    let sorted = get(&server, "/audit?page=1&operation=queue&sort=id&columns=id,name").await;
    assert_eq!(names(&sorted["items"]), ["a", "b", "a"]);
    let last = get(&server, "/audit").await[0]["id"].clone();
    assert_eq!(found(&server, &format!("after_id={last}")).await, []);
    for wrong in ["since=yesterday", "result=maybe", "after_id=x", "page=0"] {
        let answer = ask(&server, &format!("GET /api/audit?{wrong}"), &[], "").await;
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.body);
    }
}

async fn ask_as(server: &TestServer, line: &str, credentials: &str) -> u16 {
    let authorization = authorization_of(credentials);
    receive(send(server, line, &[("Authorization", &authorization)], "").await).await.status
}

#[tokio::test]
async fn refusals_are_listed_with_what_was_asked_and_only_administrators_see_them() {
    let server = TestServer::start().await;
    walk(&server, &[("PUT /api/users/ann", ANN, 201, "")]).await;
    let ann = "ann:hidden-password";
    assert_eq!(ask_as(&server, "GET /api/audit", ann).await, 401);
    assert_eq!(ask_as(&server, "DELETE /api/users/guest?secret=hidden", ann).await, 401);
    assert_eq!(ask_as(&server, "PUT /api/queues/%2F/q", ann).await, 401);
    assert_eq!(ask_as(&server, "GET /api/overview", "ann:hidden-guess").await, 401);
    let list = get(&server, "/audit?result=refused").await;
    let shown: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|it| {
            let text = |name: &str| it[name].as_str().unwrap_or_default().to_owned();
            [text("operation"), text("user_who_performed_action"), text("detail")]
        })
        .collect();
    let expected = [
        ["node.administer", "ann", "GET /audit"],
        ["node.administer", "ann", "DELETE /users/guest"],
        ["vhost.see", "ann", "PUT /queues/%2F/q"],
        ["user.authentication.failure", "ann", ""],
    ];
    assert_eq!(shown, expected);
    assert_eq!(list[0]["reason"], "wrong password for user `ann`");
    assert!(!list.to_string().contains("hidden"), "{list}");
}

#[tokio::test]
async fn attempts_to_log_in_are_counted_as_rabbitmq_shows_them() {
    let server = TestServer::start().await;
    let node = get(&server, "/overview").await["node"].as_str().unwrap().to_owned();
    let path = format!("/auth/attempts/{}", node.replace('@', "%40"));
    drop(Client::connect(server.amqp()).await);
    assert_eq!(ask_as(&server, "GET /api/overview", "guest:wrong").await, 401);
    let found = get(&server, &path).await;
    let of = |found: &Value, protocol: &str| {
        let row = found.as_array().unwrap().iter().find(|it| it["protocol"] == protocol).unwrap().clone();
        let number = |name: &str| row[name].as_u64().unwrap();
        (number("auth_attempts"), number("auth_attempts_failed"), number("auth_attempts_succeeded"))
    };
    assert_eq!(of(&found, "amqp091"), (1, 0, 1));
    assert_eq!(of(&found, "http"), (3, 1, 2));
    let sources = get(&server, &format!("{path}/source")).await;
    let row = sources.as_array().unwrap().iter().find(|it| it["protocol"] == "http").unwrap();
    assert_eq!((&row["remote_address"], &row["username"]), (&json!("127.0.0.1"), &json!("guest")));
    walk(&server, &[("GET /api/auth/attempts/other", "", 404, "")]).await;
    for gone in [format!("DELETE /api{path}/source"), format!("DELETE /api{path}")] {
        let answer = ask(&server, &gone, &[], "").await;
        assert_eq!(answer.status, 204, "{gone}: {}", answer.body);
    }
    let found = get(&server, &path).await;
    assert_eq!(found.as_array().unwrap().len(), 1, "the question itself: {found}");
}
