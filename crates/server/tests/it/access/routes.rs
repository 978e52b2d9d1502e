//! The management API: every route, and who may ask it. By RabbitMQ's rules, which are those of the tags.

/// Everybody, logged in or not.
pub(super) const ANYBODY: &str = "*";
/// Those with a tag.
const TAGGED: &str = "mpoacwretqx MPOA";
/// Those with a tag and permissions in the vhost, and those who see all vhosts.
const SEES: &str = "mpoacwretqx OA";
/// Those who see the node and everybody's connections.
const MONITORS: &str = "oa OA";
/// Those who make policies, in a vhost with permissions.
const POLICY: &str = "pa A";
const ADMINISTRATORS: &str = "aA";
/// Those who make policies and may publish to `x` themselves.
const SCHEDULES: &str = "pa";

/// Who is asked for, and what about.
pub(super) struct Route {
    /// `{v}` is a vhost, `{c}` a connection of the user `m`, which consumes.
    pub(super) line: &'static str,
    pub(super) body: &'static str,
    pub(super) who: &'static str,
    /// What the broker itself asks before, so that there is something to ask for.
    pub(super) before: &'static str,
}

const fn get(line: &'static str, who: &'static str) -> Route {
    Route { line, body: "", who, before: "" }
}

const fn set(line: &'static str, body: &'static str, who: &'static str) -> Route {
    Route { line, body, who, before: "" }
}

const fn after(before: &'static str, line: &'static str, body: &'static str, who: &'static str) -> Route {
    Route { line, body, who, before }
}

const POLICY_BODY: &str = r#"{"pattern":"^none","definition":{"max-length":1}}"#;
const VALUE: &str = r#"{"value":{"a":1}}"#;
const LIMIT: &str = r#"{"value":1000}"#;
const PERMISSIONS: &str = r#"{"configure":"","write":"","read":""}"#;
const TOPIC: &str = r#"{"exchange":"xt","write":"","read":""}"#;
const EXPLAIN: &str = r#"{"vhost":"{vhost}","exchange":"x","routing_key":"k"}"#;

