//! Pages, filters, order, columns.

use super::*;

const PAGES: &[Step] = &[
    ("PUT /api/vhosts/a", "", 201, ""),
    ("PUT /api/vhosts/z", "", 201, ""),
    ("PUT /api/queues/z/last", r#"{"durable":true}"#, 201, ""),
    (
        "GET /api/queues?page=1&page_size=2&columns=name",
        "",
        200,
        r#"{"filtered_count":5,"item_count":2,"items":[{"name":"QBig"},{"name":"other"}],"page":1,"page_count":3,"page_size":2,"total_count":5}"#,
    ),
    ("GET /api/queues?page=2&page_size=2&columns=name", "", 200, r#""items":[{"name":"q1"},{"name":"q2"}]"#),
    ("GET /api/queues?page=3&page_size=2&columns=name", "", 200, r#""items":[{"name":"last"}]"#),
    ("GET /api/queues?page=9&page_size=2", "", 400, "page_out_of_range"),
    ("GET /api/queues?page=0&page_size=2", "", 400, "invalid_pagination_parameters"),
    ("GET /api/queues?page=1&page_size=501", "", 400, "invalid_pagination_parameters"),
    ("GET /api/queues?page=x", "", 400, "Pagination parameters are invalid"),
    ("GET /api/queues?page=1&name=q%5B&use_regex=true", "", 400, "bad_request"),
    (
        "GET /api/queues?page=1&name=qb&columns=name",
        "",
        200,
        r#""filtered_count":1,"item_count":1,"items":[{"name":"QBig"}]"#,
    ),
    (
        "GET /api/queues?page=1&name=%5Eq%5B0-9%5D&use_regex=true&columns=name",
        "",
        200,
        r#""filtered_count":2"#,
    ),
    (
        "GET /api/queues?page=1&name=none&columns=name",
        "",
        200,
        r#""filtered_count":0,"item_count":0,"items":[],"page":1,"page_count":1"#,
    ),
    (
        "GET /api/queues/%2F?sort=name&sort_reverse=true&columns=name",
        "",
        200,
        r#"[{"name":"q2"},{"name":"q1"},{"name":"other"},{"name":"QBig"}]"#,
    ),
    (
        "GET /api/queues/%2F?page=1&page_size=1&sort=name&sort_reverse=true&columns=name",
        "",
        200,
        r#""items":[{"name":"q2"}]"#,
    ),
    (
        "GET /api/queues/%2F?page=2&page_size=1&sort=name&columns=name",
        "",
        200,
        r#""items":[{"name":"other"}]"#,
    ),
    (
        "POST /api/exchanges/%2F/amq.default/publish",
        r#"{"properties":{},"routing_key":"q1","payload":"x","payload_encoding":"string"}"#,
        200,
        "true",
    ),
    (
        "GET /api/queues?page=1&page_size=1&sort=messages&sort_reverse=true&columns=name,messages",
        "",
        200,
        r#""items":[{"messages":1,"name":"q1"}]"#,
    ),
    (
        "GET /api/queues?page=1&page_size=2&sort=name&columns=name",
        "",
        200,
        r#""items":[{"name":"QBig"},{"name":"last"}]"#,
    ),
    (
        "GET /api/queues?page=1&page_size=2&sort=type&columns=name",
        "",
        200,
        r#""items":[{"name":"QBig"},{"name":"other"}]"#,
    ),
    (
        "GET /api/queues?page=3&page_size=2&sort=messages_ready&columns=name",
        "",
        200,
        r#""items":[{"name":"q1"}]"#,
    ),
    ("GET /api/exchanges?page=1&page_size=1&name=x&columns=name", "", 200, r#""filtered_count":0"#),
    ("GET /api/exchanges/%2F?page=1&name=TOPIC&columns=name", "", 200, r#""items":[{"name":"amq.topic"}]"#),
];

/// Orders of queues: name, `type`, `state`, arguments, what there is none of; and what is equal in them by name.
const ORDERS: &[Step] = &[
    ("PUT /api/vhosts/v", "", 201, ""),
    ("PUT /api/queues/v/a", r#"{"durable":true,"arguments":{"x-max-length":10}}"#, 201, ""),
    ("PUT /api/queues/v/b", r#"{"durable":true,"arguments":{"x-queue-type":"stream"}}"#, 201, ""),
    ("PUT /api/queues/v/c", r#"{"auto_delete":true,"arguments":{"x-max-length":9}}"#, 201, ""),
    ("PUT /api/queues/v/d", r#"{"durable":true,"arguments":{"x-queue-type":"quorum"}}"#, 201, ""),
    ("PUT /api/policies/v/p", r#"{"pattern":"^b","definition":{"max-age":"7D"}}"#, 201, ""),
    ("PUT /api/queues/v/d/pause", "", 204, ""),
    ("GET /api/queues/v?sort=name&sort_reverse=true&columns=name", "", 200, NAMES_DCBA),
    (
        "GET /api/queues/v?sort=type&columns=name",
        "",
        200,
        r#"[{"name":"a"},{"name":"c"},{"name":"d"},{"name":"b"}]"#,
    ),
    (
        "GET /api/queues/v?sort=state&columns=name",
        "",
        200,
        r#"[{"name":"d"},{"name":"a"},{"name":"b"},{"name":"c"}]"#,
    ),
    (
        "GET /api/queues/v?sort=durable&columns=name",
        "",
        200,
        r#"[{"name":"c"},{"name":"a"},{"name":"b"},{"name":"d"}]"#,
    ),
    (
        "GET /api/queues/v?sort=policy&sort_reverse=true&columns=name&page=1&page_size=1",
        "",
        200,
        r#"[{"name":"b"}]"#,
    ),
    (
        "GET /api/queues/v?sort=auto_delete&sort_reverse=true&columns=name&page=1&page_size=1",
        "",
        200,
        r#"[{"name":"c"}]"#,
    ),
    (
        "GET /api/queues/v?sort=arguments.x-max-length&columns=name",
        "",
        200,
        r#"[{"name":"b"},{"name":"d"},{"name":"c"},{"name":"a"}]"#,
    ),
    (
        "GET /api/queues/v?sort=arguments.x-max-length&sort_reverse=true&columns=name&page=2&page_size=2",
        "",
        200,
        r#""items":[{"name":"d"},{"name":"b"}]"#,
    ),
    ("GET /api/queues/v?sort=memory&sort_reverse=true&columns=name", "", 200, NAMES_DCBA),
    ("GET /api/queues/v?sort=a.b.c.d&columns=name&page=4&page_size=1", "", 200, r#""items":[{"name":"d"}]"#),
    (
        "GET /api/queues/v?page=2&page_size=3&sort_reverse=true&columns=name",
        "",
        200,
        r#""items":[{"name":"a"}]"#,
    ),
    ("POST /api/bindings/v/e/amq.topic/q/a", r#"{"routing_key":"z"}"#, 201, ""),
    ("POST /api/bindings/v/e/amq.direct/q/b", r#"{"routing_key":"k"}"#, 201, ""),
    (
        "GET /api/bindings/v?page=2&page_size=3&columns=source,destination",
        "",
        200,
        r#""items":[{"destination":"d","source":""},{"destination":"b","source":"amq.direct"},{"destination":"a","source":"amq.topic"}]"#,
    ),
    (
        "GET /api/bindings?page=3&page_size=2&columns=source,vhost",
        "",
        200,
        r#"{"source":"amq.direct","vhost":"v"}"#,
    ),
    (
        "GET /api/bindings/v?page=1&page_size=2&sort=routing_key&sort_reverse=true&columns=routing_key",
        "",
        200,
        r#""items":[{"routing_key":"z"},{"routing_key":"k"}]"#,
    ),
    ("GET /api/bindings/v?page=4&page_size=2", "", 400, "page_out_of_range"),
    ("GET /api/bindings/v?page=1&name=x", "", 200, r#""filtered_count":0"#),
    (
        "GET /api/exchanges/v?page=1&page_size=1&sort=name&sort_reverse=true&columns=name",
        "",
        200,
        r#""items":[{"name":"amq.topic"}]"#,
    ),
    (
        "GET /api/exchanges/v?page=1&page_size=2&sort=durable&columns=name",
        "",
        200,
        r#""items":[{"name":""},{"name":"amq.direct"}]"#,
    ),
    (
        "GET /api/exchanges/v?page=1&page_size=2&sort=type&columns=name",
        "",
        200,
        r#""items":[{"name":""},{"name":"amq.direct"}]"#,
    ),
];

const NAMES_DCBA: &str = r#"[{"name":"d"},{"name":"c"},{"name":"b"},{"name":"a"}]"#;

#[tokio::test]
async fn pages_are_cut_out_of_every_order() {
    walk(&TestServer::start().await, ORDERS).await;
}

#[tokio::test]
async fn lists_have_pages_filters_order_and_columns() {
    let server = TestServer::start().await;
    for name in ["q2", "QBig", "q1", "other"] {
        let answer = ask(&server, &format!("PUT /api/queues/%2F/{name}"), &[], "{}").await;
        assert_eq!(answer.status, 201, "{}", answer.body);
    }
    walk(&server, PAGES).await;
}
