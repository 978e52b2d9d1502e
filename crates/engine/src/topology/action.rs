//! Actions as the file says them.

use super::read::{Fields, Report, did_you_mean, entries, text};
use super::yaml::{Kind, Node, shorten};
use super::{named_exchange, to_value};
use crate::jq::{CompileError, Jq, Template};
use millpond_model::ExchangeName;
use millpond_model::table::Value;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// Longest time an HTTP action may take.
const HTTP_TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// What `ca_file` is.
const CA_FILE: &str = "the path of a file with certificates of authorities, in PEM";

/// Old files kept beside a rotated one, at most.
const KEEP_MAX: i64 = 1000;

/// Size at which a file is rotated unless the rule says otherwise. Bytes.
const FILE_SIZE_DEFAULT_BYTES: u64 = 100 * 1024 * 1024;

/// What a rule does.
#[derive(Debug)]
pub(crate) enum Action {
    Publish(PublishAction),
    Http(HttpAction),
    File(FileAction),
}

/// Publishes a message, in one commit with the ack of what triggered it.
#[derive(Debug)]
pub(crate) struct PublishAction {
    pub(crate) place: String,
    pub(crate) exchange: ExchangeName,
    pub(crate) routing_key: Option<Template>,
    pub(crate) headers: Vec<(Box<str>, HeaderValue)>,
    pub(crate) content_type: Option<Template>,
    pub(crate) body: Option<Jq>,
}

/// Sends an HTTP request.
#[derive(Debug)]
pub(crate) struct HttpAction {
    pub(crate) place: String,
    pub(crate) method: reqwest::Method,
    pub(crate) endpoint: Template,
    pub(crate) headers: Vec<(Box<str>, HeaderValue)>,
    pub(crate) body: Option<Jq>,
    pub(crate) expect: Vec<RangeInclusive<u16>>,
    pub(crate) timeout: Duration,
    /// Never taken from an event: who is trusted is for the file to say.
    pub(crate) ca_file: Option<Arc<str>>,
}

/// Appends a line to a file.
#[derive(Debug)]
pub(crate) struct FileAction {
    pub(crate) place: String,
    pub(crate) path: Template,
    pub(crate) line: Option<Jq>,
    pub(crate) size_max_bytes: u64,
    pub(crate) keep: u32,
}

/// The value of a header.
#[derive(Debug)]
pub(crate) enum HeaderValue {
    Fixed(Value),
    Template(Template),
}

const ACTIONS: [&str; 3] = ["publish", "http", "file"];

pub(super) fn read_actions(node: &Node, path: &str, report: &mut Report) -> Vec<Action> {
    let Kind::List(items) = &node.kind else {
        report.expected(node, path, "a list of actions, each after a '-'");
        return Vec::new();
    };
    if items.is_empty() {
        report.add(node.line, path, "found an empty list, expected at least one action");
    }
    let mut actions = Vec::new();
    for (number, item) in items.iter().enumerate() {
        let path = format!("{path}[{number}]");
        let Kind::Map(found) = &item.kind else {
            report.expected(item, &path, "an action: publish, http or file");
            continue;
        };
        let [entry] = found.as_slice() else {
            let text = format!("found {} keys, expected one action: publish, http or file", found.len());
            report.add(item.line, &path, text);
            continue;
        };
        let inner = format!("{path}.{}", entry.key);
        let action = match &*entry.key {
            "publish" => read_publish(&entry.value, entry.line, &inner, report).map(Action::Publish),
            "http" => read_http(&entry.value, entry.line, &inner, report).map(Action::Http),
            "file" => read_file(&entry.value, entry.line, &inner, report).map(Action::File),
            other => {
                let guess = did_you_mean(other, ACTIONS);
                let text =
                    format!("found the unknown action '{other}', expected publish, http or file{guess}");
                report.add(entry.line, &path, text);
                None
            }
        };
        actions.extend(action);
    }
    actions
}

