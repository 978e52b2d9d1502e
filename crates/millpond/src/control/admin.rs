//! What the command line asks for an operator: vhosts, policies, limits, queues, alarms.

use super::{Listing, Rooms, Shown};
use crate::settings::{ByteSize, SettingValue, Watermark};
use crate::watchdog;
use anyhow::{Context, Result, anyhow, bail};
use millpond_broker::{
    ApplyTo, AuditObject, Broker, ConsumerChange, ConsumersMeant, PolicyDefinition, PolicyKind, PolicySpec,
    QueueInfo, QueueType, Resource, RetainedFigures, UserLimits, VhostLimits, VhostSpec, argument_value,
};
use millpond_events::show_time;
use millpond_model::table::{Table, Value};
use millpond_model::{QueueName, UserName, VhostName};
use serde::{Deserialize, Serialize};
use serde_json::Value as Cell;
use std::time::{Duration, UNIX_EPOCH};

/// What may be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub(crate) enum AdminRequest {
    /// Every vhost.
    ListVhosts,
    /// Make or change a vhost.
    AddVhost { vhost: String, description: String, default_queue_type: Option<String> },
    /// Delete a vhost with all that is in it.
    DeleteVhost { vhost: String },
    /// The policies of a vhost.
    ListPolicies { vhost: String, operator: bool },
    /// Set a policy.
    SetPolicy { vhost: String, operator: bool, policy: PolicyText },
    /// Clear a policy.
    ClearPolicy { vhost: String, operator: bool, name: String },
    /// All limits that are set.
    ListLimits,
    /// Change limits of a vhost; those not named stay.
    LimitVhost { vhost: String, connections: Option<LimitText>, queues: Option<LimitText> },
    /// Change limits of a user; those not named stay.
    LimitUser { user: String, connections: Option<LimitText>, channels: Option<LimitText> },
    /// The queues of a vhost.
    ListQueues { vhost: String },
    /// One queue and what it acts by.
    ShowQueue { vhost: String, queue: String },
    /// The queues that should go on and do not, of all vhosts.
    ListStuck,
    /// The alarms, and what is measured.
    ShowAlarms,
    /// Other limits for alarms, until the restart.
    LimitAlarms { memory_high_watermark: Option<String>, disk_free_min: Option<String> },
    /// Alter arguments of a queue: `max-length=10`, and `max-length=` takes it away.
    AlterQueue { vhost: String, queue: String, changes: Vec<String> },
    /// Change the pace or the leases of the consumers with a tag: `rate=10`.
    PaceConsumers { vhost: String, queue: String, tag: String, changes: Vec<String> },
}

/// A policy as a person writes it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PolicyText {
    pub(crate) name: String,
    pub(crate) pattern: String,
    pub(crate) apply_to: String,
    pub(crate) priority: i64,
    pub(crate) definition: String,
}

/// A number, or `none`.
pub(crate) type LimitText = String;

/// Does what is asked; what to tell the person.
pub(crate) async fn carry_out(request: AdminRequest, rooms: &Rooms) -> Result<Shown> {
    let broker = &rooms.broker;
    Ok(match request {
        AdminRequest::ListVhosts => list_vhosts(broker).into(),
        AdminRequest::ListPolicies { vhost, operator } => {
            list_policies(broker, &vhost, kind(operator))?.into()
        }
        AdminRequest::ListLimits => list_limits(broker).into(),
        AdminRequest::ListQueues { vhost } => list_queues(broker, &vhost)?.into(),
        AdminRequest::ShowAlarms => list_alarms(rooms).into(),
        AdminRequest::LimitAlarms { memory_high_watermark, disk_free_min } => {
            limit_alarms(rooms, memory_high_watermark.as_deref(), disk_free_min.as_deref())?.into()
        }
        AdminRequest::ListStuck => {
            let report = broker.stuck_queues();
            Shown::One { text: watchdog::report_text(&report), json: watchdog::report_json(&report) }
        }
        other => tell(other, broker).await?.into(),
    })
}

