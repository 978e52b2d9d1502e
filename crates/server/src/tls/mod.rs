//! TLS for every listener: certificates that can be changed while it serves, clients' certificates, handshakes with a
//! limit.
//!
//! | File | Holds |
//! |---|---|
//! | `load` | files to configurations of rustls |
//! | `certificate` | what a certificate says: names, validity |
//! | `wire` | a socket with TLS or without |
//!
//! A connection keeps the configuration that it began with: a reload reaches only those that come after it.

mod certificate;
mod load;
mod wire;

pub use certificate::{CertificateInfo, CertificateName};
use load::Loaded;
pub use load::TlsError;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ProtocolVersion, ServerConnection};
pub(crate) use wire::Wire;

/// Handshakes at once, over all listeners; who comes while there are so many is closed at once.
const HANDSHAKES_MAX: usize = 1024;
/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Which files, and what is asked of clients.
#[derive(Debug, Clone)]
pub struct TlsOptions {
    /// Chain of certificates (PEM), the server's own first.
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// Certificates (PEM) of those who may sign clients' certificates.
    pub client_ca: Option<PathBuf>,
    /// Whether AMQP clients show a certificate. Browsers and other HTTP clients are never asked for one.
    pub verify: ClientCertificates,
    /// Whether TLS 1.2 is refused.
    pub only_1_3: bool,
    /// What of a client's certificate is the user's name (SASL EXTERNAL).
    pub login_from: CertificateName,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked.
    None,
    /// They may; one that is shown must be good.
    Optional,
    /// They must.
    Required,
}

/// The certificates in use, and how the last change went.
#[derive(Debug, Clone)]
pub struct TlsStatus {
    /// The server's own, those that signed it, and the authorities of clients.
    pub certificates: Vec<CertificateInfo>,
    /// Since when they are in use.
    pub loaded: SystemTime,
    /// Why the files as they are now are not in use.
    pub trouble: Option<String>,
}

impl TlsStatus {
    /// The certificates that do not hold for so long any more.
    pub fn expire_within(&self, time: Duration) -> Vec<&CertificateInfo> {
        let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let until_s = i64::try_from(now_s.saturating_add(time).as_secs()).unwrap_or(i64::MAX);
        self.certificates.iter().filter(|it| it.not_after_s <= until_s).collect()
    }
}

/// What all TLS listeners share.
#[derive(Debug)]
pub struct Tls {
    options: TlsOptions,
    current: RwLock<Arc<Loaded>>,
    trouble: Mutex<Option<String>>,
    handshakes: Semaphore,
}

/// Which front end a listener is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Amqp,
    Http,
}

/// Why there is no TLS on a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("{HANDSHAKES_MAX} other handshakes are going on")]
    TooMany,
    #[error("no handshake within {0:?}")]
    TooSlow(Duration),
    #[error("{0}")]
    Failed(#[from] std::io::Error),
}

impl Tls {
    /// Reads the files.
    pub fn load(options: TlsOptions) -> Result<Arc<Self>, TlsError> {
        let current = RwLock::new(Arc::new(Loaded::read(&options)?));
        let handshakes = Semaphore::new(HANDSHAKES_MAX);
        Ok(Arc::new(Self { options, current, trouble: Mutex::default(), handshakes }))
    }

