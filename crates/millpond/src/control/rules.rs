//! What is asked about rules.

use super::{Listing, PeriodText, Rooms, Shown};
use anyhow::{Result, bail};
use millpond_broker::AuditObject;
use millpond_engine::{Engine, ReplayFrom, ReplayRequest};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::{Duration, UNIX_EPOCH};

/// What may be asked about rules.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RuleRequest {
    /// Every rule with its state.
    List,
    /// Start one.
    Start {
        /// Its name.
        rule: String,
    },
    /// Stop one.
    Stop {
        /// Its name.
        rule: String,
    },
    /// Let one finish what it has in hand, and take no more.
    Pause {
        /// Its name.
        rule: String,
    },
    /// Let nothing more come to one, and let it work off what is there.
    Drain {
        /// Its name.
        rule: String,
    },
    /// The versions of one.
    History {
        /// Its name.
        rule: String,
    },
    /// Messages of the past for one, or what it would do with them.
    Replay {
        /// Its name.
        rule: String,
        /// The queue or stream to read from.
        from: String,
        /// `remembered`, `ready`, or nothing.
        of: Option<String>,
        /// Of which time: its `from` is not used.
        period: PeriodText,
        /// At most so many.
        limit: Option<u64>,
        /// Name and text of a file that defines the rule.
        file: Option<(String, String)>,
        /// Only look.
        dry_run: bool,
        /// The answer is JSON.
        json: bool,
    },
    /// What one would do.
    Test {
        /// Its name.
        rule: String,
        /// The event.
        event: Value,
    },
}

pub(super) async fn carry_out(ask: RuleRequest, rooms: &Rooms) -> Result<Shown> {
    let engine = &rooms.engine;
    let change = ask.audited();
    let told = match ask {
        RuleRequest::Replay { rule, from, of, period, limit, file, dry_run, json } => {
            let period = period.read(rooms.broker.options().clock.now_ms())?;
            let of = replay_from(of.as_deref())?;
            let (since_ms, until_ms) = (period.from_ms, period.until_ms);
            let request = ReplayRequest { rule, queue: from, of, since_ms, until_ms, limit, file, dry_run };
            let report = engine.replay(&request).await?;
            if json { report.to_json().to_string() } else { report.to_string() }
        }
        RuleRequest::List => return Ok(list(engine).into()),
        RuleRequest::Start { rule } => {
            engine.start_rule(&rule).await?;
            format!("rule {rule} is started")
        }
        RuleRequest::Stop { rule } => {
            engine.stop_rule(&rule).await?;
            format!("rule {rule} is stopped; its queue goes on collecting")
        }
        RuleRequest::Pause { rule } => match engine.pause_rule(&rule).await? {
            true => format!("rule {rule} is paused; its queue goes on collecting"),
            false => format!("rule {rule} takes no more messages and is finishing those it has in hand"),
        },
        RuleRequest::Drain { rule } => {
            engine.drain_rule(&rule).await?;
            format!("rule {rule} gets no more messages; it rests when its queue is worked off")
        }
        RuleRequest::History { rule } => history(engine, &rule)?,
        RuleRequest::Test { rule, event } => {
            // An expression may take its time; a mistake in it ends no more than this.
            let engine = engine.clone();
            tokio::task::spawn_blocking(move || engine.dry_run(&rule, &event)).await??.to_string()
        }
    };
    if let Some((operation, rule)) = change {
        rooms.broker.audit(operation, AuditObject::named("rule", rule), "");
    }
    Ok(told.into())
}

impl RuleRequest {
    /// What the audit log calls it, and the rule it is about, if it changes anything.
    fn audited(&self) -> Option<(&'static str, String)> {
        let (operation, rule) = match self {
            Self::Start { rule } => ("rule.started", rule),
            Self::Stop { rule } => ("rule.stopped", rule),
            Self::Pause { rule } => ("rule.paused", rule),
            Self::Drain { rule } => ("rule.drained", rule),
            Self::Replay { rule, dry_run: false, .. } => ("rule.replayed", rule),
            _ => return None,
        };
        Some((operation, rule.clone()))
    }
}

/// `remembered`, `ready`, or what there is.
pub(crate) fn replay_from(of: Option<&str>) -> Result<ReplayFrom> {
    match of {
        Some("remembered") => Ok(ReplayFrom::Remembered),
        Some("ready") => Ok(ReplayFrom::Ready),
        None | Some("any") => Ok(ReplayFrom::Any),
        Some(other) => bail!("'{other}' is none of remembered, ready and any"),
    }
}

fn list(engine: &Engine) -> Listing {
    let head =
        ["RULE", "STATE", "VERSION", "READY", "UNACKED", "SEEN", "ACTED", "RETRIED", "FAILED", "PARKED"];
    let rows = engine.rules().into_iter().map(|rule| {
        [
            rule.name.to_string().into(),
            rule.state.to_string().into(),
            rule.version.into(),
            rule.ready.into(),
            rule.unacked.into(),
            rule.seen.into(),
            rule.acted.into(),
            rule.retried.into(),
            rule.failed.into(),
            rule.parked.into(),
        ]
    });
    Listing::new(&head, "no rules: `millpond apply FILE` brings them").with(rows)
}

fn history(engine: &Engine, rule: &str) -> Result<String> {
    let mut lines = Vec::new();
    for version in engine.rule_history(rule)? {
        let at = millpond_events::show_time(UNIX_EPOCH + Duration::from_millis(version.since_ms));
        lines.push(format!("version {} ({}) since {at}, of {}", version.number, version.hash, version.file));
        let shown = match version.difference.is_empty() {
            true => version.definition.iter().map(|line| format!("    {line}")).collect(),
            false => version.difference.iter().map(|line| format!("  {line}")).collect::<Vec<_>>(),
        };
        lines.extend(shown);
    }
    Ok(lines.join("\n"))
}
