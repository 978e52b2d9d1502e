//! Sources as the file says them: what all kinds have in common. Each kind reads its own part.

use super::expression::{jq_of, template};
use super::read::{Fields, Report, entries, list};
use super::yaml::{Entry, Node, shorten};
use super::{BUS, named_exchange};
use crate::jq::{Jq, Template};
use crate::source::{KINDS, Kind, Poll, Polling};
use millpond_model::ExchangeName;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Longest name of a source, so that it fits into a message id with an item's behind. Bytes.
const SOURCE_NAME_MAX_BYTES: usize = 200;

/// Sources of one file: each has a task and a session.
const SOURCES_MAX: usize = 1000;

/// The shortest interval of fixed polling.
const EVERY_MIN: Duration = Duration::from_millis(10);

/// The longest interval of fixed polling.
const EVERY_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long one look of long polling may take at most.
const LONG_MAX: Duration = Duration::from_secs(3600);

/// Keys that every source may have.
const COMMON: [&str; 6] = ["poll", "type", "subject", "source", "data", "exchange"];

/// A source.
#[derive(Debug)]
pub(crate) struct SourceSpec {
    pub(crate) name: String,
    /// `FILE:LINE`.
    pub(crate) place: String,
    pub(crate) kind: Arc<dyn Kind>,
    pub(crate) poll: Poll,
    /// Else the item's or the kind's.
    pub(crate) event_type: Option<Template>,
    pub(crate) subject: Option<Template>,
    /// The events' attribute `source`; else the item's, or [`Self::default_source`].
    pub(crate) source: Option<String>,
    pub(crate) data: Option<Jq>,
    pub(crate) exchange: ExchangeName,
    /// As written, to see whether another file says the same.
    pub(crate) definition: Node,
}

impl SourceSpec {
    /// The attribute `source` of what knows no better.
    pub(crate) fn default_source(&self) -> String {
        format!("/sources/{}", self.name)
    }

    /// The database that its kind's part names, with the name of the kind.
    pub(crate) fn database(&self) -> Option<(&str, &str)> {
        let kind = self.kind.name();
        let name = self.definition.entry(kind)?.entry("database")?;
        match &name.kind {
            super::Kind::Text(name) => Some((kind, name)),
            _ => None,
        }
    }

    /// Whether anything of its events is worked out by jq.
    pub(crate) fn has_expressions(&self) -> bool {
        let dynamic =
            |template: &Option<Template>| template.as_ref().is_some_and(|it| it.as_fixed().is_none());
        self.data.is_some() || dynamic(&self.event_type) || dynamic(&self.subject)
    }
}

pub(super) fn read_sources(node: &Node, report: &mut Report) -> Vec<Arc<SourceSpec>> {
    let entries = entries(node, "sources", "a mapping from names to sources", report);
    if entries.len() > SOURCES_MAX {
        let text = format!("found {} sources, expected at most {SOURCES_MAX}", entries.len());
        report.add(node.line, "sources", text);
        return Vec::new();
    }
    let sources: Vec<_> =
        entries.iter().filter_map(|entry| read_source(entry, report).map(Arc::new)).collect();
    check_shared(&sources, report);
    sources
}

/// Two sources must not take away from the same place.
fn check_shared(sources: &[Arc<SourceSpec>], report: &mut Report) {
    let mut taken: HashMap<String, &str> = HashMap::new();
    for source in sources {
        let Some(what) = source.kind.takes_alone(&source.name) else { continue };
        if let Some(other) = taken.get(&what) {
            let text = format!(
                "found {what} here and in sources.{other}, expected it in one of them: each would miss what the other takes"
            );
            report.add(source.definition.line, &format!("sources.{}", source.name), text);
            continue;
        }
        taken.insert(what, &source.name);
    }
}

fn read_source(entry: &Entry, report: &mut Report) -> Option<SourceSpec> {
    let name = &*entry.key;
    let path = format!("sources.{name}");
    let plain = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && name.len() <= SOURCE_NAME_MAX_BYTES;
    if !plain {
        let text = format!(
            "found the source name '{}', expected letters, digits, '.', '_' and '-', at most {SOURCE_NAME_MAX_BYTES}",
            shorten(name)
        );
        report.add(entry.line, &path, text);
        return None;
    }
    let kinds: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
    let fields = Fields::read(&entry.value, &path, &[&COMMON[..], &kinds].concat(), report);
    let said: Vec<_> = KINDS.iter().filter(|(kind, _)| fields.has(kind)).collect();
    let kind = match said.as_slice() {
        [(kind, read)] => {
            let node = fields.node(kind)?;
            read(node, &fields.path_of(kind), report)
        }
        [] => {
            let text = format!("found no kind of source, expected one of {}", list(&kinds));
            report.add(entry.line, &path, text);
            None
        }
        [(one, _), (other, _), ..] => {
            let text = format!("found both '{one}' and '{other}', expected one kind of source");
            report.add(entry.line, &path, text);
            None
        }
    };
    let event_type = template(&fields, "type", report);
    let subject = template(&fields, "subject", report);
    let data = jq_of(&fields, "data", report);
    let source = fields.text("source", "a text: where the events come from", report);
    let exchange = named_exchange(&fields, "exchange", report);
    let kind = kind?;
    Some(SourceSpec {
        name: name.to_owned(),
        place: format!("{}:{}", report.file, entry.line),
        poll: read_poll(&fields, kind.polling(), kind.name(), report),
        kind,
        event_type,
        subject,
        source: source.map(str::to_owned),
        data,
        exchange: exchange.unwrap_or_else(|| ExchangeName::new(BUS).expect("a short name")),
        definition: entry.value.clone(),
    })
}

fn read_poll(fields: &Fields<'_>, polling: Polling, kind: &str, report: &mut Report) -> Poll {
    let Some(node) = fields.get("poll") else { return polling.default };
    let path = fields.path_of("poll");
    let known: &[&str] = match (polling.every, polling.long) {
        (true, true) => &["every", "long"],
        (true, false) => &["every"],
        (false, true) => &["long"],
        (false, false) => {
            report.add(node.line, &path, format!("found 'poll', expected none: a {kind} has its own times"));
            return polling.default;
        }
    };
    let inner = Fields::read(node, &path, known, report);
    match (inner.get("every"), inner.get("long")) {
        (Some(node), None) => {
            let every = inner.duration("every", EVERY_MAX, EVERY_MAX, report);
            if every < EVERY_MIN {
                report.expected(node, &inner.path_of("every"), "at least 10ms");
            }
            Poll::Every(every.max(EVERY_MIN))
        }
        (None, Some(_)) => Poll::Long(inner.duration("long", LONG_MAX, LONG_MAX, report)),
        (Some(_), Some(_)) => {
            report.add(node.line, &path, "found both 'every' and 'long', expected one of them");
            polling.default
        }
        (None, None) => {
            report.add(node.line, &path, format!("found neither, expected {}", list(known)));
            polling.default
        }
    }
}
