//! What expressions and texts with expressions look like in a file.

use super::read::{Fields, Report, entries, text};
use super::to_value;
use super::yaml::{Kind, Node, shorten};
use crate::jq::{CompileError, Jq, Template};
use crate::secret::SecretTemplate;
use millpond_model::table::Value;

/// The value of a header.
#[derive(Debug)]
pub(crate) enum HeaderValue {
    Fixed(Value),
    Template(Template),
}

pub(crate) fn read_headers(fields: &Fields<'_>, report: &mut Report) -> Vec<(Box<str>, HeaderValue)> {
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

/// Headers whose values may hold secrets.
pub(crate) fn read_secret_headers(
    fields: &Fields<'_>,
    key: &str,
    report: &mut Report,
) -> Vec<(Box<str>, SecretTemplate)> {
    let Some(node) = fields.get(key) else { return Vec::new() };
    let path = fields.path_of(key);
    let mut headers = Vec::new();
    for entry in entries(node, &path, "a mapping from names to values", report) {
        let path = format!("{path}.{}", entry.key);
        let value = match &entry.value.kind {
            Kind::Text(_) => SecretTemplate::read(&entry.value, &path, report),
            Kind::Bool(value) => Some(SecretTemplate::fixed(value.to_string())),
            Kind::Int(value) => Some(SecretTemplate::fixed(value.to_string())),
            Kind::Float(value) => Some(SecretTemplate::fixed(value.to_string())),
            Kind::Null => Some(SecretTemplate::fixed(String::new())),
            Kind::List(_) | Kind::Map(_) => {
                report.expected(&entry.value, &path, "a text, a number, true or false");
                None
            }
        };
        headers.extend(value.map(|value| (entry.key.clone(), value)));
    }
    headers
}

/// The text of a key, if it is there.
pub(crate) fn template(fields: &Fields<'_>, key: &str, report: &mut Report) -> Option<Template> {
    let node = fields.get(key)?;
    compile_template(node, &fields.path_of(key), report)
}

/// A text with `\( )`.
pub(crate) fn compile_template(node: &Node, path: &str, report: &mut Report) -> Option<Template> {
    let template = compile_secret_template(node, path, report)?;
    if let Kind::Text(source) = &node.kind
        && source.contains("${secret:")
    {
        let text =
            format!("found a secret in '{}', expected none: this place would show it", shorten(source));
        report.add(node.line, path, text);
        return None;
    }
    Some(template)
}

/// The same for a place that takes references to secrets. A text that begins like a jq path is nearly always meant as
/// one.
pub(crate) fn compile_secret_template(node: &Node, path: &str, report: &mut Report) -> Option<Template> {
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
pub(crate) fn jq(node: &Node, path: &str, report: &mut Report) -> Option<Jq> {
    let source = text(node, path, "a jq expression", report)?;
    if !report.may_compile(node.line, path, 1) {
        return None;
    }
    let place = format!("{}:{}", report.file, node.line);
    Jq::new(source, &place).map_err(|error| compile_error(node, source, &error, path, report)).ok()
}

/// The expression of a key, if it is there.
pub(crate) fn jq_of(fields: &Fields<'_>, key: &str, report: &mut Report) -> Option<Jq> {
    fields.get(key).and_then(|node| jq(node, &fields.path_of(key), report))
}

fn compile_error(node: &Node, source: &str, error: &CompileError, path: &str, report: &mut Report) {
    let lines_before =
        source.as_bytes()[..error.at.min(source.len())].iter().filter(|b| **b == b'\n').count();
    report.add(node.line + lines_before, path, format!("jq '{}': {}", shorten(source), error.reason));
}