/// What is answered by a text.
async fn tell(request: AdminRequest, broker: &Broker) -> Result<String> {
    match request {
        AdminRequest::AddVhost { vhost, description, default_queue_type } => {
            add_vhost(broker, &vhost, &description, default_queue_type.as_deref()).await
        }
        AdminRequest::DeleteVhost { vhost } => {
            broker.delete_vhost(&VhostName::new(&vhost)?)?.await?;
            Ok(format!("vhost {vhost} is deleted with all that was in it"))
        }
        AdminRequest::SetPolicy { vhost, operator, policy } => {
            set_policy(broker, &vhost, kind(operator), policy).await
        }
        AdminRequest::ClearPolicy { vhost, operator, name } => {
            broker.clear_policy(&VhostName::new(&vhost)?, kind(operator), &name)?.await?;
            Ok(format!("{} {name} is cleared", kind(operator).as_str()))
        }
        AdminRequest::LimitVhost { vhost, connections, queues } => {
            limit_vhost(broker, &vhost, connections.as_deref(), queues.as_deref()).await
        }
        AdminRequest::LimitUser { user, connections, channels } => {
            limit_user(broker, &user, connections.as_deref(), channels.as_deref()).await
        }
        AdminRequest::ShowQueue { vhost, queue } => {
            let found = find_queue(broker, &vhost, &queue)?;
            let mut text = show_queue(&found);
            // A stream gives nothing away: it has no pace and nothing that waits.
            if found.queue_type != QueueType::Stream {
                let figures = broker.queue_figures(&VhostName::new(&vhost)?, &found.name)?;
                text = format!("{text}\n{}", super::pace::figures_text(&figures));
            }
            Ok(text)
        }
        AdminRequest::AlterQueue { vhost, queue, changes } => {
            alter_queue(broker, &vhost, &queue, &changes).await
        }
        AdminRequest::PaceConsumers { vhost, queue, tag, changes } => {
            pace_consumers(broker, &vhost, &queue, &tag, &changes)
        }
        _ => bail!("a listing is no text"),
    }
}

fn kind(operator: bool) -> PolicyKind {
    if operator { PolicyKind::Operator } else { PolicyKind::User }
}

async fn add_vhost(
    broker: &Broker,
    vhost: &str,
    description: &str,
    default_queue_type: Option<&str>,
) -> Result<String> {
    let parse = |text: &str| {
        QueueType::parse(text)
            .with_context(|| format!("'{text}' is no queue type: use classic, quorum or stream"))
    };
    let name = VhostName::new(vhost)?;
    let before = broker.list_vhosts().into_iter().find(|it| it.name == name);
    let spec = VhostSpec {
        name,
        description: description.into(),
        default_queue_type: default_queue_type.map(parse).transpose()?,
        is_protected: before.as_ref().is_some_and(|it| it.is_protected),
        tags: before.map(|it| it.tags).unwrap_or_default(),
    };
    let (is_new, saved) = broker.set_vhost(&spec)?;
    saved.await?;
    Ok(format!("vhost {vhost} is {}", if is_new { "added" } else { "changed" }))
}

async fn set_policy(broker: &Broker, vhost: &str, kind: PolicyKind, policy: PolicyText) -> Result<String> {
    let spec = PolicySpec {
        name: policy.name.into(),
        pattern: policy.pattern.into(),
        apply_to: ApplyTo::parse(&policy.apply_to)?,
        priority: policy.priority,
        definition: PolicyDefinition::from_json(&policy.definition)?,
    };
    let name = spec.name.clone();
    broker.set_policy(&VhostName::new(vhost)?, kind, spec)?.await?;
    Ok(format!("{} {name} is in force", kind.as_str()))
}

/// A new value for a limit: what is written, or what it was.
fn limit(text: Option<&str>, was: Option<u64>) -> Result<Option<u64>> {
    match text {
        None => Ok(was),
        Some("none") => Ok(None),
        Some(text) => {
            let number = text.parse();
            Ok(Some(number.with_context(|| format!("a limit is a whole number or none, not '{text}'"))?))
        }
    }
}

async fn limit_vhost(
    broker: &Broker,
    vhost: &str,
    connections: Option<&str>,
    queues: Option<&str>,
) -> Result<String> {
    let name = VhostName::new(vhost)?;
    let known = broker.list_vhosts().into_iter().find(|it| it.name == name);
    let was = known.with_context(|| format!("no vhost '{vhost}'"))?.limits;
    let limits = VhostLimits {
        connections_max: limit(connections, was.connections_max)?,
        queues_max: limit(queues, was.queues_max)?,
    };
    broker.set_vhost_limits(&name, limits)?.await?;
    Ok(format!(
        "vhost {vhost}: max-connections {}, max-queues {}",
        show_limit(limits.connections_max),
        show_limit(limits.queues_max)
    ))
}

async fn limit_user(
    broker: &Broker,
    user: &str,
    connections: Option<&str>,
    channels: Option<&str>,
) -> Result<String> {
    let name = UserName::new(user)?;
    let was = broker.user_limits(&name);
    let limits = UserLimits {
        connections_max: limit(connections, was.connections_max)?,
        channels_max: limit(channels, was.channels_max)?,
    };
    broker.set_user_limits(&name, limits)?.await?;
    Ok(format!(
        "user {user}: max-connections {}, max-channels {}",
        show_limit(limits.connections_max),
        show_limit(limits.channels_max)
    ))
}

