//! Handing mail to servers, over connections that are kept.

use super::EmailStep;
use super::server::{MailServer, Tls};
use crate::action::{ActionError, Answer};
use crate::secret::{Scrub, Secrets};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls as ClientTls, TlsParameters};
use lettre::transport::smtp::{Error as SmtpError, PoolConfig};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use parking_lot::Mutex;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

type Transport = AsyncSmtpTransport<Tokio1Executor>;

/// Connections to one server that are kept for later mail.
const IDLE_MAX: u32 = 8;

/// How long an idle connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time to make a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest file of authorities. Bytes.
const CA_FILE_MAX_BYTES: u64 = 1024 * 1024;

/// So much of what a server says is kept. Characters.
const RESPONSE_MAX_CHARS: usize = 1000;

/// Replies that speak of the login and not of the mail; another password may be on its way.
const LOGIN_REPLIES: [u16; 4] = [530, 534, 535, 538];

/// Sends mail; cloning counts a reference.
#[derive(Debug, Clone)]
pub(crate) struct Mailer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Relative names of `ca_file` begin here.
    base: PathBuf,
    servers: Mutex<BTreeMap<Box<str>, Known>>,
}

/// A server, with what is made of it while it and its secrets stay the same.
#[derive(Debug)]
struct Known {
    server: Arc<MailServer>,
    made: Option<Made>,
}

/// A transport with the login it was made for.
#[derive(Clone)]
struct Made {
    login: Option<(String, String)>,
    transport: Transport,
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Made(...)")
    }
}

impl Mailer {
    /// Knows no server yet; relative names of `ca_file` are under `base`.
    pub(crate) fn new(base: PathBuf) -> Self {
        Self(Arc::new(Inner { base, servers: Mutex::default() }))
    }

    /// Knows these servers from now on, and no others.
    pub(crate) fn define(&self, servers: &[Arc<MailServer>]) {
        let mut known = self.0.servers.lock();
        let mut old = std::mem::take(&mut *known);
        for server in servers {
            let made = old.remove(&server.name).filter(|old| old.server.definition == server.definition);
            let made = made.and_then(|old| old.made);
            known.insert(server.name.clone(), Known { server: server.clone(), made });
        }
    }

    /// The server of that name; of no name, the only one.
    fn server(&self, name: Option<&str>) -> Option<Arc<MailServer>> {
        let servers = self.0.servers.lock();
        let found = match name {
            Some(name) => servers.get(name),
            None => servers.values().next().filter(|_| servers.len() == 1),
        };
        found.map(|known| known.server.clone())
    }

