//! What is done in a vhost: over AMQP, the management API and HTTP for events the same users may do it. By RabbitMQ's
//! document on access control: which permission on what each operation needs.

use millpond_amqp_codec::{basic, channel, exchange, queue, tx};
use millpond_model::properties::Properties;
use millpond_model::table::{Table, Value};
use millpond_testkit::{Client, Event};

/// Method and path, body.
pub(super) type Request = (&'static str, &'static str);

/// One operation. Those without a tag, `n`, may do it over AMQP and HTTP for events as well, and over the management
/// API not.
pub(super) struct Operation {
    /// What AMQP does has its name in [`over_amqp`].
    pub(super) name: &'static str,
    pub(super) who: &'static str,
    pub(super) before: &'static str,
    pub(super) management: &'static [Request],
    pub(super) events: &'static [Request],
}

/// All three permissions.
const ALL: &str = "nmpoat";

const fn op(
    name: &'static str,
    who: &'static str,
    before: &'static str,
    management: &'static [Request],
    events: &'static [Request],
) -> Operation {
    Operation { name, who, before, management, events }
}

const GET: &str = r#"{"count":1,"ackmode":"ack_requeue_true","encoding":"auto"}"#;
const EVENT: &str = r#"{"specversion":"1.0","id":"1","source":"/t","type":"a.b"}"#;
const OTHER_EVENT: &str = r#"{"specversion":"1.0","id":"1","source":"/t","type":"b.b"}"#;
const MESSAGE: &str = r#"{"properties":{},"routing_key":"a.b","payload":"","payload_encoding":"string"}"#;
const OTHER_MESSAGE: &str =
    r#"{"properties":{},"routing_key":"b.b","payload":"","payload_encoding":"string"}"#;
const COPIED: &str = r#"{"properties":{"headers":{"CC":["b.b"]}},"routing_key":"a.b","payload":"","payload_encoding":"string"}"#;
const LATER: &str =
    r#"PUT /exchanges/%2F/xlater {"type":"x-delayed-message","arguments":{"x-delayed-type":"fanout"}}"#;

