//! What the command line asks about schedules.

use super::{Listing, Rooms, Shown};
use anyhow::{Result, anyhow, bail};
use millpond_broker::{Broker, Missed, ScheduleInfo, ScheduleSpec};
use millpond_model::properties::Properties;
use millpond_model::table::{Table, Value};
use millpond_model::{ExchangeName, VhostName};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// Most moments that one answer lists.
const NEXT_MAX: usize = 1000;

/// Of a body, what `show` shows. Characters.
const BODY_SHOWN: usize = 500;

/// What may be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub(crate) enum ScheduleRequest {
    /// The schedules of a vhost.
    List { vhost: String },
    /// Add one, or change the one of that name.
    Add { vhost: String, name: String, schedule: ScheduleText },
    /// One with its message.
    Show { vhost: String, name: String },
    /// The next moments.
    Next { vhost: String, name: String, count: usize },
    /// Pause or resume.
    Pause { vhost: String, name: String, paused: bool },
    /// Take it away.
    Remove { vhost: String, name: String },
}

/// A schedule as a person writes it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ScheduleText {
    pub(crate) cron: String,
    pub(crate) zone: String,
    pub(crate) exchange: String,
    pub(crate) key: String,
    pub(crate) body: String,
    pub(crate) content_type: Option<String>,
    /// `name=value`.
    pub(crate) headers: Vec<String>,
    pub(crate) missed: String,
}

/// Does what is asked; what to tell the person.
pub(super) async fn carry_out(request: ScheduleRequest, rooms: &Rooms) -> Result<Shown> {
    match request {
        ScheduleRequest::List { vhost } => Ok(list(&rooms.broker, &VhostName::new(&vhost)?)?.into()),
        ScheduleRequest::Show { vhost, name } => {
            let found = find(&rooms.broker, &VhostName::new(&vhost)?, &name)?;
            Ok(Shown::One { text: show(&found), json: for_program(&found) })
        }
        other => change(other, &rooms.broker).await.map(Shown::from),
    }
}

/// Everything that changes something, and what comes next.
async fn change(request: ScheduleRequest, broker: &Broker) -> Result<String> {
    match request {
        ScheduleRequest::List { .. } | ScheduleRequest::Show { .. } => bail!("to look is no change"),
        ScheduleRequest::Add { vhost, name, schedule } => {
            let vhost = VhostName::new(&vhost)?;
            let (changed, saved) = broker.set_schedule(&vhost, spec(&name, schedule)?)?;
            saved.await?;
            let found = find(broker, &vhost, &name)?;
            let done = if changed { "is set" } else { "is so already" };
            Ok(format!("schedule {name} {done}; next: {}", next(&found)))
        }
        ScheduleRequest::Next { vhost, name, count } => {
            let found = find(broker, &VhostName::new(&vhost)?, &name)?;
            let after = |at: &u64| found.calendar.next_after(*at);
            let moments = std::iter::successors(found.next_ms, after).take(count.min(NEXT_MAX));
            let lines: Vec<String> = moments.map(|at| found.calendar.show(at)).collect();
            Ok(if lines.is_empty() { next(&found) } else { lines.join("\n") })
        }
        ScheduleRequest::Pause { vhost, name, paused } => {
            let vhost = VhostName::new(&vhost)?;
            broker.pause_schedule(&vhost, &name, paused)?.await?;
            match paused {
                true => Ok(format!("schedule {name} is paused: it publishes nothing until it is resumed")),
                false => {
                    Ok(format!("schedule {name} goes on; next: {}", next(&find(broker, &vhost, &name)?)))
                }
            }
        }
        ScheduleRequest::Remove { vhost, name } => {
            broker.remove_schedule(&VhostName::new(&vhost)?, &name)?.await?;
            Ok(format!("schedule {name} is removed"))
        }
    }
}