    /// Hands a mail over; the answer is its id and what the server said.
    pub(crate) async fn send(&self, step: &EmailStep, secrets: &Secrets) -> Answer {
        let failed = |reason: String, is_retryable: bool, is_of_target: bool| ActionError::Email {
            place: step.place.clone(),
            server: step.server.as_deref().unwrap_or("the only server").to_owned(),
            reason,
            is_retryable,
            is_of_target,
        };
        let server = self.server(step.server.as_deref());
        let server =
            server.ok_or_else(|| failed("the section 'mail' has no such server".into(), true, false))?;
        let from = step.from.as_ref().or(server.from.as_ref());
        let from =
            from.ok_or_else(|| failed("neither it nor the action says 'from'".into(), false, false))?;
        let message = step.message(from).map_err(|reason| failed(reason, false, false))?;
        let mut scrub = Scrub::default();
        let login = match &server.login {
            None => None,
            Some((user, password)) => {
                let missing = |error: crate::secret::SecretError| ActionError::Secret {
                    place: server.place.clone(),
                    reason: error.to_string(),
                };
                let user = user.resolve(secrets).await.map_err(missing)?;
                let password = password.resolve(secrets).await.map_err(missing)?;
                scrub.add(&password);
                Some((user.expose().to_owned(), password.expose().to_owned()))
            }
        };
        let transport = self.transport(&server, login).await.map_err(|reason| failed(reason, true, true))?;
        let sent = tokio::time::timeout(server.timeout, transport.send(message)).await;
        let response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let (is_retryable, is_of_target) = judge(&error);
                return Err(failed(scrub.text(with_causes(&error)), is_retryable, is_of_target));
            }
            Err(_) => {
                // A connection in the middle of a mail must not be used for another.
                self.forget(&server);
                transport.shutdown().await;
                let reason = format!("no answer within {} ms", server.timeout.as_millis());
                return Err(failed(reason, true, true));
            }
        };
        let said: String = response.message().collect::<Vec<_>>().join(" ");
        let said: String = scrub.text(said).chars().take(RESPONSE_MAX_CHARS).collect();
        Ok(json!({"message_id": step.message_id(from), "response": format!("{} {said}", response.code())}))
    }

    async fn transport(
        &self,
        server: &Arc<MailServer>,
        login: Option<(String, String)>,
    ) -> Result<Transport, String> {
        if let Some(known) = self.0.servers.lock().get(&server.name)
            && Arc::ptr_eq(&known.server, server)
            && let Some(made) = &known.made
            && made.login == login
        {
            return Ok(made.transport.clone());
        }
        let (base, wanted) = (self.0.base.clone(), server.clone());
        let tls = tokio::task::spawn_blocking(move || client_tls(&base, &wanted)).await;
        let tls = tls.map_err(|error| error.to_string())??;
        let mut builder = Transport::builder_dangerous(server.host.to_string())
            .port(server.port)
            .tls(tls)
            .timeout(Some(CONNECT_TIMEOUT))
            .pool_config(PoolConfig::new().max_size(IDLE_MAX).idle_timeout(IDLE_TIMEOUT));
        if let Some((user, password)) = &login {
            builder = builder.credentials(Credentials::new(user.clone(), password.clone()));
        }
        let transport = builder.build();
        if let Some(known) = self.0.servers.lock().get_mut(&server.name)
            && Arc::ptr_eq(&known.server, server)
        {
            known.made = Some(Made { login, transport: transport.clone() });
        }
        Ok(transport)
    }

    fn forget(&self, server: &Arc<MailServer>) {
        if let Some(known) = self.0.servers.lock().get_mut(&server.name) {
            known.made = None;
        }
    }
}

/// Whom the connection trusts; reads files.
fn client_tls(base: &std::path::Path, server: &MailServer) -> Result<ClientTls, String> {
    if server.tls == Tls::None {
        return Ok(ClientTls::None);
    }
    let mut builder = TlsParameters::builder(server.host.to_string());
    if let Some(file) = &server.ca_file {
        let path = base.join(&**file);
        let unusable = |reason: String| format!("ca_file '{}': {reason}", path.display());
        let size_bytes = std::fs::metadata(&path).map_err(|error| unusable(error.to_string()))?.len();
        if size_bytes > CA_FILE_MAX_BYTES {
            return Err(unusable(format!("it has {size_bytes} bytes, at most {CA_FILE_MAX_BYTES} are read")));
        }
        let pem = std::fs::read(&path).map_err(|error| unusable(error.to_string()))?;
        let authorities = Certificate::from_pem(&pem).map_err(|error| unusable(with_causes(&error)))?;
        builder = builder.add_root_certificate(authorities);
    }
    let parameters = builder.build().map_err(|error| with_causes(&error))?;
    Ok(match server.tls {
        Tls::Required => ClientTls::Wrapper(parameters),
        _ => ClientTls::Required(parameters),
    })
}

/// Whether another attempt may go better, and whether the server is to blame and not the mail.
fn judge(error: &SmtpError) -> (bool, bool) {
    let code = error.status().map(u16::from);
    match code {
        Some(code) if LOGIN_REPLIES.contains(&code) => (true, true),
        // 421: the server goes; other 4yz are about this mail now.
        Some(421) => (true, true),
        Some(_) => (!error.is_permanent(), false),
        None => (true, true),
    }
}

/// The error and what caused it.
fn with_causes(error: &SmtpError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