    /// Reads the files again. What is wrong with them leaves everything as it was, and is logged and remembered.
    pub fn reload(&self) -> Result<TlsStatus, TlsError> {
        match Loaded::read(&self.options) {
            Ok(loaded) => {
                tracing::info!(certificate = %self.options.certificate.display(), "certificates loaded");
                *self.current.write() = Arc::new(loaded);
                *self.trouble.lock() = None;
                Ok(self.status())
            }
            Err(error) => {
                tracing::error!(%error, "the new certificates cannot be used: those of before stay");
                *self.trouble.lock() = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// How it is.
    pub fn status(&self) -> TlsStatus {
        let current = self.current.read().clone();
        let trouble = self.trouble.lock().clone();
        TlsStatus { certificates: current.certificates.clone(), loaded: current.at, trouble }
    }

    /// Looks at the files every few seconds and reloads them when they have changed and stay as they are for a look; until
    /// the task is dropped; `told` hears how each went.
    pub async fn watch(self: Arc<Self>, told: impl Fn(&Result<TlsStatus, TlsError>)) {
        let mut used = self.current.read().seen.clone();
        let mut before = used.clone();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = load::look(&self.options);
            if now == before && now != used {
                used = now.clone();
                told(&self.reload());
            }
            before = now;
        }
    }

    pub(crate) async fn accept(
        &self,
        service: Service,
        socket: TcpStream,
        limit: Duration,
    ) -> Result<(Wire, TlsFacts), HandshakeError> {
        let _slot = self.handshakes.try_acquire().map_err(|_| HandshakeError::TooMany)?;
        let config = {
            let current = self.current.read();
            match service {
                Service::Amqp => current.amqp.clone(),
                Service::Http => current.http.clone(),
            }
        };
        let accepted = tokio::time::timeout(limit, TlsAcceptor::from(config).accept(socket)).await;
        let stream = accepted.map_err(|_| HandshakeError::TooSlow(limit))??;
        let facts = TlsFacts::of(stream.get_ref().1, self.options.login_from);
        Ok((Wire::Tls(Box::new(stream)), facts))
    }
}

/// What was agreed on, and who the client is.
#[derive(Debug, Clone)]
pub(crate) struct TlsFacts {
    /// As RabbitMQ calls it: `tlsv1.3`.
    pub(crate) protocol: &'static str,
    /// Key exchange, cipher and hash.
    pub(crate) suite: [String; 3],
    /// The client's certificate.
    pub(crate) certificate: Option<CertificateInfo>,
    /// Whom the certificate stands for, if there is one; or why for nobody.
    pub(crate) user: Option<Result<String, String>>,
}

impl TlsFacts {
    fn of(connection: &ServerConnection, login_from: CertificateName) -> Self {
        let protocol = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "tlsv1.2",
            _ => "tlsv1.3",
        };
        let suite = connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let user = certificate.map(|der| login_from.of(der));
        let certificate = certificate.and_then(|der| CertificateInfo::read("client", der).ok());
        Self { protocol, suite: suite_parts(&suite.unwrap_or_default()), certificate, user }
    }
}

/// `TLS13_AES_256_GCM_SHA384` and `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256` in RabbitMQ's three words.
fn suite_parts(name: &str) -> [String; 3] {
    let (exchange, rest) = match name.split_once("_WITH_") {
        Some((exchange, rest)) => (exchange.trim_start_matches("TLS_"), rest),
        None => ("any", name.trim_start_matches("TLS13_")),
    };
    let (cipher, hash) = rest.rsplit_once('_').unwrap_or((rest, ""));
    [exchange, cipher, hash].map(str::to_lowercase)
}

/// The AMQP connections with TLS that are open, by name.
#[derive(Debug, Default)]
pub(crate) struct Secured(Mutex<HashMap<Box<str>, Arc<TlsFacts>>>);

/// Takes a connection out of [`Secured`] at its end.
#[derive(Debug)]
pub(crate) struct SecuredEntry {
    all: Arc<Secured>,
    name: Box<str>,
}

impl Secured {
    pub(crate) fn enter(self: Arc<Self>, name: &str, facts: Arc<TlsFacts>) -> SecuredEntry {
        self.0.lock().insert(name.into(), facts);
        SecuredEntry { all: self, name: name.into() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<TlsFacts>> {
        self.0.lock().get(name).cloned()
    }
}

impl Drop for SecuredEntry {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_named_as_rabbitmq_names_them() {
        let parts = |name| suite_parts(name).join(" ");
        assert_eq!(parts("TLS13_AES_256_GCM_SHA384"), "any aes_256_gcm sha384");
        assert_eq!(parts("TLS13_CHACHA20_POLY1305_SHA256"), "any chacha20_poly1305 sha256");
        assert_eq!(parts("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), "ecdhe_rsa aes_128_gcm sha256");
        assert_eq!(parts(""), "any  ");
    }
}
