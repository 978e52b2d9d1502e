//! YAML as a tree in which every node knows its line.
//!
//! The parser gives events; the tree is built here, iteratively and within limits, so that no input exhausts memory
//! or the stack.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use std::collections::HashMap;

/// Largest topology file. Bytes.
pub(crate) const FILE_MAX_BYTES: usize = 4 * 1024 * 1024;

/// How deep lists and mappings may nest.
pub(crate) const DEPTH_MAX: usize = 64;

/// Nodes of a file, those of repeated aliases included.
pub(crate) const NODES_MAX: usize = 500_000;

/// A value with its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) kind: Kind,
    /// Nodes in it, itself included.
    size: usize,
    /// Levels in it, itself included.
    depth: usize,
}

/// A value of YAML's core schema.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Box<str>),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Box<str>,
    pub(crate) line: usize,
    pub(crate) value: Node,
}

/// Lines do not count: a rule that moved in its file is the same rule.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.value == other.value
    }
}

/// Why a text is not a YAML document that is read here.
#[derive(Debug)]
pub(crate) struct YamlError {
    pub(crate) line: usize,
    pub(crate) reason: String,
}

impl Node {
    fn leaf(line: usize, kind: Kind) -> Self {
        Self { line, kind, size: 1, depth: 1 }
    }

