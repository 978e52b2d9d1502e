//! Mail, handed to a server by SMTP.

mod message;
mod send;
mod server;

use super::fill::{Context, PlanError, visible};
use crate::jq::{Jq, Template};
use crate::topology::expression::{compile_template, jq_of, template};
use crate::topology::read::{Fields, Report, entries};
use crate::topology::used::Used;
use crate::topology::{Kind, Node, shorten};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
pub(crate) use send::Mailer;
use serde_json::{Value, json};
pub(crate) use server::{MailServer, read_servers};
use std::fmt;

/// Recipients of one mail, at most.
const RECIPIENTS_MAX: usize = 100;

/// Longest subject or header. Bytes.
const HEADER_MAX_BYTES: usize = 8 * 1024;

/// Texts and attachments of one mail together, before they are encoded. Bytes.
const MAIL_MAX_BYTES: usize = 25 * 1024 * 1024;

/// Headers that have keys of their own, or are made by what sends the mail.
const OWN_HEADERS: [&str; 13] = [
    "from",
    "sender",
    "to",
    "cc",
    "bcc",
    "reply-to",
    "subject",
    "date",
    "message-id",
    "idempotency-key",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
];

/// Sends a mail.
#[derive(Debug)]
pub(crate) struct EmailAction {
    place: String,
    server: Option<Box<str>>,
    from: Option<Template>,
    to: Vec<Template>,
    cc: Vec<Template>,
    bcc: Vec<Template>,
    reply_to: Vec<Template>,
    subject: Template,
    text: Option<Template>,
    html: Option<Template>,
    attachments: Vec<Attachment>,
    headers: Vec<(Box<str>, Template)>,
}

#[derive(Debug)]
struct Attachment {
    name: Template,
    content_type: ContentType,
    body: Jq,
    is_base64: bool,
}

/// The same, filled in.
#[derive(Debug)]
pub(crate) struct EmailStep {
    place: String,
    server: Option<Box<str>>,
    /// Nothing: that of the server.
    from: Option<Mailbox>,
    to: Vec<Mailbox>,
    cc: Vec<Mailbox>,
    bcc: Vec<Mailbox>,
    reply_to: Vec<Mailbox>,
    subject: String,
    text: Option<String>,
    html: Option<String>,
    attachments: Vec<Attached>,
    headers: Vec<(Box<str>, String)>,
    step_id: String,
}

#[derive(Debug)]
struct Attached {
    name: String,
    content_type: ContentType,
    body: Vec<u8>,
}

impl EmailAction {
    /// Reads what the file says.
    pub(super) fn read(node: &Node, line: usize, path: &str, report: &mut Report) -> Option<Self> {
        let known = [
            "server",
            "from",
            "to",
            "cc",
            "bcc",
            "reply_to",
            "subject",
            "text",
            "html",
            "attachments",
            "headers",
        ];
        let fields = Fields::read(node, path, &known, report);
        let server = fields.text("server", "the name of a server of the section 'mail'", report);
        report.used.push(Used::mail(server, line, &fields.path_of("server")));
        fields.required("to", "'to', an address or a list of them", report);
        fields.required("subject", "'subject', a text", report);
        let subject = template(&fields, "subject", report);
        let (text, html) = (template(&fields, "text", report), template(&fields, "html", report));
        if fields.get("text").is_none() && fields.get("html").is_none() {
            report.add(node.line, path, "found neither 'text' nor 'html', expected one or both");
        }
        let mut headers = Vec::new();
        if let Some(node) = fields.get("headers") {
            let path = fields.path_of("headers");
            for entry in entries(node, &path, "a mapping from names to texts", report) {
                let path = format!("{path}.{}", entry.key);
                let is_name = entry.key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
                if OWN_HEADERS.contains(&&*entry.key.to_ascii_lowercase()) {
                    report.add(entry.line, &path, format!("found '{}', expected other headers", entry.key));
                } else if !is_name || entry.key.is_empty() {
                    let text = format!("found '{}', expected the name of a header", shorten(&entry.key));
                    report.add(entry.line, &path, text);
                } else if let Some(value) = compile_template(&entry.value, &path, report) {
                    headers.push((entry.key.clone(), value));
                }
            }
        }
        let addresses = |key: &str, report: &mut Report| read_addresses(&fields, key, report);
        Some(Self {
            place: format!("{}:{line}", report.file),
            server: server.map(Into::into),
            from: template(&fields, "from", report),
            to: addresses("to", report),
            cc: addresses("cc", report),
            bcc: addresses("bcc", report),
            reply_to: addresses("reply_to", report),
            subject: subject?,
            text,
            html,
            attachments: read_attachments(&fields, report),
            headers,
        })
    }