fn limit_alarms(rooms: &Rooms, watermark: Option<&str>, disk_free_min: Option<&str>) -> Result<Listing> {
    let watermark = watermark.map(Watermark::parse).transpose();
    let watermark = watermark.map_err(|reason| anyhow!("memory-high-watermark {reason}"))?;
    let disk = disk_free_min.map(ByteSize::parse).transpose();
    let disk = disk.map_err(|reason| anyhow!("disk-free-min {reason}"))?;
    rooms.watch.set_limits(watermark, disk.map(|size| size.0));
    let limits = rooms.watch.limits();
    let (memory, disk) = (limits.memory_max_bytes, limits.disk_free_min_bytes);
    let detail = format!("memory at most {memory} bytes, disk at least {disk} bytes free");
    rooms.broker.audit("alarm.limits.set", AuditObject::named("node", ""), &detail);
    Ok(list_alarms(rooms))
}

fn list_alarms(rooms: &Rooms) -> Listing {
    let (measured, limits) = (rooms.watch.measure(), rooms.watch.limits());
    let alarms = rooms.broker.alarms();
    let state = |resource| if alarms.iter().any(|it| it.resource == resource) { "ALARM" } else { "ok" };
    let show = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), mebibytes);
    let most = match limits.memory_max_bytes {
        u64::MAX => "none".to_owned(),
        bytes => format!("at most {}", mebibytes(bytes)),
    };
    let least = format!("at least {}", mebibytes(limits.disk_free_min_bytes));
    let row = |resource: Resource, now: Option<u64>, limit: String| {
        [resource.as_str().into(), state(resource).into(), show(now).into(), limit.into()]
    };
    Listing::new(&["RESOURCE", "STATE", "NOW", "LIMIT"], "").with([
        row(Resource::Memory, measured.memory_bytes, most),
        row(Resource::Disk, measured.disk_free_bytes, least),
    ])
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn find_queue(broker: &Broker, vhost: &str, queue: &str) -> Result<QueueInfo> {
    let queues = broker.list_queues(&VhostName::new(vhost)?)?;
    let found = queues.into_iter().find(|it| it.name.as_str() == queue);
    found.with_context(|| format!("no queue '{queue}' in vhost '{vhost}'"))
}

/// `NAME=VALUE` each, the name with or without `x-`.
fn changes_table(changes: &[String]) -> Result<Table> {
    let mut table = Table::new();
    for change in changes {
        let Some((name, text)) = change.split_once('=') else {
            bail!("'{change}' is no change: write NAME=VALUE, or NAME= to take an argument away");
        };
        let name = if name.starts_with("x-") { name.to_owned() } else { format!("x-{name}") };
        let value = if text.is_empty() { Value::Void } else { argument_value(&name, text) };
        table.set(&name, value);
    }
    Ok(table)
}

async fn alter_queue(broker: &Broker, vhost: &str, queue: &str, changes: &[String]) -> Result<String> {
    let table = changes_table(changes)?;
    broker.alter_queue(&VhostName::new(vhost)?, &QueueName::new(queue)?, &table)?.await?;
    Ok(show_queue(&find_queue(broker, vhost, queue)?))
}

fn pace_consumers(
    broker: &Broker,
    vhost: &str,
    queue: &str,
    tag: &str,
    changes: &[String],
) -> Result<String> {
    let table = changes_table(changes)?;
    let known = ["x-rate", "x-rate-window", "x-consumer-timeout"];
    if let Some((name, _)) =
        table.iter().find(|(name, value)| !known.contains(&&**name) || matches!(value, Value::Void))
    {
        bail!("'{name}' is not changed here: give rate=, rate-window= or consumer-timeout= with a value");
    }
    let name = QueueName::new(queue)?;
    let meant = ConsumersMeant { queue: Some(&name), tag: Some(tag), ..ConsumersMeant::default() };
    let change = ConsumerChange { arguments: table, ..ConsumerChange::default() };
    match broker.change_consumers(&VhostName::new(vhost)?, meant, &change)? {
        0 => bail!("queue '{queue}' has no consumer with the tag '{tag}'"),
        1 => Ok(format!("1 consumer of '{queue}' changed")),
        many => Ok(format!("{many} consumers of '{queue}' changed")),
    }
}

// ---- listings

fn show_limit(limit: Option<u64>) -> String {
    limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string())
}