fn read_publish(node: &Node, line: usize, path: &str, report: &mut Report) -> Option<PublishAction> {
    let known = ["exchange", "routing_key", "headers", "content_type", "body"];
    let fields = Fields::read(node, path, &known, report);
    fields.required(
        "exchange",
        "'exchange' ('' is the default exchange, whose keys are queue names)",
        report,
    );
    let exchange = named_exchange(&fields, "exchange", report);
    let routing_key = template(&fields, "routing_key", report);
    if let Some(fixed) = routing_key.as_ref().and_then(Template::as_fixed)
        && fixed.len() > millpond_model::limits::SHORT_STRING_MAX_BYTES
    {
        let text = format!("found a routing key of {} bytes, expected at most 255", fixed.len());
        report.add(fields.line, &fields.path_of("routing_key"), text);
    }
    let headers = read_headers(&fields, report);
    let content_type = template(&fields, "content_type", report);
    let body = fields.get("body").and_then(|node| jq(node, &fields.path_of("body"), report));
    Some(PublishAction {
        place: format!("{}:{line}", report.file),
        exchange: exchange?,
        routing_key,
        headers,
        content_type,
        body,
    })
}

fn read_http(node: &Node, line: usize, path: &str, report: &mut Report) -> Option<HttpAction> {
    let known = ["method", "endpoint", "headers", "body", "expect", "timeout", "ca_file"];
    let fields = Fields::read(node, path, &known, report);
    let method = match fields.text("method", "an HTTP method", report) {
        None => reqwest::Method::POST,
        Some(text) => reqwest::Method::from_bytes(text.as_bytes()).unwrap_or_else(|_| {
            let line = fields.get("method").map_or(node.line, |node| node.line);
            let found = format!("found '{}', expected an HTTP method such as POST", shorten(text));
            report.add(line, &fields.path_of("method"), found);
            reqwest::Method::POST
        }),
    };
    fields.required("endpoint", "'endpoint', an http or https URL", report);
    let endpoint = template(&fields, "endpoint", report);
    if let (Some(template), Some(node)) = (&endpoint, fields.get("endpoint")) {
        check_endpoint(template, node, &fields.path_of("endpoint"), report);
    }
    let headers = read_headers(&fields, report);
    for (name, _) in &headers {
        if reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_err() {
            let text = format!("found '{}', expected the name of an HTTP header", shorten(name));
            report.add(node.line, &fields.path_of("headers"), text);
        }
    }
    let body = fields.get("body").and_then(|node| jq(node, &fields.path_of("body"), report));
    let expect = fields.get("expect").map_or_else(
        || vec![200..=299],
        |node| {
            let path = fields.path_of("expect");
            statuses(node).unwrap_or_else(|| {
                let expected = "statuses such as 200, 200-299 or a list of them";
                report.expected(node, &path, expected);
                Vec::new()
            })
        },
    );
    let ca_file = fields.text("ca_file", CA_FILE, report).filter(|path| {
        if path.is_empty() {
            let line = fields.get("ca_file").map_or(node.line, |node| node.line);
            report.add(line, &fields.path_of("ca_file"), format!("found nothing, expected {CA_FILE}"));
        }
        !path.is_empty()
    });
    let timeout = fields.duration("timeout", Duration::from_secs(10), HTTP_TIMEOUT_MAX, report);
    Some(HttpAction {
        place: format!("{}:{line}", report.file),
        method,
        endpoint: endpoint?,
        headers,
        body,
        expect,
        timeout,
        ca_file: ca_file.map(Into::into),
    })
}

/// Whether an endpoint can become a URL.
fn check_endpoint(template: &Template, node: &Node, path: &str, report: &mut Report) {
    let good = match template.as_fixed() {
        Some(fixed) => reqwest::Url::parse(fixed)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()),
        None => {
            let start = template.fixed_start();
            start.is_empty() || start.starts_with("http://") || start.starts_with("https://")
        }
    };
    if !good {
        report.expected(node, path, "an http or https URL");
    }
}

/// `200`, `200-299`, `200, 404`, `[200, 300-399]`.
fn statuses(node: &Node) -> Option<Vec<RangeInclusive<u16>>> {
    let checked = |range: RangeInclusive<u16>| {
        ((100..=999).contains(range.start()) && range.start() <= range.end() && *range.end() <= 999)
            .then_some(range)
    };
    match &node.kind {
        Kind::Int(status) => {
            let status = u16::try_from(*status).ok()?;
            Some(vec![checked(status..=status)?])
        }
        Kind::Text(text) => text
            .split(',')
            .map(|part| {
                let (from, to) = part.split_once('-').unwrap_or((part, part));
                checked(from.trim().parse().ok()?..=to.trim().parse().ok()?)
            })
            .collect(),
        Kind::List(items) if !items.is_empty() => {
            Some(items.iter().map(statuses).collect::<Option<Vec<_>>>()?.concat())
        }
        _ => None,
    }
}

