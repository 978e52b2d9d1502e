//! Texts with secrets in them.

use super::table::{SecretError, Secrets};
use crate::jq::{Jq, JqError, Template, TemplatePart};
use crate::topology::expression::compile_secret_template;
use crate::topology::read::{Report, text};
use crate::topology::{Node, shorten};
use jaq_json::Val;
use serde_json::Value;
use std::fmt;

/// Shorter values are not looked for in answers: they would be found everywhere. Bytes.
const SCRUBBED_MIN_BYTES: usize = 4;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum SecretRef {
    /// `${env:NAME}`: a variable of the broker's environment.
    Env(Box<str>),
    /// `${file:PATH}`: a file, relative to the data directory or absolute, without the line end at its end.
    File(Box<str>),
    /// `${secret:NAME}`: in the table of secrets.
    Table(Box<str>),
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "${{env:{name}}}"),
            Self::File(path) => write!(f, "${{file:{path}}}"),
            Self::Table(name) => write!(f, "${{secret:{name}}}"),
        }
    }
}

/// A text with references to secrets; shown with the references.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct SecretText {
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Secret(SecretRef),
}

impl fmt::Display for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Secret(reference) => reference.fmt(f),
        })
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretText({self})")
    }
}

impl From<String> for SecretText {
    /// The text as it is, without references.
    fn from(text: String) -> Self {
        Self { parts: vec![Part::Text(text.into())] }
    }
}

impl SecretText {
    /// Reads a text in which `${kind:NAME}` is a reference and `$${` stands for `${`; or what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        split(text).map(|parts| Self { parts })
    }

    /// As [`Self::parse`], of a file.
    pub(crate) fn read(node: &Node, path: &str, expected: &str, report: &mut Report) -> Option<Self> {
        let source = text(node, path, expected, report)?;
        Self::parse(source).map_err(|wrong| report.add(node.line, path, wrong)).ok()
    }

    /// The text, if it refers to nothing.
    pub(crate) fn as_fixed(&self) -> Option<String> {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => Some(&**text),
                Part::Secret(_) => None,
            })
            .collect()
    }

    /// The text with what its references mean now.
    pub(crate) async fn resolve(&self, secrets: &Secrets) -> Result<Hidden, SecretError> {
        let mut hidden = Hidden { text: String::new(), secrets: Vec::new() };
        for part in &self.parts {
            match part {
                Part::Text(text) => hidden.text.push_str(text),
                Part::Secret(reference) => {
                    let value = secrets.find(reference).await?;
                    hidden.text.push_str(&value);
                    hidden.secrets.push((reference.to_string(), value));
                }
            }
        }
        Ok(hidden)
    }
}

/// A text with secrets filled in. `Debug` does not tell it.
pub(crate) struct Hidden {
    text: String,
    /// References and what they mean.
    secrets: Vec<(String, String)>,
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(...)")
    }
}

impl Hidden {
    /// The text itself: for the one who was meant to get it.
    pub(crate) fn expose(&self) -> &str {
        &self.text
    }
}

/// Takes secrets out of what others said: a server may answer with what it was sent.
#[derive(Default)]
pub(crate) struct Scrub(Vec<(String, String)>);

impl Scrub {
    /// Looks for the secrets of this text too.
    pub(crate) fn add(&mut self, hidden: &Hidden) {
        let long = hidden.secrets.iter().filter(|(_, value)| value.len() >= SCRUBBED_MIN_BYTES);
        self.0.extend(long.cloned());
        self.sort();
    }

    /// Looks for this too, and writes `shown` for it.
    pub(crate) fn add_text(&mut self, shown: &str, value: String) {
        if value.len() >= SCRUBBED_MIN_BYTES {
            self.0.push((shown.to_owned(), value));
            self.sort();
        }
    }

    /// The longest first: one that is a part of another would leave the rest of that in the open.
    fn sort(&mut self) {
        self.0.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
    }

    /// The text with references in the place of values.
    pub(crate) fn text(&self, text: String) -> String {
        self.0.iter().fold(text, |text, (shown, value)| match text.contains(value.as_str()) {
            true => text.replace(value.as_str(), shown),
            false => text,
        })
    }

    /// The same of all texts in a value.
    pub(crate) fn json(&self, value: Value) -> Value {
        match value {
            _ if self.0.is_empty() => value,
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.into_iter().map(|item| self.json(item)).collect(),
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(key, value)| (self.text(key), self.json(value)));
                Value::Object(fields.collect())
            }
            other => other,
        }
    }
}

/// A text with jq and references to secrets. Only what stands in the file is a reference: what an expression gives is
/// text, whatever it looks like, or an event could ask for secrets.
#[derive(Debug, Clone)]
pub(crate) struct SecretTemplate {
    parts: Vec<TemplateOrSecret>,
}

#[derive(Debug, Clone)]
enum TemplateOrSecret {
    Fixed(Part),
    Jq(Jq),
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Secret(reference) => write!(f, "{reference}"),
        }
    }
}

impl SecretTemplate {
    /// Reads one of a file.
    pub(crate) fn read(node: &Node, path: &str, report: &mut Report) -> Option<Self> {
        let template = compile_secret_template(node, path, report)?;
        Self::of(template).map_err(|wrong| report.add(node.line, path, wrong)).ok()
    }

    /// A text without expressions and references.
    pub(crate) fn fixed(text: String) -> Self {
        Self { parts: vec![TemplateOrSecret::Fixed(Part::Text(text.into()))] }
    }

    fn of(template: Template) -> Result<Self, String> {
        let mut parts = Vec::new();
        for part in template.into_parts() {
            match part {
                TemplatePart::Text(text) => {
                    parts.extend(split(&text)?.into_iter().map(TemplateOrSecret::Fixed));
                }
                TemplatePart::Jq(jq) => parts.push(TemplateOrSecret::Jq(jq)),
            }
        }
        Ok(Self { parts })
    }

    /// With its expressions' results; nothing if it is a single expression that gave null.
    pub(crate) fn fill(&self, event: &Val) -> Result<Option<SecretText>, JqError> {
        let is_single = self.parts.len() == 1;
        let mut parts = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let text = match part {
                TemplateOrSecret::Fixed(part) => {
                    parts.push(part.clone());
                    continue;
                }
                TemplateOrSecret::Jq(jq) => match jq.one(event)? {
                    Value::Null if is_single => return Ok(None),
                    Value::Null => return Err(jq.gave_null()),
                    Value::String(text) => text,
                    other => other.to_string(),
                },
            };
            parts.push(Part::Text(text.into()));
        }
        Ok(Some(SecretText { parts }))
    }
}

/// Splits a text at its references; or what is wrong with it.
fn split(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            plain.push_str(before);
            plain.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        plain.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        let expected =
            "expected ${env:NAME}, ${file:PATH} or ${secret:NAME}; '$${' stands for the characters";
        let Some(end) = inside.find('}') else {
            return Err(format!("found '${{' without its '}}', {expected}"));
        };
        let reference = match inside[..end].split_once(':') {
            Some((_, "")) => None,
            Some(("env", name)) => Some(SecretRef::Env(name.into())),
            Some(("file", path)) => Some(SecretRef::File(path.into())),
            Some(("secret", name)) => Some(SecretRef::Table(name.into())),
            _ => None,
        };
        let Some(reference) = reference else {
            return Err(format!("found '${{{}}}', {expected}", shorten(&inside[..end])));
        };
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain).into()));
        }
        parts.push(Part::Secret(reference));
        rest = &inside[end + 1..];
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Text(plain.into()));
    }
    Ok(parts)
}