fn list_vhosts(broker: &Broker) -> Listing {
    let rows = broker.list_vhosts().into_iter().map(|vhost| {
        [
            vhost.name.to_string().into(),
            vhost.default_queue_type.map(QueueType::as_str).into(),
            vhost.connections.into(),
            vhost.queues.into(),
            vhost.description.to_string().into(),
        ]
    });
    let head = ["VHOST", "DEFAULT QUEUE TYPE", "CONNECTIONS", "QUEUES", "DESCRIPTION"];
    Listing::new(&head, "no vhosts").with(rows)
}

fn list_policies(broker: &Broker, vhost: &str, kind: PolicyKind) -> Result<Listing> {
    let rows = broker.list_policies(&VhostName::new(vhost)?, kind)?.into_iter().map(|policy| {
        [
            policy.name.to_string().into(),
            policy.pattern.to_string().into(),
            policy.apply_to.to_string().into(),
            policy.priority.into(),
            definition(&policy.definition.to_json()),
        ]
    });
    let head = ["NAME", "PATTERN", "APPLIES TO", "PRIORITY", "DEFINITION"];
    Ok(Listing::new(&head, format!("no {} in vhost {vhost}", kind.as_str())).with(rows))
}

/// As an object, for a program that reads it.
fn definition(json: &str) -> Cell {
    serde_json::from_str(json).unwrap_or_else(|_| json.into())
}

fn list_limits(broker: &Broker) -> Listing {
    let mut rows = Vec::new();
    let mut row = |of: String, limit: &str, value: Option<u64>| {
        if let Some(value) = value {
            rows.push([Cell::from(of), limit.into(), value.into()]);
        }
    };
    for vhost in broker.list_vhosts() {
        row(format!("vhost {}", vhost.name), "max-connections", vhost.limits.connections_max);
        row(format!("vhost {}", vhost.name), "max-queues", vhost.limits.queues_max);
    }
    for (user, limits) in broker.list_user_limits() {
        row(format!("user {user}"), "max-connections", limits.connections_max);
        row(format!("user {user}"), "max-channels", limits.channels_max);
    }
    Listing::new(&["OF", "LIMIT", "VALUE"], "no limits").with(rows)
}

fn list_queues(broker: &Broker, vhost: &str) -> Result<Listing> {
    let rows = broker.list_queues(&VhostName::new(vhost)?)?.into_iter().map(|queue| {
        [
            queue.name.to_string().into(),
            queue.queue_type.as_str().into(),
            queue.ready.into(),
            queue.unacked.into(),
            queue.consumers.into(),
            queue.policy.map(String::from).into(),
            queue.operator_policy.map(String::from).into(),
        ]
    });
    let head = ["NAME", "TYPE", "READY", "UNACKED", "CONSUMERS", "POLICY", "OPERATOR POLICY"];
    Ok(Listing::new(&head, format!("no queues in vhost {vhost}")).with(rows))
}

fn show_queue(queue: &QueueInfo) -> String {
    let flags =
        [(queue.durable, "durable"), (queue.exclusive, "exclusive"), (queue.auto_delete, "auto-delete")];
    let mut kind = queue.queue_type.as_str().to_owned();
    flags.iter().filter(|(is, _)| *is).for_each(|(_, word)| kind = format!("{kind}, {word}"));
    let mut lines = vec![
        format!("queue            {}", queue.name),
        format!("type             {kind}"),
        format!("ready            {}", queue.ready),
        format!("unacked          {}", queue.unacked),
        format!("consumers        {}", queue.consumers),
        format!("policy           {}", queue.policy.as_deref().unwrap_or("-")),
        format!("operator policy  {}", queue.operator_policy.as_deref().unwrap_or("-")),
        format!("declared         {}", show_table(&queue.declared)),
    ];
    if let Some(RetainedFigures { count, size_bytes, oldest_ms }) = queue.retained {
        let since = oldest_ms
            .map(|ms| format!(", acked since {}", show_time(UNIX_EPOCH + Duration::from_millis(ms))))
            .unwrap_or_default();
        let messages = if count == 1 { "message" } else { "messages" };
        lines.push(format!("retained         {count} {messages}, {size_bytes} bytes{since}"));
    }
    if !queue.altered.is_empty() {
        lines.push(format!("altered          {}", show_table(&queue.altered)));
    }
    lines.push(format!("acts by          {}", show_table(&queue.effective)));
    lines.join("\n")
}

fn show_table(table: &Table) -> String {
    if table.is_empty() {
        return "-".to_owned();
    }
    let show = |value: &Value| match value {
        Value::LongStr(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Bool(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        Value::Void => "(taken away)".to_owned(),
        other => other.as_i64().map_or_else(|| other.type_name().to_owned(), |value| value.to_string()),
    };
    let shown: Vec<_> = table.iter().map(|(name, value)| format!("{name}={}", show(value))).collect();
    shown.join(" ")
}