fn read_file(node: &Node, line: usize, path: &str, report: &mut Report) -> Option<FileAction> {
    let fields = Fields::read(node, path, &["path", "line", "max_size", "keep"], report);
    fields.required("path", "'path', the file to append to", report);
    let file = template(&fields, "path", report);
    if let (Some(template), Some(node)) = (&file, fields.get("path")) {
        let fixed = template.as_fixed().unwrap_or(template.fixed_start());
        if fixed.split('/').any(|part| part == "..") {
            report.expected(node, &fields.path_of("path"), "a path without '..'");
        } else if template.as_fixed().is_some_and(|path| path.is_empty() || path.ends_with('/')) {
            report.expected(node, &fields.path_of("path"), "the path of a file");
        }
    }
    let text = fields.get("line").and_then(|node| jq(node, &fields.path_of("line"), report));
    Some(FileAction {
        place: format!("{}:{line}", report.file),
        path: file?,
        line: text,
        size_max_bytes: fields.size("max_size", FILE_SIZE_DEFAULT_BYTES, 1, report),
        keep: fields.integer("keep", 5, 1..=KEEP_MAX, report) as u32,
    })
}

fn read_headers(fields: &Fields<'_>, report: &mut Report) -> Vec<(Box<str>, HeaderValue)> {
    let Some(node) = fields.get("headers") else { return Vec::new() };
    let path = fields.path_of("headers");
    let mut headers = Vec::new();
    for entry in entries(node, &path, "a mapping from names to values", report) {
        let path = format!("{path}.{}", entry.key);
        let value = match &entry.value.kind {
            Kind::Text(_) => compile_template(&entry.value, &path, report).map(HeaderValue::Template),
            Kind::List(_) | Kind::Map(_) => {
                report.expected(&entry.value, &path, "a text, a number, true or false");
                None
            }
            _ => Some(HeaderValue::Fixed(to_value(&entry.value))),
        };
        if entry.key.len() > millpond_model::limits::SHORT_STRING_MAX_BYTES {
            report.add(entry.line, &path, "found a name over 255 bytes, expected a shorter one");
        }
        headers.extend(value.map(|value| (entry.key.clone(), value)));
    }
    headers
}

fn template(fields: &Fields<'_>, key: &str, report: &mut Report) -> Option<Template> {
    let node = fields.get(key)?;
    compile_template(node, &fields.path_of(key), report)
}

/// A text with `\( )`. One that begins like a jq path is nearly always meant as one.
fn compile_template(node: &Node, path: &str, report: &mut Report) -> Option<Template> {
    let source = text(node, path, "a text, in which \\(...) holds jq", report)?;
    let looks_like_jq = source
        .strip_prefix('.')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '[' || c == '_'))
        && !source.contains("\\(")
        && !source.contains('/');
    if looks_like_jq {
        let shown = shorten(source);
        let text = format!(
            "found '{shown}', which is a text here and not jq, expected '\\({shown})' to take it from the event"
        );
        report.add(node.line, path, text);
        return None;
    }
    if !report.may_compile(node.line, path, source.matches("\\(").count()) {
        return None;
    }
    let place = format!("{}:{}", report.file, node.line);
    Template::new(source, &place).map_err(|error| compile_error(node, source, &error, path, report)).ok()
}

/// A jq expression.
pub(super) fn jq(node: &Node, path: &str, report: &mut Report) -> Option<Jq> {
    let source = text(node, path, "a jq expression", report)?;
    if !report.may_compile(node.line, path, 1) {
        return None;
    }
    let place = format!("{}:{}", report.file, node.line);
    Jq::new(source, &place).map_err(|error| compile_error(node, source, &error, path, report)).ok()
}

fn compile_error(node: &Node, source: &str, error: &CompileError, path: &str, report: &mut Report) {
    let lines_before =
        source.as_bytes()[..error.at.min(source.len())].iter().filter(|b| **b == b'\n').count();
    report.add(node.line + lines_before, path, format!("jq '{}': {}", shorten(source), error.reason));
}