    /// With everything worked out for an event.
    pub(super) fn fill(&self, context: &Context<'_>) -> Result<EmailStep, PlanError> {
        let val = context.val;
        let text = |template: &Option<Template>| template.as_ref().map(|it| it.text(val)).transpose();
        let from = text(&self.from)?.map(|from| self.mailbox("from", &from)).transpose()?;
        let (to, cc) = (self.mailboxes("to", &self.to, context)?, self.mailboxes("cc", &self.cc, context)?);
        let bcc = self.mailboxes("bcc", &self.bcc, context)?;
        let reply_to = self.mailboxes("reply_to", &self.reply_to, context)?;
        let recipients = to.len() + cc.len() + bcc.len();
        if to.is_empty() || recipients > RECIPIENTS_MAX {
            let found = format!("found {} addresses in 'to' and {recipients} in all", to.len());
            return Err(self.unusable(format!("{found}, expected 1 to {RECIPIENTS_MAX}")));
        }
        let subject = self.one_line("subject", self.subject.text(val)?)?;
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            headers.push((name.clone(), self.one_line(name, value.text(val)?)?));
        }
        let (text, html) = (text(&self.text)?, text(&self.html)?);
        let mut size_bytes = text.as_ref().map_or(0, String::len) + html.as_ref().map_or(0, String::len);
        let mut attachments = Vec::with_capacity(self.attachments.len());
        for attachment in &self.attachments {
            let body = self.attached(attachment, attachment.body.one(val)?)?;
            size_bytes += body.len();
            attachments.push(Attached {
                name: self.one_line("the name of an attachment", attachment.name.text(val)?)?,
                content_type: attachment.content_type.clone(),
                body,
            });
        }
        if size_bytes > MAIL_MAX_BYTES {
            let found = format!("texts and attachments have {size_bytes} bytes");
            return Err(self.unusable(format!("{found}, at most {MAIL_MAX_BYTES} are allowed")));
        }
        Ok(EmailStep {
            place: self.place.clone(),
            server: self.server.clone(),
            from,
            to,
            cc,
            bcc,
            reply_to,
            subject,
            text,
            html,
            attachments,
            headers,
            step_id: visible(&context.step_id()),
        })
    }

    fn unusable(&self, reason: String) -> PlanError {
        PlanError::Unusable { place: self.place.clone(), reason }
    }

    /// One text is one address: an event cannot add recipients with a comma. A text that is a list in the event is
    /// as many.
    fn mailboxes(
        &self,
        key: &str,
        templates: &[Template],
        context: &Context<'_>,
    ) -> Result<Vec<Mailbox>, PlanError> {
        let mut out = Vec::new();
        for template in templates {
            match template.value(context.val)? {
                Value::Null => {}
                Value::String(text) => out.push(self.mailbox(key, &text)?),
                Value::Array(items) => {
                    for item in items {
                        match item {
                            Value::String(text) => out.push(self.mailbox(key, &text)?),
                            other => return Err(self.no_address(key, &other.to_string())),
                        }
                    }
                }
                other => return Err(self.no_address(key, &other.to_string())),
            }
        }
        Ok(out)
    }

    fn mailbox(&self, key: &str, text: &str) -> Result<Mailbox, PlanError> {
        let parsed = text.trim().parse::<Mailbox>().ok();
        parsed.filter(|_| !text.contains(char::is_control)).ok_or_else(|| self.no_address(key, text))
    }

    fn no_address(&self, key: &str, text: &str) -> PlanError {
        let text: String = text.chars().take(100).collect();
        self.unusable(format!("'{key}' has {text:?}, expected an address such as Ann <ann@example.com>"))
    }

    /// A line end would begin a header of somebody else's choice.
    fn one_line(&self, what: &str, text: String) -> Result<String, PlanError> {
        if text.contains(|c: char| c.is_control() && c != '\t') {
            return Err(self.unusable(format!("{what} has a line end or another control character")));
        }
        match text.len() > HEADER_MAX_BYTES {
            true => {
                Err(self.unusable(format!("{what} has {} bytes, at most {HEADER_MAX_BYTES}", text.len())))
            }
            false => Ok(text),
        }
    }

    fn attached(&self, attachment: &Attachment, body: Value) -> Result<Vec<u8>, PlanError> {
        match (body, attachment.is_base64) {
            (Value::String(text), false) => Ok(text.into_bytes()),
            (other, false) => Ok(other.to_string().into_bytes()),
            (Value::String(text), true) => {
                let compact: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
                BASE64
                    .decode(compact)
                    .map_err(|error| self.unusable(format!("an attachment is no base64: {error}")))
            }
            (_, true) => Err(self.unusable("an attachment is no text, expected base64".to_owned())),
        }
    }
}

