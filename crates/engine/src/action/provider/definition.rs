//! The section `providers`: how a provider is asked, and what its answer means.

use super::Means;
use crate::action::http::{check_endpoint, read_basic_auth, read_method, read_statuses};
use crate::jq::{Jq, Template};
use crate::secret::{SecretTemplate, SecretText};
use crate::topology::Node;
use crate::topology::expression::{jq_of, read_secret_headers, template};
use crate::topology::read::{Fields, Report, entries};
use crate::topology::used::plain_name;
use jaq_json::Val;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json::Value;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// Longest time a request may take.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// Longest name for a message that a provider gives. Characters.
const ID_MAX_CHARS: usize = 200;

/// A provider.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: Box<str>,
    /// `FILE:LINE`.
    pub(crate) place: String,
    sms: Option<Arc<Service>>,
    voice: Option<Arc<Service>>,
    /// As written, to see whether another file says the same.
    pub(crate) definition: Node,
}

impl Provider {
    /// How it does this, if it does.
    pub(crate) fn service(&self, means: Means) -> Option<Arc<Service>> {
        match means {
            Means::Sms => self.sms.clone(),
            Means::Voice => self.voice.clone(),
        }
    }

    /// Whether it does what the file calls `sms` or `voice`.
    pub(crate) fn does(&self, key: &str) -> bool {
        [Means::Sms, Means::Voice]
            .into_iter()
            .any(|means| means.key() == key && self.service(means).is_some())
    }
}

/// How one thing is asked for.
#[derive(Debug)]
pub(crate) struct Service {
    pub(super) place: String,
    pub(super) method: reqwest::Method,
    endpoint: Template,
    headers: Vec<(Box<str>, SecretTemplate)>,
    basic_auth: Option<(SecretTemplate, SecretTemplate)>,
    form: Vec<(Box<str>, SecretTemplate)>,
    body: Option<Jq>,
    idempotency_header: Option<HeaderName>,
    pub(super) expect: Vec<RangeInclusive<u16>>,
    accepted: Option<Jq>,
    id: Option<Jq>,
    pub(super) timeout: Duration,
    pub(super) ca_file: Option<Arc<str>>,
}

/// A request with everything but its secrets.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) url: reqwest::Url,
    pub(super) headers: Vec<(HeaderName, SecretText)>,
    pub(super) basic_auth: Option<(SecretText, SecretText)>,
    /// Sent where there is no `body`.
    pub(super) form: Vec<(Box<str>, SecretText)>,
    pub(super) body: Option<String>,
}

/// What an answer means.
#[derive(Debug)]
pub(super) enum Judged {
    /// With the provider's name for the message, if it says one.
    Accepted(Value),
    /// It answered, and did not take it.
    Refused,
}

/// Reads the section `providers`.
pub(crate) fn read_providers(node: &Node, report: &mut Report) -> Vec<Arc<Provider>> {
    let mut providers = Vec::new();
    for entry in entries(node, "providers", "a mapping from names to providers", report) {
        let path = format!("providers.{}", entry.key);
        if !plain_name(&entry.key, entry.line, &path, report) {
            continue;
        }
        let fields = Fields::read(&entry.value, &path, &["sms", "voice"], report);
        let mut read = |means: Means| {
            let node = fields.get(means.key())?;
            read_service(node, &fields.path_of(means.key()), report).map(Arc::new)
        };
        let (sms, voice) = (read(Means::Sms), read(Means::Voice));
        if fields.get("sms").is_none() && fields.get("voice").is_none() {
            report.add(entry.line, &path, "found neither 'sms' nor 'voice', expected one or both");
        }
        let place = format!("{}:{}", report.file, entry.line);
        let (name, definition) = (entry.key.clone(), entry.value.clone());
        providers.push(Arc::new(Provider { name, place, sms, voice, definition }));
    }
    providers
}