fn spec(name: &str, text: ScheduleText) -> Result<ScheduleSpec> {
    let missed = Missed::parse(&text.missed)
        .ok_or_else(|| anyhow!("'{}' is none of skip, once and all", text.missed))?;
    let mut headers = Table::new();
    for header in &text.headers {
        let (name, value) =
            header.split_once('=').ok_or_else(|| anyhow!("'{header}' is no header: write NAME=VALUE"))?;
        headers.set(name, header_value(value));
    }
    Ok(ScheduleSpec {
        name: name.into(),
        cron: text.cron.into(),
        zone: text.zone.into(),
        exchange: ExchangeName::new(&text.exchange)?,
        routing_key: text.key.into_bytes().into(),
        properties: Properties {
            content_type: text.content_type.map(Into::into),
            headers,
            ..Properties::default()
        },
        body: text.body.into_bytes().into(),
        missed,
    })
}

/// Whole numbers, true and false are what they look like; anything else is a text.
fn header_value(text: &str) -> Value {
    match (text.parse::<i32>(), text.parse::<i64>(), text.parse::<bool>()) {
        (Ok(number), _, _) => Value::I32(number),
        (_, Ok(number), _) => Value::I64(number),
        (_, _, Ok(truth)) => Value::Bool(truth),
        _ => Value::from(text),
    }
}

fn find(broker: &Broker, vhost: &VhostName, name: &str) -> Result<ScheduleInfo> {
    let found = broker.list_schedules(vhost)?.into_iter().find(|one| &*one.spec.name == name);
    found.ok_or_else(|| anyhow!("no schedule '{name}' in vhost '{vhost}'"))
}

fn next(found: &ScheduleInfo) -> String {
    match found.next_ms {
        _ if found.paused => "paused".to_owned(),
        Some(at_ms) => found.calendar.show(at_ms),
        None => "never".to_owned(),
    }
}

fn list(broker: &Broker, vhost: &VhostName) -> Result<Listing> {
    let found = broker.list_schedules(vhost)?;
    let rows = found.iter().map(|one| {
        let text = |text: &str| text.to_owned().into();
        [text(&one.spec.name), text(&one.spec.cron), text(&one.spec.zone), next(one).into(), one.fired.into()]
    });
    let empty = format!("no schedules in vhost {vhost}: `millpond schedules add` adds one");
    Ok(Listing::new(&["SCHEDULE", "CRON", "ZONE", "NEXT", "FIRED"], empty).with(rows))
}

fn for_program(one: &ScheduleInfo) -> serde_json::Value {
    let spec = &one.spec;
    let at = |ms: Option<u64>| ms.map(|ms| one.calendar.show(ms));
    serde_json::json!({
        "schedule": spec.name,
        "cron": spec.cron,
        "zone": spec.zone,
        "next": at(one.next_ms.filter(|_| !one.paused)),
        "last": at(one.last_ms),
        "paused": one.paused,
        "missed": spec.missed.to_string(),
        "exchange": spec.exchange.as_str(),
        "routing_key": String::from_utf8_lossy(&spec.routing_key),
        "content_type": spec.properties.content_type,
        "headers": millpond_broker::json::of_table(&spec.properties.headers),
        "body": String::from_utf8_lossy(&spec.body),
        "fired": one.fired,
        "unrouted": one.unrouted,
    })
}

fn show(one: &ScheduleInfo) -> String {
    let spec = &one.spec;
    let last = one.last_ms.map_or_else(|| "none yet".to_owned(), |at_ms| one.calendar.show(at_ms));
    let body: String = String::from_utf8_lossy(&spec.body).chars().take(BODY_SHOWN).collect();
    let mut out = format!(
        "schedule     {}\ncron         {}\nzone         {}\nnext         {}\nlast         {last}\nmissed       {}\n\
         exchange     {}\nrouting key  {}\nfired        {} since the start, {} of them taken by no queue",
        spec.name,
        spec.cron,
        spec.zone,
        next(one),
        spec.missed,
        if spec.exchange.is_empty() { "(default)" } else { spec.exchange.as_str() },
        String::from_utf8_lossy(&spec.routing_key),
        one.fired,
        one.unrouted,
    );
    if let Some(content_type) = &spec.properties.content_type {
        let _ = write!(out, "\ncontent type {content_type}");
    }
    for (name, value) in &spec.properties.headers {
        let _ = write!(out, "\nheader       {name}: {}", super::messages::plain(value));
    }
    let _ = write!(out, "\nbody         {} bytes: {body}", spec.body.len());
    out
}
