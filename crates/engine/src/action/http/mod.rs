//! HTTP requests.

mod client;
mod retry_after;

use super::fill::{Context, PlanError, body_of, show_body, visible};
use crate::jq::{Jq, Template};
use crate::secret::{SecretTemplate, SecretText};
use crate::topology::expression::{jq_of, read_secret_headers, template};
use crate::topology::read::{Fields, Report};
use crate::topology::{Kind, Node, shorten};
pub(crate) use client::{HttpClient, with_causes};
use reqwest::header::HeaderName;
pub(crate) use retry_after::retry_after;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// Longest time an HTTP action may take.
const HTTP_TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// What `ca_file` is.
const CA_FILE: &str = "the path of a file with certificates of authorities, in PEM";

/// Sends an HTTP request.
#[derive(Debug)]
pub(crate) struct HttpAction {
    pub(crate) place: String,
    pub(crate) method: reqwest::Method,
    pub(crate) endpoint: Template,
    pub(crate) headers: Vec<(Box<str>, SecretTemplate)>,
    /// User and password.
    pub(crate) basic_auth: Option<(SecretTemplate, SecretTemplate)>,
    pub(crate) body: Option<Jq>,
    pub(crate) expect: Vec<RangeInclusive<u16>>,
    pub(crate) timeout: Duration,
    /// Never taken from an event: who is trusted is for the file to say.
    pub(crate) ca_file: Option<Arc<str>>,
}

/// The same, filled in.
#[derive(Debug)]
pub(crate) struct HttpStep {
    pub(crate) place: String,
    pub(crate) method: reqwest::Method,
    pub(crate) url: reqwest::Url,
    pub(crate) headers: Vec<(HeaderName, SecretText)>,
    /// User and password.
    pub(crate) basic_auth: Option<(SecretText, SecretText)>,
    pub(crate) body: Vec<u8>,
    pub(crate) expect: Vec<RangeInclusive<u16>>,
    pub(crate) timeout: Duration,
    /// Authorities to trust beside the system's: a file in the data directory, or absolute.
    pub(crate) ca_file: Option<Arc<str>>,
}

impl HttpAction {
    /// Reads what the file says.
    pub(super) fn read(node: &Node, line: usize, path: &str, report: &mut Report) -> Option<Self> {
        let known = ["method", "endpoint", "headers", "basic_auth", "body", "expect", "timeout", "ca_file"];
        let fields = Fields::read(node, path, &known, report);
        let method = read_method(&fields, report);
        fields.required("endpoint", "'endpoint', an http or https URL", report);
        let endpoint = template(&fields, "endpoint", report);
        if let (Some(template), Some(node)) = (&endpoint, fields.get("endpoint")) {
            check_endpoint(template, node, &fields.path_of("endpoint"), report);
        }
        let headers = read_secret_headers(&fields, "headers", report);
        for (name, _) in &headers {
            if reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_err() {
                let text = format!("found '{}', expected the name of an HTTP header", shorten(name));
                report.add(node.line, &fields.path_of("headers"), text);
            }
        }
        let basic_auth = fields
            .get("basic_auth")
            .and_then(|node| read_basic_auth(node, &fields.path_of("basic_auth"), report));
        let body = jq_of(&fields, "body", report);
        let expect = read_statuses(&fields, report);
        let ca_file = fields.text("ca_file", CA_FILE, report).filter(|path| {
            if path.is_empty() {
                let line = fields.get("ca_file").map_or(node.line, |node| node.line);
                report.add(line, &fields.path_of("ca_file"), format!("found nothing, expected {CA_FILE}"));
            }
            !path.is_empty()
        });
        let timeout = fields.duration("timeout", Duration::from_secs(10), HTTP_TIMEOUT_MAX, report);
        Some(Self {
            place: format!("{}:{line}", report.file),
            method,
            endpoint: endpoint?,
            headers,
            basic_auth,
            body,
            expect,
            timeout,
            ca_file: ca_file.map(Into::into),
        })
    }

