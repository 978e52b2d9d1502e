//! Short messages and calls, through the HTTP interface of a provider that the file describes.

mod definition;

use super::fill::{Context, PlanError, visible};
use super::http::{HttpClient, HttpStep};
use super::{ActionError, Answer};
use crate::jq::{Template, to_val, with_deep_stack};
use crate::secret::{Scrub, Secrets};
use crate::topology::Node;
use crate::topology::expression::template;
use crate::topology::read::{Fields, Report};
use crate::topology::used::Used;
use definition::{Judged, Service};
pub(crate) use definition::{Provider, read_providers};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Longest text. Bytes.
const TEXT_MAX_BYTES: usize = 16 * 1024;

/// What a provider does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Means {
    /// A short message.
    Sms,
    /// A call.
    Voice,
}

impl Means {
    /// The key in the file.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Sms => "sms",
            Self::Voice => "voice",
        }
    }
}

/// Sends a short message, or calls.
#[derive(Debug)]
pub(crate) struct ProviderAction {
    place: String,
    means: Means,
    provider: Option<Box<str>>,
    to: Template,
    text: Option<Template>,
    audio_url: Option<Template>,
}

/// The same, filled in.
#[derive(Debug)]
pub(crate) struct ProviderStep {
    place: String,
    means: Means,
    provider: Option<Box<str>>,
    to: String,
    text: Option<String>,
    audio_url: Option<String>,
    step_id: String,
}

impl ProviderAction {
    /// Reads what the file says.
    pub(super) fn read(
        means: Means,
        node: &Node,
        line: usize,
        path: &str,
        report: &mut Report,
    ) -> Option<Self> {
        let known: &[&str] = match means {
            Means::Sms => &["provider", "to", "text"],
            Means::Voice => &["provider", "to", "text", "audio_url"],
        };
        let fields = Fields::read(node, path, known, report);
        let provider = fields.text("provider", "the name of one of the section 'providers'", report);
        report.used.push(Used::provider(means.key(), provider, line, &fields.path_of("provider")));
        fields.required("to", "'to', a number such as +4915112345678", report);
        let (to, text) = (template(&fields, "to", report), template(&fields, "text", report));
        let audio_url = template(&fields, "audio_url", report);
        if let (Some(fixed), Some(node)) = (to.as_ref().and_then(Template::as_fixed), fields.get("to"))
            && !is_number(fixed)
        {
            report.expected(node, &fields.path_of("to"), "a number such as +4915112345678 (E.164)");
        }
        match (means, fields.get("text").is_some(), fields.get("audio_url").is_some()) {
            (Means::Sms, false, _) => report.add(node.line, path, "found no 'text', expected a text"),
            (Means::Voice, false, false) | (Means::Voice, true, true) => {
                report.add(node.line, path, "expected one of 'text' and 'audio_url'");
            }
            _ => {}
        }
        let place = format!("{}:{line}", report.file);
        Some(Self { place, means, provider: provider.map(Into::into), to: to?, text, audio_url })
    }

    /// With everything worked out for an event.
    pub(super) fn fill(&self, context: &Context<'_>) -> Result<ProviderStep, PlanError> {
        let unusable = |reason: String| PlanError::Unusable { place: self.place.clone(), reason };
        let to = self.to.text(context.val)?;
        if !is_number(&to) {
            let shown: String = to.chars().take(40).collect();
            return Err(unusable(format!(
                "'to' is {shown:?}, expected a number such as +4915112345678 (E.164)"
            )));
        }
        let text = |template: &Option<Template>| template.as_ref().map(|it| it.text(context.val)).transpose();
        let (text, audio_url) = (text(&self.text)?, text(&self.audio_url)?);
        if let Some(text) = text.as_ref().filter(|text| text.is_empty() || text.len() > TEXT_MAX_BYTES) {
            let size_bytes = text.len();
            return Err(unusable(format!("the text has {size_bytes} bytes, expected 1 to {TEXT_MAX_BYTES}")));
        }
        if let Some(url) = audio_url.as_ref().filter(|url| !is_web_address(url)) {
            return Err(unusable(format!("'audio_url' is {url:?}, expected an http or https URL")));
        }
        Ok(ProviderStep {
            place: self.place.clone(),
            means: self.means,
            provider: self.provider.clone(),
            to,
            text,
            audio_url,
            step_id: visible(&context.step_id()),
        })
    }
}

/// As E.164 has it: a plus, a country's code, at most 15 digits.
fn is_number(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0')
    })
}