fn read_service(node: &Node, path: &str, report: &mut Report) -> Option<Service> {
    let known = [
        "method",
        "endpoint",
        "headers",
        "basic_auth",
        "form",
        "body",
        "idempotency_header",
        "expect",
        "accepted",
        "id",
        "timeout",
        "ca_file",
    ];
    let fields = Fields::read(node, path, &known, report);
    fields.required("endpoint", "'endpoint', an http or https URL", report);
    let endpoint = template(&fields, "endpoint", report);
    if let (Some(template), Some(node)) = (&endpoint, fields.get("endpoint")) {
        check_endpoint(template, node, &fields.path_of("endpoint"), report);
    }
    if fields.get("form").is_some() == fields.get("body").is_some() {
        report.add(node.line, path, "expected one of 'form' (names and texts) and 'body' (jq)");
    }
    let headers = read_secret_headers(&fields, "headers", report);
    for (name, _) in &headers {
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            let text = format!("found '{name}', expected the name of an HTTP header");
            report.add(node.line, &fields.path_of("headers"), text);
        }
    }
    let idempotency_header =
        fields.text("idempotency_header", "the name of a header", report).and_then(|name| {
            let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
            if parsed.is_none() {
                let path = fields.path_of("idempotency_header");
                report.add(node.line, &path, format!("found '{name}', expected the name of an HTTP header"));
            }
            parsed
        });
    let basic_auth = fields.get("basic_auth");
    let basic_auth = basic_auth.and_then(|node| read_basic_auth(node, &fields.path_of("basic_auth"), report));
    Some(Service {
        place: format!("{}:{}", report.file, node.line),
        method: read_method(&fields, report),
        endpoint: endpoint?,
        headers,
        basic_auth,
        form: read_secret_headers(&fields, "form", report),
        body: jq_of(&fields, "body", report),
        idempotency_header,
        expect: read_statuses(&fields, report),
        accepted: jq_of(&fields, "accepted", report),
        id: jq_of(&fields, "id", report),
        timeout: fields.duration("timeout", Duration::from_secs(10), TIMEOUT_MAX, report),
        ca_file: fields.text("ca_file", "the path of a file with certificates", report).map(Into::into),
    })
}

impl Service {
    /// The request; expressions see `to`, `text`, `audio_url` and `id`. Needs a deep stack.
    pub(super) fn request(&self, facts: &Val) -> Result<Request, String> {
        let endpoint = self.endpoint.text(facts).map_err(|error| error.to_string())?;
        let url = reqwest::Url::parse(&endpoint)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.ok_or_else(|| format!("{}: '{endpoint}' is not an http or https URL", self.place))?;
        let fill = |texts: &[(Box<str>, SecretTemplate)]| {
            let mut out = Vec::with_capacity(texts.len());
            for (name, text) in texts {
                let text = text.fill(facts).map_err(|error| error.to_string())?;
                out.extend(text.map(|text| (name.clone(), text)));
            }
            Ok::<_, String>(out)
        };
        let body = match &self.body {
            None => None,
            Some(jq) => Some(match jq.one(facts).map_err(|error| error.to_string())? {
                Value::String(text) => text,
                other => other.to_string(),
            }),
        };
        let content_type = match &body {
            Some(_) => "application/json",
            None => "application/x-www-form-urlencoded",
        };
        let mut headers: Vec<(HeaderName, SecretText)> = vec![(CONTENT_TYPE, content_type.to_owned().into())];
        if let Some(name) = &self.idempotency_header
            && let Some(id) = id_of(facts).filter(|id| HeaderValue::from_str(id).is_ok())
        {
            headers.push((name.clone(), id.into()));
        }
        for (name, value) in fill(&self.headers)? {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            headers.retain(|(known, _)| *known != name);
            headers.push((name, value));
        }
        let basic_auth = match &self.basic_auth {
            None => None,
            Some((user, password)) => {
                let fill = |text: &SecretTemplate| text.fill(facts).map_err(|error| error.to_string());
                fill(user)?.zip(fill(password)?)
            }
        };
        Ok(Request { url, headers, basic_auth, form: fill(&self.form)?, body })
    }

    /// What an answer (`{status, headers, body}`) means. Needs a deep stack.
    pub(super) fn judge(&self, answer: &Val) -> Result<Judged, String> {
        if let Some(accepted) = &self.accepted
            && !accepted.is_true(answer).map_err(|error| error.to_string())?
        {
            return Ok(Judged::Refused);
        }
        let id = match &self.id {
            // An answer without an id does not undo what was sent.
            Some(id) => id.one(answer).unwrap_or(Value::Null),
            None => Value::Null,
        };
        Ok(Judged::Accepted(match id {
            Value::String(text) => text.chars().take(ID_MAX_CHARS).collect::<String>().into(),
            Value::Number(number) => number.to_string().into(),
            _ => Value::Null,
        }))
    }
}

fn id_of(facts: &Val) -> Option<String> {
    match facts {
        Val::Obj(fields) => match fields.get(&Val::from("id".to_owned()))? {
            Val::TStr(bytes) | Val::BStr(bytes) => String::from_utf8(bytes.to_vec()).ok(),
            _ => None,
        },
        _ => None,
    }
}

/// As a browser sends a form.
pub(super) fn form_encoded<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        encode(name, &mut out);
        out.push('=');
        encode(value, &mut out);
    }
    out
}

fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}
