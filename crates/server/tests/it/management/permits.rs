//! Who may do what.

use super::*;
use millpond_broker::{NewPassword, Permissions, UserSpec};
use millpond_model::{UserName, VhostName};
use serde_json::json;

async fn add(server: &TestServer, name: &str, tag: &str, permitted: bool) {
    let user = UserName::new(name).unwrap();
    let spec = UserSpec {
        name: user.clone(),
        password: NewPassword::Plain(b"p".as_slice().into()),
        tags: Some([tag].iter().filter(|tag| !tag.is_empty()).map(|tag| (*tag).into()).collect()),
    };
    server.broker().set_user(&spec).unwrap().1.await.unwrap();
    if permitted {
        let permissions = Permissions { configure: "^own".into(), write: "^own".into(), read: ".*".into() };
        let vhost = VhostName::new("/").unwrap();
        server.broker().set_permissions(&user, &vhost, permissions).unwrap().await.unwrap();
    }
}

/// Kinds of users: an administrator without permissions, a monitor, somebody who makes policies, somebody who manages,
/// and somebody without tags; the latter three with permissions in `/`.
const USERS: [&str; 5] = ["admin", "monitor", "policies", "manager", "nobody"];

type Allowed = (&'static str, &'static str, [u16; 5]);

const ALLOWED: &[Allowed] = &[
    ("GET /api/whoami", "", [200, 200, 200, 200, 401]),
    ("GET /api/overview", "", [200, 200, 200, 200, 401]),
    ("GET /api/nodes", "", [200, 200, 401, 401, 401]),
    ("GET /api/users", "", [200, 401, 401, 401, 401]),
    ("GET /api/users/manager/permissions", "", [200, 401, 401, 200, 401]),
    ("GET /api/permissions", "", [200, 401, 401, 401, 401]),
    ("GET /api/vhosts/%2F", "", [200, 200, 200, 200, 401]),
    ("GET /api/vhosts/other", "", [200, 200, 401, 401, 401]),
    ("GET /api/queues/other", "", [200, 200, 401, 401, 401]),
    ("PUT /api/vhosts/new", "", [201, 401, 401, 401, 401]),
    ("GET /api/vhosts/new/permissions?columns=user", "", [200, 401, 401, 401, 401]),
    ("PUT /api/queues/new/q", "{}", [201, 401, 401, 401, 401]),
    ("PUT /api/users/new", r#"{"tags":""}"#, [201, 401, 401, 401, 401]),
    ("PUT /api/permissions/%2F/new", r#"{"configure":"","write":"","read":""}"#, [201, 401, 401, 401, 401]),
    (
        "PUT /api/policies/%2F/p",
        r#"{"pattern":"^none","definition":{"max-length":1}}"#,
        [201, 401, 204, 401, 401],
    ),
    (
        "PUT /api/policies/other/p",
        r#"{"pattern":"^none","definition":{"max-length":1}}"#,
        [201, 401, 401, 401, 401],
    ),
    (
        "PUT /api/operator-policies/%2F/p",
        r#"{"pattern":"^none","definition":{"max-length":1}}"#,
        [201, 401, 401, 401, 401],
    ),
    ("PUT /api/vhost-limits/%2F/max-queues", r#"{"value":100}"#, [204, 401, 401, 401, 401]),
    ("PUT /api/queues/%2F/own", "{}", [401, 401, 201, 204, 401]),
    ("PUT /api/queues/%2F/theirs", "{}", [401, 401, 401, 401, 401]),
    ("POST /api/bindings/%2F/e/amq.direct/q/own", r#"{"routing_key":"k"}"#, [401, 401, 201, 201, 401]),
    (
        "POST /api/exchanges/%2F/amq.direct/publish",
        r#"{"properties":{},"routing_key":"k","payload":"","payload_encoding":"string"}"#,
        [401, 401, 401, 401, 401],
    ),
    (
        "POST /api/queues/%2F/own/get",
        r#"{"count":1,"ackmode":"ack_requeue_true","encoding":"auto"}"#,
        [401, 401, 200, 200, 401],
    ),
    ("PUT /api/queues/%2F/own/pause", "", [401, 401, 204, 204, 401]),
    ("PUT /api/queues/%2F/own/resume", "", [401, 401, 204, 204, 401]),
    ("GET /api/queues/%2F/own/messages", "", [401, 401, 200, 200, 401]),
    ("POST /api/queues/%2F/own/redrive", "", [401, 401, 200, 200, 401]),
    ("POST /api/queues/%2F/own/move", r#"{"to":{"exchange":"amq.direct"}}"#, [401, 401, 401, 401, 401]),
    ("DELETE /api/queues/%2F/own/contents", "", [401, 401, 204, 204, 401]),
    ("DELETE /api/queues/%2F/own", "", [401, 401, 204, 404, 401]),
    ("GET /api/definitions", "", [200, 401, 401, 401, 401]),
    ("POST /api/definitions", "{}", [204, 401, 401, 401, 401]),
    // Who may would hear that this server has no engine.
    ("GET /api/rules", "", [503, 503, 401, 401, 401]),
    ("GET /api/sources/s", "", [503, 503, 401, 401, 401]),
    ("GET /api/topology", "", [503, 503, 401, 401, 401]),
    ("GET /api/secrets", "", [503, 503, 401, 401, 401]),
    ("PUT /api/rules/r/stop", "", [503, 401, 401, 401, 401]),
    ("POST /api/rules/r/test", r#"{"event":{}}"#, [503, 503, 401, 401, 401]),
    ("POST /api/rules/r/replay", "", [503, 401, 401, 401, 401]),
    ("PUT /api/sources/s/start", "", [503, 401, 401, 401, 401]),
    ("POST /api/topology/plan", "rules: {}", [503, 401, 401, 401, 401]),
    ("PUT /api/topology", "rules: {}", [503, 401, 401, 401, 401]),
    ("GET /api/health/checks/alarms", "", [200, 200, 200, 200, 401]),
];

#[tokio::test]
async fn every_kind_of_user_may_what_its_tags_and_permissions_say() {
    let server = TestServer::start().await;
    let steps: &[Step] = &[("PUT /api/vhosts/other", "", 201, "")];
    walk(&server, steps).await;
    let tags = ["administrator", "monitoring", "policymaker", "management", ""];
    for (name, tag) in USERS.iter().zip(tags) {
        add(&server, name, tag, !matches!(tag, "administrator" | "monitoring")).await;
    }
    for (line, body, statuses) in ALLOWED {
        for (name, status) in USERS.iter().zip(statuses) {
            let authorization = authorization_of(&format!("{name}:p"));
            let answer = receive(send(&server, line, &[("Authorization", &authorization)], body).await).await;
            assert_eq!(answer.status, *status, "{name}: {line}: {}", answer.body);
            if *status == 401 {
                assert_eq!(answer.json()["error"], "not_authorised", "{name}: {line}");
            }
        }
    }
    let seen = |name: &str| {
        let authorization = authorization_of(&format!("{name}:p"));
        let server = &server;
        async move {
            let asked = send(server, "GET /api/vhosts", &[("Authorization", &authorization)], "").await;
            receive(asked).await.json()
        }
    };
    assert_eq!(names(&seen("manager").await), ["/"]);
    assert_eq!(names(&seen("monitor").await), ["/", "new", "other"]);
    let wrong = authorization_of("manager:wrong");
    let answer = receive(send(&server, "GET /api/whoami", &[("Authorization", &wrong)], "").await).await;
    assert_eq!((answer.status, &answer.json()["error"]), (401, &json!("not_authorized")));
    assert!(answer.header("www-authenticate").is_some());
}
