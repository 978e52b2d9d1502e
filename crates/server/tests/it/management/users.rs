//! Vhosts, users, permissions, limits, policies.

use super::*;
use serde_json::json;

const MANAGED: &[Step] = &[
    ("GET /api/whoami", "", 200, r#"{"name":"guest","tags":["administrator"]}"#),
    ("PUT /api/vhosts/v1", r#"{"description":"d","default_queue_type":"quorum"}"#, 201, ""),
    ("PUT /api/vhosts/v1", "", 204, ""),
    ("PUT /api/vhosts/v1", r#"{"default_queue_type":"nope"}"#, 400, "default_queue_type 'nope'"),
    ("GET /api/vhosts/v1", "", 200, r#""default_queue_type":"quorum""#),
    ("GET /api/vhosts/none", "", 404, "Object Not Found"),
    ("GET /api/vhosts/v1/permissions", "", 200, r#""user":"guest""#),
    ("GET /api/vhosts/none/permissions", "", 404, "Object Not Found"),
    ("PUT /api/users/u1", r#"{"password":"p","tags":"management"}"#, 201, ""),
    ("PUT /api/users/u1", r#"{"password":"p","tags":["management"]}"#, 204, ""),
    ("PUT /api/users/u2", r#"{"password_hash":"","tags":""}"#, 201, ""),
    ("PUT /api/users/u3", r#"{"tags":""}"#, 201, ""),
    ("PUT /api/users/u4", r#"{"password":"x"}"#, 400, "tags_not_present"),
    ("PUT /api/users/u5", r#"{"password_hash":"zz","tags":""}"#, 400, "bad_request"),
    ("GET /api/users/none", "", 404, "Object Not Found"),
    ("GET /api/users/u2", "", 200, r#""password_hash":"""#),
    (
        "GET /api/users/without-permissions?columns=name",
        "",
        200,
        r#"[{"name":"u1"},{"name":"u2"},{"name":"u3"}]"#,
    ),
    ("PUT /api/permissions/%2F/u1", r#"{"configure":".*","write":".*","read":".*"}"#, 201, ""),
    ("PUT /api/permissions/%2F/u1", r#"{"configure":".*","write":".*","read":".*"}"#, 204, ""),
    ("PUT /api/permissions/%2F/u1", r#"{"configure":".*","write":"*","read":".*"}"#, 400, "bad_request"),
    ("PUT /api/permissions/%2F/u1", r#"{"configure":".*","write":".*"}"#, 400, "[{key_missing,read}]"),
    (
        "PUT /api/permissions/%2F/none",
        r#"{"configure":".*","write":".*","read":".*"}"#,
        400,
        "no user 'none'",
    ),
    ("GET /api/permissions/%2F/u1", "", 200, r#""configure":".*""#),
    ("GET /api/permissions/v1/u1", "", 404, ""),
    ("GET /api/permissions", "", 200, r#""vhost":"v1""#),
    ("GET /api/users/u1/permissions", "", 200, r#""vhost":"/""#),
    ("DELETE /api/permissions/v1/u1", "", 404, ""),
    ("PUT /api/topic-permissions/%2F/u1", r#"{"exchange":"amq.topic","write":"^a","read":".*"}"#, 201, ""),
    ("GET /api/topic-permissions/%2F/u1", "", 200, r#""exchange":"amq.topic""#),
    ("GET /api/users/u1/topic-permissions", "", 200, r#""write":"^a""#),
    ("DELETE /api/topic-permissions/%2F/u1/amq.direct", "", 404, ""),
    ("PUT /api/topic-permissions/%2F/u1", r#"{"exchange":"x","write":"^a","read":".*"}"#, 204, ""),
    ("DELETE /api/topic-permissions/%2F/u1/amq.topic", "", 204, ""),
    ("GET /api/topic-permissions/%2F/u1", "", 200, r#"[{"exchange":"x""#),
    ("DELETE /api/topic-permissions/%2F/u1", "", 204, ""),
    ("GET /api/topic-permissions/%2F/u1", "", 404, ""),
    (
        "PUT /api/policies/%2F/p1",
        r#"{"pattern":"^q","definition":{"max-length":10},"priority":1,"apply-to":"queues"}"#,
        201,
        "",
    ),
    ("PUT /api/policies/%2F/p1", r#"{"pattern":"^q","definition":{"max-length":10}}"#, 204, ""),
    (
        "PUT /api/policies/%2F/p2",
        r#"{"pattern":"^q","definition":{"nope":10}}"#,
        400,
        "'nope' is not a policy key",
    ),
    ("PUT /api/policies/%2F/p2", r#"{"pattern":"^q"}"#, 400, "[{key_missing,definition}]"),
    ("PUT /api/policies/none/p2", r#"{"pattern":"^q","definition":{"max-length":10}}"#, 404, ""),
    (
        "GET /api/policies/%2F/p1",
        "",
        200,
        r#"{"apply-to":"all","definition":{"max-length":10},"name":"p1","pattern":"^q","priority":0,"vhost":"/"}"#,
    ),
    ("GET /api/policies/%2F/none", "", 404, "Object Not Found"),
    ("DELETE /api/policies/%2F/none", "", 404, ""),
    (
        "PUT /api/operator-policies/%2F/o1",
        r#"{"pattern":"^q","definition":{"max-length":7},"apply-to":"queues"}"#,
        201,
        "",
    ),
    ("PUT /api/queues/%2F/q1", "{}", 201, ""),
    ("GET /api/queues/%2F/q1", "", 200, r#""effective_policy_definition":{"max-length":7}"#),
    ("GET /api/parameters", "", 200, r#""component":"operator_policy""#),
    ("DELETE /api/operator-policies/%2F/o1", "", 204, ""),
    ("GET /api/queues/%2F/q1", "", 200, r#""effective_policy_definition":{"max-length":10}"#),
    ("PUT /api/vhost-limits/v1/max-queues", r#"{"value":5}"#, 204, ""),
    ("PUT /api/vhost-limits/v1/nope", r#"{"value":5}"#, 400, "'nope'"),
    ("GET /api/vhost-limits", "", 200, r#"[{"value":{"max-queues":5},"vhost":"v1"}]"#),
    ("GET /api/parameters/vhost-limits", "", 200, r#""value":{"max-queues":5}"#),
    ("DELETE /api/vhost-limits/v1/max-queues", "", 204, ""),
    ("GET /api/vhost-limits/v1", "", 200, "[]"),
    ("PUT /api/user-limits/u1/max-channels", r#"{"value":5}"#, 204, ""),
    ("GET /api/user-limits/u1", "", 200, r#"[{"user":"u1","value":{"max-channels":5}}]"#),
    ("DELETE /api/user-limits/u1/max-channels", "", 204, ""),
    ("POST /api/users/bulk-delete", r#"{"users":["u1","none"]}"#, 400, "no user 'none'"),
    ("POST /api/users/bulk-delete", r#"{"users":["u1","u2"]}"#, 204, ""),
    ("DELETE /api/users/u3", "", 204, ""),
    ("DELETE /api/users/u3", "", 404, ""),
    ("DELETE /api/vhosts/v1", "", 204, ""),
    ("DELETE /api/vhosts/v1", "", 404, ""),
    ("DELETE /api/vhosts/%2F", "", 400, "cannot be deleted"),
];

#[tokio::test]
async fn vhosts_users_permissions_limits_and_policies_are_managed() {
    let server = TestServer::start().await;
    walk(&server, MANAGED).await;
    let hash = get(&server, "/auth/hash_password/secret").await["ok"].as_str().unwrap().to_owned();
    let user = json!({"password_hash": hash, "tags": "administrator"}).to_string();
    assert_eq!(ask(&server, "PUT /api/users/hashed", &[], &user).await.status, 201);
    let known = authorization_of("hashed:secret");
    let answer = receive(send(&server, "GET /api/whoami", &[("Authorization", &known)], "").await).await;
    assert_eq!(answer.json()["name"], "hashed");
}