pub(super) const ROUTES: &[Route] = &[
    // The node.
    get("GET /api", ANYBODY),
    get("GET /api/openapi.json", ANYBODY),
    get("GET /api/openapi.js", ANYBODY),
    get("GET /api/openapi.css", ANYBODY),
    get("GET /health", ANYBODY),
    get("GET /health/ready", ANYBODY),
    get("GET /health/live", ANYBODY),
    get("GET /metrics", ANYBODY),
    get("GET /metrics/per-object", MONITORS),
    get("GET /metrics/detailed?family=queue_coarse_metrics", MONITORS),
    get("GET /api/overview", TAGGED),
    get("GET /api/nodes", MONITORS),
    get("GET /api/nodes/{node}", MONITORS),
    get("GET /api/nodes/{node}/memory", MONITORS),
    get("GET /api/cluster-name", TAGGED),
    set("PUT /api/cluster-name", r#"{"name":"c"}"#, ADMINISTRATORS),
    get("GET /api/extensions", TAGGED),
    get("GET /api/feature-flags", TAGGED),
    get("PUT /api/feature-flags/stream_queue/enable", ADMINISTRATORS),
    get("GET /api/deprecated-features", TAGGED),
    get("GET /api/deprecated-features/used", TAGGED),
    get("GET /api/federation-links", TAGGED),
    get("GET /api/federation-links/{v}", SEES),
    get("GET /api/version", TAGGED),
    get("POST /api/rebalance/queues", ADMINISTRATORS),
    get("DELETE /api/reset", ADMINISTRATORS),
    get("DELETE /api/reset/{node}", ADMINISTRATORS),
    get("GET /api/attention", TAGGED),
    get("GET /api/audit", ADMINISTRATORS),
    get("GET /api/live?path=/overview", TAGGED),
    // Health.
    get("GET /api/healthchecks/node", TAGGED),
    get("GET /api/healthchecks/node/{node}", TAGGED),
    get("GET /api/health/checks/alarms", TAGGED),
    get("GET /api/health/checks/local-alarms", TAGGED),
    get("GET /api/health/checks/metadata-store/initialized", TAGGED),
    get("GET /api/health/checks/metadata-store/initialized/with-data", TAGGED),
    get("GET /api/health/checks/virtual-hosts", TAGGED),
    get("GET /api/health/checks/certificate-expiration/1/days", TAGGED),
    get("GET /api/health/checks/port-listener/1", TAGGED),
    get("GET /api/health/checks/protocol-listener/amqp", TAGGED),
    get("GET /api/health/checks/quorum-queues-without-elected-leaders/all-vhosts/pattern/x", TAGGED),
    get("GET /api/health/checks/quorum-queues-without-elected-leaders/vhost/%2F/pattern/x", TAGGED),
    get("GET /api/health/checks/node-is-quorum-critical", TAGGED),
    get("GET /api/health/checks/node-is-mirror-sync-critical", TAGGED),
    get("GET /api/health/checks/is-in-service", TAGGED),
    get("GET /api/health/checks/ready-to-serve-clients", TAGGED),
    get("GET /api/health/checks/below-node-connection-limit", TAGGED),
    get("GET /api/health/checks/reached-target-cluster-size", TAGGED),
    // Logins.
    get("GET /api/whoami", TAGGED),
    get("GET /api/auth", ANYBODY),
    get("GET /api/auth/hash_password/x", TAGGED),
    get("GET /api/auth/attempts/{node}", MONITORS),
    get("GET /api/auth/attempts/{node}/source", MONITORS),
    set("DELETE /api/auth/attempts/{node}/source", "", ADMINISTRATORS),
    set("DELETE /api/auth/attempts/{node}", "", ADMINISTRATORS),
    set("POST /api/login", r#"{"username":"{user}","password":"{password}"}"#, TAGGED),
    // Vhosts.
    get("GET /api/vhosts", TAGGED),
    get("GET /api/vhosts/{v}", SEES),
    set("PUT /api/vhosts/made", "{}", ADMINISTRATORS),
    after("PUT /vhosts/gone {}", "DELETE /api/vhosts/gone", "", ADMINISTRATORS),
    get("POST /api/vhosts/{v}/start/{node}", ADMINISTRATORS),
    get("POST /api/vhosts/made/deletion/protection", ADMINISTRATORS),
    get("DELETE /api/vhosts/made/deletion/protection", ADMINISTRATORS),
    get("GET /api/vhosts/{v}/permissions", ADMINISTRATORS),
    get("GET /api/vhosts/{v}/topic-permissions", ADMINISTRATORS),
    after("connection", "GET /api/vhosts/{v}/connections", "", SEES),
    after("connection", "GET /api/vhosts/{v}/channels", "", SEES),
    get("GET /api/vhost-limits", TAGGED),
    get("GET /api/vhost-limits/{v}", SEES),
    set("PUT /api/vhost-limits/{v}/max-queues", LIMIT, ADMINISTRATORS),
    get("DELETE /api/vhost-limits/{v}/max-connections", ADMINISTRATORS),
    // Users.
    get("GET /api/users", ADMINISTRATORS),
    get("GET /api/users/without-permissions", ADMINISTRATORS),
    set("POST /api/users/bulk-delete", r#"{"users":[]}"#, ADMINISTRATORS),
    get("GET /api/users/m", ADMINISTRATORS),
    set("PUT /api/users/made", r#"{"tags":""}"#, ADMINISTRATORS),
    after(r#"PUT /users/gone {"tags":""}"#, "DELETE /api/users/gone", "", ADMINISTRATORS),
    get("GET /api/users/m/permissions", "m aA"),
    get("GET /api/users/m/topic-permissions", "m aA"),
    get("GET /api/permissions", ADMINISTRATORS),
    get("GET /api/permissions/%2F/m", ADMINISTRATORS),
    set("PUT /api/permissions/{v}/some", PERMISSIONS, ADMINISTRATORS),
    after(
        r#"PUT /permissions/%2F/some {"configure":"","write":"","read":""}"#,
        "DELETE /api/permissions/%2F/some",
        "",
        ADMINISTRATORS,
    ),
    get("GET /api/topic-permissions", ADMINISTRATORS),
    get("GET /api/topic-permissions/%2F/t", ADMINISTRATORS),
    set("PUT /api/topic-permissions/{v}/some", TOPIC, ADMINISTRATORS),
    after(
        r#"PUT /topic-permissions/%2F/some {"exchange":"xt","write":"","read":""}"#,
        "DELETE /api/topic-permissions/%2F/some",
        "",
        ADMINISTRATORS,
    ),
    after(
        r#"PUT /topic-permissions/%2F/some {"exchange":"xt","write":"","read":""}"#,
        "DELETE /api/topic-permissions/%2F/some/xt",
        "",
        ADMINISTRATORS,
    ),
    get("GET /api/user-limits", TAGGED),
    get("GET /api/user-limits/m", ADMINISTRATORS),
    set("PUT /api/user-limits/some/max-channels", LIMIT, ADMINISTRATORS),
    get("DELETE /api/user-limits/some/max-channels", ADMINISTRATORS),
    // Policies and parameters.
    get("GET /api/policies", TAGGED),
    get("GET /api/policies/{v}", SEES),
    get("GET /api/policies/{v}/p", SEES),
    set("PUT /api/policies/{v}/p", POLICY_BODY, POLICY),
    after(
        r#"PUT /policies/{v}/gone {"pattern":"^none","definition":{"max-length":1}}"#,
        "DELETE /api/policies/{v}/gone",
        "",
        POLICY,
    ),
    get("GET /api/operator-policies", TAGGED),
    get("GET /api/operator-policies/{v}", SEES),
    get("GET /api/operator-policies/{v}/p", SEES),
    set("PUT /api/operator-policies/{v}/p", POLICY_BODY, ADMINISTRATORS),
    after(
        r#"PUT /operator-policies/{v}/gone {"pattern":"^none","definition":{"max-length":1}}"#,
        "DELETE /api/operator-policies/{v}/gone",
        "",
        ADMINISTRATORS,
    ),
    get("GET /api/parameters", "pa PA"),
    get("GET /api/parameters/kept", "pa PA"),
    get("GET /api/parameters/kept/{v}", POLICY),
    get("GET /api/parameters/kept/{v}/k", POLICY),
    set("PUT /api/parameters/kept/{v}/k", VALUE, POLICY),
    after(r#"PUT /parameters/kept/{v}/gone {"value":1}"#, "DELETE /api/parameters/kept/{v}/gone", "", POLICY),
    // Other names for what has its own path, and an administrator's there.
    set("PUT /api/parameters/vhost-limits/{v}/limits", r#"{"value":{"max-queues":1000}}"#, ADMINISTRATORS),
    set(
        "PUT /api/parameters/operator_policy/{v}/p",
        r#"{"value":{"pattern":"^none","definition":{"max-length":1}}}"#,
        ADMINISTRATORS,
    ),
    // A shovel acts with all permissions in its vhost.
    after(
        r#"PUT /parameters/shovel/{v}/s {"value":{}}"#,
        "DELETE /api/parameters/shovel/{v}/s",
        "",
        ADMINISTRATORS,
    ),
    get("GET /api/shovels", MONITORS),
    get("GET /api/shovels/%2F", MONITORS),
    get("GET /api/shovels/%2F/nowhere", MONITORS),
    get("DELETE /api/shovels/{v}/nowhere", ADMINISTRATORS),
    get("GET /api/shovels/vhost/%2F/nowhere", MONITORS),
    get("DELETE /api/shovels/vhost/{v}/nowhere", ADMINISTRATORS),
    get("DELETE /api/shovels/vhost/{v}/nowhere/restart", ADMINISTRATORS),
    get("GET /api/global-parameters", "pa PA"),
    get("GET /api/global-parameters/g", "pa PA"),
    set("PUT /api/global-parameters/g", VALUE, ADMINISTRATORS),
    after(
        r#"PUT /global-parameters/gone {"value":1}"#,
        "DELETE /api/global-parameters/gone",
        "",
        ADMINISTRATORS,
    ),
    // What is in a vhost: seen here, used in the other table.
    get("GET /api/exchanges", TAGGED),
    get("GET /api/exchanges/{v}", SEES),
    get("GET /api/exchanges/{v}/x", SEES),
    get("GET /api/exchanges/{v}/x/bindings/source", SEES),
    get("GET /api/exchanges/{v}/x/bindings/destination", SEES),
    get("GET /api/bindings", TAGGED),
    get("GET /api/bindings/{v}", SEES),
    get("GET /api/bindings/{v}/e/amq.fanout/q/q", SEES),
    get("GET /api/bindings/{v}/e/amq.fanout/q/q/k", SEES),
    get("GET /api/queues", TAGGED),
    get("GET /api/queues/detailed", TAGGED),
    get("GET /api/queues/{v}", SEES),
    get("GET /api/queues/{v}/q", SEES),
    get("GET /api/queues/{v}/q/bindings", SEES),
    set("POST /api/queues/{v}/q/actions", r#"{"action":"sync"}"#, ADMINISTRATORS),
    set("POST /api/explain", EXPLAIN, SEES),
    // What somebody else may do is an administrator's to know.
    set("POST /api/explain", r#"{"exchange":"x","routing_key":"k","user":"o"}"#, "o aA"),
    // Connections: one's own, and everybody's for those who monitor; who does not see one is told that it is not there.
    after("connection", "GET /api/connections", "", TAGGED),
    after("connection", "GET /api/connections/username/m", "", TAGGED),
    after("connection", "DELETE /api/connections/username/m", "", "m aA"),
    after("connection", "GET /api/connections/{c}", "", "m oa OA"),
    after("connection", "DELETE /api/connections/{c}", "", "m aA"),
    after("connection", "GET /api/connections/{c}/channels", "", "m oa OA"),
    after("connection", "GET /api/channels", "", TAGGED),
    after("connection", "GET /api/channels/{c}%20(1)", "", "m oa OA"),
    after("connection", "PUT /api/channels/{c}%20(1)", r#"{"prefetch":5}"#, "m aA"),
    after("connection", "GET /api/consumers", "", TAGGED),
    after("connection", "GET /api/consumers/{v}", "", SEES),
    after("connection", "PUT /api/consumers/%2F/{c}/1/tag", r#"{"prefetch":5}"#, "m aA"),
    after("connection", "DELETE /api/consumers/%2F/{c}/1/tag", "", "m aA"),
    // Definitions.
    get("GET /api/definitions", ADMINISTRATORS),
    set("POST /api/definitions", "{}", ADMINISTRATORS),
    get("GET /api/definitions/{v}", ADMINISTRATORS),
    set("POST /api/definitions/{v}", "{}", ADMINISTRATORS),
    // The engine.
    get("GET /api/rules", MONITORS),
    get("GET /api/rules/r", MONITORS),
    get("PUT /api/rules/r/stop", ADMINISTRATORS),
    // And who may read the queue `q`.
    get("GET /api/rules/r/dead-letters", "oa"),
    get("GET /api/rules/r/history", MONITORS),
    set("POST /api/rules/r/test", r#"{"event":{}}"#, MONITORS),
    set("POST /api/rules/r/replay", "{}", ADMINISTRATORS),
    get("GET /api/sources", MONITORS),
    get("GET /api/sources/s", MONITORS),
    get("PUT /api/sources/s/start", ADMINISTRATORS),
    get("PUT /api/sources/s/stop", ADMINISTRATORS),
    get("GET /api/topology", MONITORS),
    set("PUT /api/topology", "rules: {}", ADMINISTRATORS),
    set("POST /api/topology/plan", "rules: {}", ADMINISTRATORS),
    get("GET /api/secrets", MONITORS),
    get("GET /api/graph", TAGGED),
    get("GET /api/graph/{v}", SEES),
    get("GET /api/schedules", TAGGED),
    get("GET /api/schedules/{v}", SEES),
    get("GET /api/schedules/{v}/s", SEES),
    get("PUT /api/schedules/{v}/s/pause", POLICY),
    get("PUT /api/schedules/{v}/s/resume", POLICY),
    get("DELETE /api/schedules/{v}/nowhere", POLICY),
    set("PUT /api/schedules/{v}/mine", r#"{"cron":"@yearly","exchange":"x","routing_key":"k"}"#, SCHEDULES),
    get("POST /api/schedules/{v}/s/run", SCHEDULES),
    get("GET /api/delayed", TAGGED),
    get("GET /api/delayed/{v}", SEES),
    // Ends the cookie's login, so it is the last one.
    get("DELETE /api/login", ANYBODY),
];