pub(super) const OPERATIONS: &[Operation] = &[
    op("declare queue", "nmpoat cq", "", &[("PUT /api/queues/{v}/q", r#"{"durable":true}"#)], &[]),
    op(
        "declare queue with dead letters",
        ALL,
        "DELETE /queues/%2F/qfresh",
        &[("PUT /api/queues/{v}/qfresh", r#"{"arguments":{"x-dead-letter-exchange":"xd"}}"#)],
        &[],
    ),
    // It changes nothing, so it asks for nothing more.
    op(
        "declare queue with dead letters again",
        "nmpoat cq",
        "",
        &[("PUT /api/queues/%2F/qdead", r#"{"arguments":{"x-dead-letter-exchange":"xd"}}"#)],
        &[],
    ),
    op("declare queue passively", "nmpoacwretqx", "", &[], &[]),
    op("declare nameless queue", "nmpoat c", "", &[], &[]),
    op("declare exchange", "nmpoat cx", "", &[("PUT /api/exchanges/{v}/x", r#"{"type":"direct"}"#)], &[]),
    op(
        "declare exchange with alternate",
        "nmpoat x",
        "DELETE /exchanges/%2F/xfresh",
        &[("PUT /api/exchanges/{v}/xfresh", r#"{"type":"fanout","arguments":{"alternate-exchange":"xd"}}"#)],
        &[],
    ),
    op("declare exchange passively", "nmpoacwretqx", "", &[], &[]),
    op(
        "delete queue",
        "nmpoat cq",
        "PUT /queues/{v}/qgone {}",
        &[("DELETE /api/queues/{v}/qgone", "")],
        &[("DELETE /events/qgone?vhost={v}", "")],
    ),
    op(
        "delete exchange",
        "nmpoat cx",
        r#"PUT /exchanges/{v}/xgone {"type":"fanout"}"#,
        &[("DELETE /api/exchanges/{v}/xgone", "")],
        &[],
    ),
    op(
        "bind queue",
        ALL,
        "",
        &[("POST /api/bindings/{v}/e/x/q/q", r#"{"routing_key":"k"}"#)],
        &[("PUT /events/q?exchange=x&vhost={v}", "")],
    ),
    op(
        "bind queue to a key",
        ALL,
        "",
        &[("POST /api/bindings/%2F/e/xt/q/q", r#"{"routing_key":"a.b"}"#)],
        &[],
    ),
    op(
        "bind queue to another key",
        "nmpoa",
        "",
        &[("POST /api/bindings/%2F/e/xt/q/q", r#"{"routing_key":"b.b"}"#)],
        &[],
    ),
    op(
        "unbind queue",
        ALL,
        r#"POST /bindings/{v}/e/x/q/q {"routing_key":"gone"}"#,
        &[("DELETE /api/bindings/{v}/e/x/q/q/gone", "")],
        &[],
    ),
    op(
        "bind exchange",
        "nmpoat x",
        "",
        &[("POST /api/bindings/{v}/e/x/e/xd", r#"{"routing_key":"k"}"#)],
        &[],
    ),
    op(
        "unbind exchange",
        "nmpoat x",
        r#"POST /bindings/{v}/e/x/e/xd {"routing_key":"gone"}"#,
        &[("DELETE /api/bindings/{v}/e/x/e/xd/gone", "")],
        &[],
    ),
    op(
        "make a queue and bind it",
        ALL,
        "DELETE /queues/{v}/qmade",
        &[],
        &[("PUT /events/qmade?exchange=x&vhost={v}", "")],
    ),
    op(
        "publish",
        "nmpoat wx",
        "",
        &[("POST /api/exchanges/{v}/x/publish", MESSAGE)],
        &[("POST /events?exchange=x&vhost={v}", EVENT)],
    ),
    op(
        "publish with a key",
        "nmpoat wx",
        "",
        &[("POST /api/exchanges/%2F/xt/publish", MESSAGE)],
        &[("POST /events?exchange=xt", EVENT)],
    ),
    op(
        "publish with another key",
        "nmpoa wx",
        "",
        &[("POST /api/exchanges/%2F/xt/publish", OTHER_MESSAGE)],
        &[("POST /events?exchange=xt", OTHER_EVENT)],
    ),
    op("publish with copies", "nmpoa wx", "", &[("POST /api/exchanges/%2F/xt/publish", COPIED)], &[]),
    op(
        "publish to the default exchange",
        "nmpoat w",
        "",
        &[("POST /api/exchanges/{v}/amq.default/publish", MESSAGE)],
        &[("POST /events?exchange=&vhost={v}", EVENT)],
    ),
    // What an alternate exchange gets was published to the other one.
    op(
        "publish past an exchange",
        "nmpoat wx",
        "",
        &[("POST /api/exchanges/%2F/xalt/publish", MESSAGE)],
        &[("POST /events?exchange=xalt", EVENT)],
    ),
    op("publish in a transaction", "nmpoat wx", "", &[], &[]),
    op(
        "get",
        "nmpoat rq",
        "",
        &[("POST /api/queues/{v}/q/get", GET), ("GET /api/queues/{v}/q/messages", "")],
        &[("GET /events/qempty?vhost={v}", "")],
    ),
    op("consume", "nmpoat rq", "", &[], &[("GET /events/qempty?vhost={v}", "")]),
    op("purge", "nmpoat rq", "", &[("DELETE /api/queues/{v}/qempty/contents", "")], &[]),
    // Beyond AMQP: like delete, and like get with a publish of what was got.
    op(
        "pause",
        "nmpoat cq",
        "",
        &[("PUT /api/queues/{v}/qempty/pause", ""), ("PUT /api/queues/{v}/qempty/resume", "")],
        &[],
    ),
    op("redrive", "nmpoat rq", "", &[("POST /api/queues/{v}/qempty/redrive", "{}")], &[]),
    op(
        "move to a queue",
        "nmpoat q",
        "",
        &[("POST /api/queues/{v}/qempty/move", r#"{"to":{"queue":"q"}}"#)],
        &[],
    ),
    op(
        "move to an exchange",
        ALL,
        "",
        &[("POST /api/queues/{v}/qempty/move", r#"{"to":{"exchange":"x"}}"#)],
        &[],
    ),
    op("aliveness", ALL, "", &[("GET /api/aliveness-test/{v}", "")], &[]),
    // Who may bind to an exchange sees what passes it, who may publish to it takes it back.
    op("see delayed", "nmpoat rx", LATER, &[("GET /api/delayed/{v}/xlater", "")], &[]),
    op(
        "cancel delayed",
        "nmpoat wx",
        LATER,
        &[
            ("DELETE /api/delayed/{v}/xlater?message_id=nowhere", ""),
            ("DELETE /api/delayed/{v}/xlater/1?nowhere", ""),
        ],
        &[],
    ),
    // A receipt is whose the event was given to; nobody else settles anything.
    op(
        "settle",
        "nmpoacwretqx NMPOA",
        "",
        &[],
        &[
            ("POST /events/q/ack", r#"{"receipts":["never"]}"#),
            ("POST /events/q/nack", r#"{"receipts":["never"]}"#),
        ],
    ),
];

fn with(name: &str, value: impl Into<Value>) -> Vec<u8> {
    let mut table = Table::new();
    table.push(name, value);
    table.encode().unwrap().as_raw().as_bytes().to_vec()
}

/// Does an operation on a channel of its own; whether it was let in. `None`: AMQP has no such operation.
pub(super) async fn over_amqp(client: &mut Client, number: u16, name: &str) -> Option<bool> {
    if !send(client, number, name).await {
        return None;
    }
    // After it comes the answer, or the end of the channel; a publish has none.
    client.send(number, channel::Flow { active: true }).await;
    loop {
        match client.event().await {
            Event::ChannelClosed { code: 403, .. } => return Some(false),
            Event::Method { name: "channel.flow-ok", .. } => break,
            Event::Method { .. } | Event::Got { .. } => {}
            other => panic!("{name}: {other:?}"),
        }
    }
    client.send(number, channel::Close { reply_code: 200, ..Default::default() }).await;
    while !matches!(client.event().await, Event::Method { name: "channel.close-ok", .. }) {}
    Some(true)
}

async fn send(client: &mut Client, on: u16, name: &str) -> bool {
    client.open_channel(on).await;
    define(client, on, name).await || use_it(client, on, name).await
}

/// Sends what declares and deletes.
async fn define(client: &mut Client, on: u16, name: &str) -> bool {
    let dead = with("x-dead-letter-exchange", "xd");
    let alternate = with("alternate-exchange", "xd");
    match name {
        "declare queue" => {
            client.send(on, queue::Declare { queue: "q", durable: true, ..Default::default() }).await;
        }
        "declare queue with dead letters" => {
            let arguments = table(&dead);
            client.send(on, queue::Declare { queue: "qfresh", arguments, ..Default::default() }).await;
        }
        "declare queue with dead letters again" => {
            let arguments = table(&dead);
            client.send(on, queue::Declare { queue: "qdead", arguments, ..Default::default() }).await;
        }
        "declare queue passively" => {
            client.send(on, queue::Declare { queue: "q", passive: true, ..Default::default() }).await;
        }
        "declare nameless queue" => {
            client.send(on, queue::Declare { exclusive: true, ..Default::default() }).await;
        }
        "declare exchange" => {
            client.send(on, exchange::Declare { exchange: "x", kind: "direct", ..Default::default() }).await;
        }
        "declare exchange with alternate" => {
            let arguments = table(&alternate);
            let declare =
                exchange::Declare { exchange: "xfresh", kind: "fanout", arguments, ..Default::default() };
            client.send(on, declare).await;
        }
        "declare exchange passively" => {
            client.send(on, exchange::Declare { exchange: "x", passive: true, ..Default::default() }).await;
        }
        "delete queue" => client.send(on, queue::Delete { queue: "qgone", ..Default::default() }).await,
        "delete exchange" => {
            client.send(on, exchange::Delete { exchange: "xgone", ..Default::default() }).await;
        }
        _ => return false,
    }
    true
}

/// Sends what binds, publishes and consumes.
async fn use_it(client: &mut Client, on: u16, name: &str) -> bool {
    match name {
        "bind queue" => bind(client, on, "x", b"k").await,
        "bind queue to a key" => bind(client, on, "xt", b"a.b").await,
        "bind queue to another key" => bind(client, on, "xt", b"b.b").await,
        "unbind queue" => {
            let unbind =
                queue::Unbind { queue: "q", exchange: "x", routing_key: b"gone", ..Default::default() };
            client.send(on, unbind).await;
        }
        "bind exchange" => {
            let bind =
                exchange::Bind { destination: "xd", source: "x", routing_key: b"k", ..Default::default() };
            client.send(on, bind).await;
        }
        "unbind exchange" => {
            let unbind = exchange::Unbind {
                destination: "xd",
                source: "x",
                routing_key: b"gone",
                ..Default::default()
            };
            client.send(on, unbind).await;
        }
        "publish" => publish(client, on, "x", b"a.b", &[0, 0]).await,
        "publish with a key" => publish(client, on, "xt", b"a.b", &[0, 0]).await,
        "publish with another key" => publish(client, on, "xt", b"b.b", &[0, 0]).await,
        "publish with copies" => {
            let mut headers = Table::new();
            headers.push("CC", Value::from(vec![Value::from("b.b")]));
            let properties = Properties { headers, ..Properties::default() };
            publish(client, on, "xt", b"a.b", &properties.encode().unwrap()).await;
        }
        "publish to the default exchange" => publish(client, on, "", b"a.b", &[0, 0]).await,
        "publish past an exchange" => publish(client, on, "xalt", b"a.b", &[0, 0]).await,
        "publish in a transaction" => {
            client.send(on, tx::Select {}).await;
            publish(client, on, "x", b"k", &[0, 0]).await;
            client.send(on, tx::Commit {}).await;
        }
        "get" => client.send(on, basic::Get { queue: "q", ..Default::default() }).await,
        "consume" => client.send(on, basic::Consume { queue: "qempty", ..Default::default() }).await,
        "purge" => client.send(on, queue::Purge { queue: "qempty", ..Default::default() }).await,
        _ => return false,
    }
    true
}

async fn bind(client: &mut Client, on: u16, exchange: &str, routing_key: &[u8]) {
    client.send(on, queue::Bind { queue: "q", exchange, routing_key, ..Default::default() }).await;
}

async fn publish(client: &mut Client, on: u16, exchange: &str, routing_key: &[u8], properties: &[u8]) {
    let method = basic::Publish { exchange: exchange.as_bytes(), routing_key, ..Default::default() };
    client.publish(on, method, properties, b"body").await;
}

fn table(bytes: &[u8]) -> millpond_model::table::RawTable<'_> {
    millpond_model::table::RawTable::parse(bytes).unwrap()
}