fn is_web_address(text: &str) -> bool {
    reqwest::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

impl ProviderStep {
    /// See [`super::Step::target`].
    pub(super) fn target(&self) -> String {
        format!("provider {}", self.provider.as_deref().unwrap_or(self.means.key()))
    }

    /// The key in the file.
    pub(super) fn kind(&self) -> &'static str {
        self.means.key()
    }

    /// See [`super::Step::facts`].
    pub(super) fn facts(&self) -> Value {
        json!({"provider": self.provider, "to": self.to, "text": self.text, "audio_url": self.audio_url})
    }

    /// What the provider's expressions see.
    fn seen(&self) -> Value {
        json!({"to": self.to, "text": self.text, "audio_url": self.audio_url, "id": self.step_id})
    }
}

impl fmt::Display for ProviderStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.means.key(), self.place)?;
        let texts = [
            ("provider", self.provider.as_deref()),
            ("to", Some(&*self.to)),
            ("text", self.text.as_deref()),
            ("audio url", self.audio_url.as_deref()),
        ];
        texts.into_iter().try_for_each(|(key, text)| match text {
            Some(text) => write!(f, "\n   {key}: {text}"),
            None => Ok(()),
        })
    }
}

/// The providers that the file describes; cloning counts a reference.
#[derive(Debug, Clone, Default)]
pub(crate) struct Providers(Arc<Mutex<BTreeMap<Box<str>, Arc<Provider>>>>);

impl Providers {
    /// Knows these from now on, and no others.
    pub(crate) fn define(&self, providers: &[Arc<Provider>]) {
        *self.0.lock() = providers.iter().map(|it| (it.name.clone(), it.clone())).collect();
    }

    fn service(&self, step: &ProviderStep) -> Option<Arc<Service>> {
        let providers = self.0.lock();
        match &step.provider {
            Some(name) => providers.get(name)?.service(step.means),
            None => {
                let mut able = providers.values().filter_map(|it| it.service(step.means));
                able.next().filter(|_| able.next().is_none())
            }
        }
    }

    /// Asks the provider; the answer is `{id, answer}`: its name for the message, and all it said.
    pub(crate) async fn send(&self, step: &ProviderStep, http: &HttpClient, secrets: &Secrets) -> Answer {
        let failed = |reason: String, is_retryable: bool| ActionError::Provider {
            place: step.place.clone(),
            provider: step.provider.as_deref().unwrap_or("the only provider").to_owned(),
            reason,
            is_retryable,
        };
        let service = self.service(step);
        let missing = || failed(format!("no provider says how to do '{}'", step.means.key()), true);
        let service = service.ok_or_else(missing)?;
        let request = {
            let (service, facts) = (service.clone(), step.seen());
            aside(move || service.request(&to_val(&facts))).await
        };
        let request = request.map_err(|reason| failed(reason, false))?;
        let mut scrub = Scrub::default();
        let filled = request.resolve(step, &service, secrets, &mut scrub).await?;
        let answer = match http.send_with(&filled, secrets, scrub).await {
            Err(ActionError::Status { status, answer, .. }) if is_final(status) => {
                return Err(failed(format!("it answers {status}{answer}"), false));
            }
            other => other?,
        };
        let judged = {
            let (service, answer) = (service.clone(), answer.clone());
            aside(move || service.judge(&to_val(&answer))).await
        };
        match judged.map_err(|reason| failed(reason, false))? {
            Judged::Accepted(id) => Ok(json!({"id": id, "answer": answer})),
            Judged::Refused => {
                let shown: String = answer["body"].to_string().chars().take(200).collect();
                Err(failed(format!("it does not accept: {shown}"), false))
            }
        }
    }
}

/// Whether a status says that the request is wrong, and not that it came at a bad time or with a bad login.
fn is_final(status: u16) -> bool {
    (400..500).contains(&status) && ![401, 403, 408, 409, 425, 429].contains(&status)
}

/// Evaluates expressions away from the runtime's threads, on a stack with room.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(move || with_deep_stack(work)).await {
        Ok(result) => result,
        Err(error) => Err(format!("the evaluation broke off: {error}")),
    }
}

impl definition::Request {
    /// The request with its secrets in the body; those of headers come later.
    async fn resolve(
        self,
        step: &ProviderStep,
        service: &Service,
        secrets: &Secrets,
        scrub: &mut Scrub,
    ) -> Result<HttpStep, ActionError> {
        let mut form = Vec::with_capacity(self.form.len());
        for (name, text) in &self.form {
            let value = text.resolve(secrets).await.map_err(|error| ActionError::Secret {
                place: service.place.clone(),
                reason: error.to_string(),
            })?;
            scrub.add(&value);
            form.push((name, value));
        }
        let body = match self.body {
            Some(body) => body,
            None => definition::form_encoded(form.iter().map(|(name, value)| (&***name, value.expose()))),
        };
        Ok(HttpStep {
            place: step.place.clone(),
            method: service.method.clone(),
            url: self.url,
            headers: self.headers,
            basic_auth: self.basic_auth,
            body: body.into_bytes(),
            expect: service.expect.clone(),
            timeout: service.timeout,
            ca_file: service.ca_file.clone(),
        })
    }
}