    /// With everything worked out for an event.
    pub(super) fn fill(&self, context: &Context<'_>) -> Result<HttpStep, PlanError> {
        use reqwest::header::{CONTENT_TYPE, HeaderValue as Text};
        let unusable = |reason: String| PlanError::Unusable { place: self.place.clone(), reason };
        let endpoint = self.endpoint.text(context.val)?;
        let url = reqwest::Url::parse(&endpoint)
            .map_err(|error| unusable(format!("the endpoint '{endpoint}' is not a URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(unusable(format!(
                "the endpoint '{endpoint}' is not an http or https URL with a host"
            )));
        }
        let (body, content_type) = match &self.body {
            Some(jq) => body_of(jq.body(context.val)?),
            None if matches!(self.method.as_str(), "POST" | "PUT" | "PATCH") => {
                let json = context.event.to_cloud_event().to_string();
                (json.into_bytes(), Some("application/cloudevents+json".to_owned()))
            }
            None => (Vec::new(), None),
        };
        let mut headers: Vec<(HeaderName, SecretText)> = Vec::new();
        if let Some(content_type) = content_type.filter(|it| Text::from_str(it).is_ok()) {
            headers.push((CONTENT_TYPE, content_type.into()));
        }
        let key = HeaderName::from_static("idempotency-key");
        headers.push((key, visible(&context.step_id()).into()));
        for (name, value) in &self.headers {
            let Some(value) = value.fill(context.val)? else { continue };
            // A secret's value is looked at when it is known.
            if let Some(value) = value.as_fixed().filter(|value| Text::from_str(value).is_err()) {
                return Err(unusable(format!("the header '{name}' cannot have the value {value:?}")));
            }
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| unusable(format!("'{name}' cannot be a header's name")))?;
            headers.retain(|(known, _)| *known != name);
            headers.push((name, value));
        }
        let basic_auth = match &self.basic_auth {
            Some((user, password)) => user.fill(context.val)?.zip(password.fill(context.val)?),
            None => None,
        };
        Ok(HttpStep {
            place: self.place.clone(),
            method: self.method.clone(),
            url,
            headers,
            basic_auth,
            body,
            expect: self.expect.clone(),
            timeout: self.timeout,
            ca_file: self.ca_file.clone(),
        })
    }
}

impl HttpStep {
    /// See [`super::Step::target`].
    pub(super) fn target(&self) -> String {
        let port = self.url.port_or_known_default().unwrap_or_default();
        format!("http {}:{port}", self.url.host_str().unwrap_or_default())
    }
}

impl fmt::Display for HttpStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http ({})", self.place)?;
        write!(f, "\n   {} {}", self.method, self.url)?;
        if let Some(path) = &self.ca_file {
            write!(f, "\n   ca file: {path}")?;
        }
        for (name, value) in &self.headers {
            write!(f, "\n   header {name}: {value}")?;
        }
        if let Some((user, _)) = &self.basic_auth {
            write!(f, "\n   basic auth: {user}")?;
        }
        show_body(f, &self.body)
    }
}

/// The method; POST if the file says none.
pub(super) fn read_method(fields: &Fields<'_>, report: &mut Report) -> reqwest::Method {
    let Some(text) = fields.text("method", "an HTTP method", report) else { return reqwest::Method::POST };
    reqwest::Method::from_bytes(text.as_bytes()).unwrap_or_else(|_| {
        let line = fields.get("method").map_or(fields.line, |node| node.line);
        let found = format!("found '{}', expected an HTTP method such as POST", shorten(text));
        report.add(line, &fields.path_of("method"), found);
        reqwest::Method::POST
    })
}

/// The statuses that mean it was done; 200-299 if the file says none.
pub(super) fn read_statuses(fields: &Fields<'_>, report: &mut Report) -> Vec<RangeInclusive<u16>> {
    let Some(node) = fields.get("expect") else { return vec![200..=299] };
    statuses(node).unwrap_or_else(|| {
        report.expected(node, &fields.path_of("expect"), "statuses such as 200, 200-299 or a list of them");
        Vec::new()
    })
}

/// User and password.
pub(super) fn read_basic_auth(
    node: &Node,
    path: &str,
    report: &mut Report,
) -> Option<(SecretTemplate, SecretTemplate)> {
    let fields = Fields::read(node, path, &["user", "password"], report);
    let mut text = |key: &str, expected: &str| {
        let node = fields.required(key, expected, report)?;
        SecretTemplate::read(node, &fields.path_of(key), report)
    };
    let user = text("user", "'user', a text");
    let password = text("password", "'password', a text such as ${secret:NAME}");
    user.zip(password)
}

/// Whether an endpoint can become a URL.
pub(super) fn check_endpoint(template: &Template, node: &Node, path: &str, report: &mut Report) {
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