fn read_addresses(fields: &Fields<'_>, key: &str, report: &mut Report) -> Vec<Template> {
    let Some(node) = fields.get(key) else { return Vec::new() };
    let path = fields.path_of(key);
    let templates: Vec<_> = match &node.kind {
        Kind::List(items) => {
            let items = items.iter().enumerate();
            items.map(|(at, item)| (compile_template(item, &format!("{path}[{at}]"), report), item)).collect()
        }
        _ => vec![(compile_template(node, &path, report), node)],
    };
    for (template, node) in &templates {
        let fixed = template.as_ref().and_then(Template::as_fixed);
        if fixed.is_some_and(|fixed| fixed.parse::<Mailbox>().is_err()) {
            report.expected(node, &path, "an address such as Ann <ann@example.com>, or a list of them");
        }
    }
    templates.into_iter().filter_map(|(template, _)| template).collect()
}

fn read_attachments(fields: &Fields<'_>, report: &mut Report) -> Vec<Attachment> {
    let Some(node) = fields.get("attachments") else { return Vec::new() };
    let path = fields.path_of("attachments");
    let Kind::List(items) = &node.kind else {
        report.expected(node, &path, "a list of attachments, each after a '-'");
        return Vec::new();
    };
    let mut out = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let fields =
            Fields::read(item, &format!("{path}[{at}]"), &["name", "content_type", "body", "base64"], report);
        fields.required("name", "'name', a text", report);
        fields.required("body", "'body', a jq expression", report);
        let name = template(&fields, "name", report);
        let body = jq_of(&fields, "body", report);
        let kind = fields.text("content_type", "a media type", report).unwrap_or("application/octet-stream");
        let parsed = ContentType::parse(kind).ok();
        if parsed.is_none() {
            report.add(
                item.line,
                &fields.path_of("content_type"),
                format!("found '{}', expected a media type such as application/pdf", shorten(kind)),
            );
        }
        let is_base64 = fields.bool("base64", false, report);
        if let (Some(name), Some(content_type), Some(body)) = (name, parsed, body) {
            out.push(Attachment { name, content_type, body, is_base64 });
        }
    }
    out
}

impl EmailStep {
    /// See [`super::Step::facts`].
    pub(super) fn facts(&self) -> Value {
        let addresses = |list: &[Mailbox]| -> Vec<String> { list.iter().map(Mailbox::to_string).collect() };
        let headers: serde_json::Map<_, _> =
            self.headers.iter().map(|(name, value)| (name.to_string(), value.as_str().into())).collect();
        let attachments: Vec<_> = self
            .attachments
            .iter()
            .map(|it| json!({"name": it.name, "body": String::from_utf8_lossy(&it.body)}))
            .collect();
        json!({
            "server": self.server,
            "from": self.from.as_ref().map(Mailbox::to_string),
            "to": addresses(&self.to),
            "cc": addresses(&self.cc),
            "bcc": addresses(&self.bcc),
            "reply_to": addresses(&self.reply_to),
            "subject": self.subject,
            "text": self.text,
            "html": self.html,
            "headers": headers,
            "attachments": attachments,
        })
    }

    /// See [`super::Step::target`].
    pub(super) fn target(&self) -> String {
        format!("smtp {}", self.server.as_deref().unwrap_or_default())
    }
}

impl fmt::Display for EmailStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "email ({})", self.place)?;
        if let Some(server) = &self.server {
            write!(f, "\n   server: {server}")?;
        }
        if let Some(from) = &self.from {
            write!(f, "\n   from: {from}")?;
        }
        let lists = [("to", &self.to), ("cc", &self.cc), ("bcc", &self.bcc), ("reply to", &self.reply_to)];
        for (key, list) in lists {
            for address in list {
                write!(f, "\n   {key}: {address}")?;
            }
        }
        write!(f, "\n   subject: {}", self.subject)?;
        for (name, value) in &self.headers {
            write!(f, "\n   header {name}: {value}")?;
        }
        for (key, text) in [("text", &self.text), ("html", &self.html)] {
            if let Some(text) = text {
                write!(f, "\n   {key}: {text}")?;
            }
        }
        for attached in &self.attachments {
            write!(f, "\n   attachment: {} ({} bytes)", attached.name, attached.body.len())?;
        }
        Ok(())
    }
}