    /// As JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => (*value).into(),
            Kind::Int(value) => (*value).into(),
            Kind::Float(value) => (*value).into(),
            Kind::Text(text) => (**text).into(),
            Kind::List(items) => items.iter().map(Self::to_json).collect(),
            Kind::Map(entries) => {
                Value::Object(entries.iter().map(|it| (it.key.to_string(), it.value.to_json())).collect())
            }
        }
    }

    /// The value of a key, if this is a mapping that has it.
    pub(crate) fn entry(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|it| &*it.key == key).map(|it| &it.value),
            _ => None,
        }
    }

    /// JSON as a tree without places, to be shown.
    pub(crate) fn from_json(value: &serde_json::Value) -> Self {
        use serde_json::Value;
        let kind = match value {
            Value::Null => Kind::Null,
            Value::Bool(value) => Kind::Bool(*value),
            Value::Number(number) => match number.as_i64() {
                Some(value) => Kind::Int(value),
                None => Kind::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Kind::Text(text.as_str().into()),
            Value::Array(items) => Kind::List(items.iter().map(Self::from_json).collect()),
            Value::Object(fields) => Kind::Map(
                fields
                    .iter()
                    .map(|(key, value)| Entry {
                        key: key.as_str().into(),
                        line: 0,
                        value: Self::from_json(value),
                    })
                    .collect(),
            ),
        };
        Self::leaf(0, kind)
    }

    /// What it is, in words, for messages: `the number 5`, `a list`.
    pub(crate) fn describe(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing".to_owned(),
            Kind::Bool(value) => format!("the truth value {value}"),
            Kind::Int(value) => format!("the number {value}"),
            Kind::Float(value) => format!("the number {value}"),
            Kind::Text(text) => format!("'{}'", shorten(text)),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// At most so many characters of a text in a message.
const SHOWN_MAX_CHARS: usize = 60;

/// The beginning of a text, on one line.
pub(crate) fn shorten(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(SHOWN_MAX_CHARS) {
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    if text.chars().nth(SHOWN_MAX_CHARS).is_some() {
        shown.push_str("...");
    }
    shown
}

/// Reads one document; `None` if there is nothing but comments.
pub(crate) fn parse(text: &str) -> Result<Option<Node>, YamlError> {
    if text.len() > FILE_MAX_BYTES {
        let reason = format!("the file has {} bytes, at most {FILE_MAX_BYTES} are read", text.len());
        return Err(YamlError { line: 1, reason });
    }
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| YamlError {
            line: error.marker().line().max(1),
            reason: format!("this is not YAML: {}", error.info()),
        })?;
        builder.take(event, span).map_err(|reason| YamlError { line: span.start.line().max(1), reason })?;
    }
    Ok(builder.root)
}

/// A list or mapping that is open.
#[derive(Debug)]
struct Open {
    line: usize,
    anchor: usize,
    values: Vec<Node>,
    /// Of a mapping: the keys, one more than values while a value is awaited.
    keys: Option<Vec<(Box<str>, usize)>>,
}

#[derive(Debug, Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
    documents: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), String> {
        let line = span.start.line().max(1);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err("a second document begins, one is expected: remove the '---'".to_owned());
                }
                Ok(())
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err("an alias stands inside what it names".to_owned());
                };
                self.count(node.size)?;
                if self.open.len() + node.depth > DEPTH_MAX {
                    return Err(too_deep());
                }
                self.put(node)
            }
            Event::Scalar(text, style, anchor, tag) => {
                if tag.is_some_and(|tag| !tag.is_yaml_core_schema()) {
                    return Err("a tag stands here, a plain value is expected: remove the '!'".to_owned());
                }
                self.count(1)?;
                let is_plain = style == ScalarStyle::Plain;
                if self.awaits_key() {
                    return self.put_key(&text, line);
                }
                let kind = if is_plain { plain(&text) } else { Kind::Text((*text).into()) };
                let node = Node::leaf(line, kind);
                self.keep(anchor, &node)?;
                self.put(node)
            }
            Event::SequenceStart(anchor, _) => self.open(line, anchor, None),
            Event::MappingStart(anchor, _) => self.open(line, anchor, Some(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn count(&mut self, nodes: usize) -> Result<(), String> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            return Err(format!("the file has more than {NODES_MAX} values, aliases counted: split it"));
        }
        Ok(())
    }

    fn awaits_key(&self) -> bool {
        self.open
            .last()
            .is_some_and(|open| open.keys.as_ref().is_some_and(|keys| keys.len() == open.values.len()))
    }

    fn open(
        &mut self,
        line: usize,
        anchor: usize,
        keys: Option<Vec<(Box<str>, usize)>>,
    ) -> Result<(), String> {
        self.count(1)?;
        if self.awaits_key() {
            return Err("a list or mapping stands where a key is expected".to_owned());
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(too_deep());
        }
        self.open.push(Open { line, anchor, values: Vec::new(), keys });
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let size = 1 + open.values.iter().map(|node| node.size).sum::<usize>();
        let depth = 1 + open.values.iter().map(|node| node.depth).max().unwrap_or(0);
        let kind = match open.keys {
            None => Kind::List(open.values),
            Some(keys) => Kind::Map(
                keys.into_iter()
                    .zip(open.values)
                    .map(|((key, line), value)| Entry { key, line, value })
                    .collect(),
            ),
        };
        let node = Node { line: open.line, kind, size, depth };
        self.keep(open.anchor, &node)?;
        self.put(node)
    }

    fn keep(&mut self, anchor: usize, node: &Node) -> Result<(), String> {
        if anchor != 0 {
            self.count(node.size)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(())
    }

    fn put_key(&mut self, key: &str, line: usize) -> Result<(), String> {
        let Some(keys) = self.open.last_mut().and_then(|open| open.keys.as_mut()) else { return Ok(()) };
        keys.push((key.into(), line));
        Ok(())
    }

    fn put(&mut self, node: Node) -> Result<(), String> {
        if self.awaits_key() {
            let Kind::Text(key) = &node.kind else {
                return Err("a list or mapping stands where a key is expected".to_owned());
            };
            let key = key.clone();
            return self.put_key(&key, node.line);
        }
        match self.open.last_mut() {
            Some(open) => open.values.push(node),
            None => self.root = Some(node),
        }
        Ok(())
    }
}

fn too_deep() -> String {
    format!("lists and mappings nest deeper than {DEPTH_MAX} levels: flatten them")
}

/// A scalar without quotes, after YAML 1.2's core schema (section 10.3.2).
fn plain(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return Kind::Text(text.into());
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(value) = text.parse()
    {
        return Kind::Int(value);
    }
    let is_number =
        digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    match text.parse::<f64>() {
        Ok(value) if is_number && value.is_finite() => Kind::Float(value),
        _ => Kind::Text(text.into()),
    }
}
