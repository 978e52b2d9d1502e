//! Files to configurations.

use super::{CertificateInfo, ClientCertificates, TlsOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{Error, RootCertStore, ServerConfig};

/// Largest of the files. Bytes.
const FILE_MAX_BYTES: u64 = 4 << 20;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("{}: {reason}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says, or what is wrong in it.
        reason: String,
    },
    /// Certificate and key, or the versions, do not go together.
    #[error("{} and {}: {source}", .certificate.display(), .key.display())]
    Unusable {
        /// The chain's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
        /// What is wrong.
        source: Error,
    },
    /// Clients are to show certificates, and nobody may sign them.
    #[error("to verify clients' certificates, `tls_client_ca` must name who signs them")]
    NoClientCa,
}

/// What is in use.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) amqp: Arc<ServerConfig>,
    pub(super) http: Arc<ServerConfig>,
    pub(super) certificates: Vec<CertificateInfo>,
    pub(super) at: SystemTime,
    pub(super) seen: Seen,
}

/// What tells whether files are others: device, number, length, time of change.
pub(super) type Seen = Vec<Option<(u64, u64, u64, i64, i64)>>;

/// Looks at the files without reading them.
pub(super) fn look(options: &TlsOptions) -> Seen {
    let files = [Some(&options.certificate), Some(&options.key), options.client_ca.as_ref()];
    let look = |path: &PathBuf| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.dev(), found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
    };
    files.into_iter().flatten().map(look).collect()
}

impl Loaded {
    pub(super) fn read(options: &TlsOptions) -> Result<Self, TlsError> {
        // Before the files: what changes meanwhile is seen by the next look.
        let seen = look(options);
        let chain = certificates(&options.certificate)?;
        let authorities = match &options.client_ca {
            Some(path) => certificates(path)?,
            None => Vec::new(),
        };
        let mut described = Vec::new();
        for (index, der) in chain.iter().enumerate() {
            let what = if index == 0 { "certificate" } else { "chain" };
            described.push(describe(what, der, &options.certificate)?);
        }
        for der in &authorities {
            let path = options.client_ca.as_ref().unwrap_or(&options.certificate);
            described.push(describe("client CA", der, path)?);
        }
        let amqp = config(options, &chain, (options.verify, &authorities))?;
        let mut http = config(options, &chain, (ClientCertificates::None, &[]))?;
        http.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            amqp: Arc::new(amqp),
            http: Arc::new(http),
            certificates: described,
            at: SystemTime::now(),
            seen,
        })
    }
}

fn describe(what: &'static str, der: &CertificateDer<'_>, path: &Path) -> Result<CertificateInfo, TlsError> {
    CertificateInfo::read(what, der).map_err(|reason| TlsError::File { path: path.to_owned(), reason })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let wrong = |reason: String| TlsError::File { path: path.to_owned(), reason };
    let size = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if size > FILE_MAX_BYTES {
        return Err(wrong(format!("{size} bytes are over the limit of {FILE_MAX_BYTES}")));
    }
    std::fs::read(path).map_err(|error| wrong(error.to_string()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |reason: String| TlsError::File { path: path.to_owned(), reason };
    let text = read(path)?;
    let found: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(wrong("no certificate (PEM) is in it".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(wrong(error.to_string())),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| {
        let reason = match error {
            PemError::NoItemsFound => "no private key (PEM, without a password) is in it".to_owned(),
            other => other.to_string(),
        };
        TlsError::File { path: path.to_owned(), reason }
    })
}

fn config(
    options: &TlsOptions,
    chain: &[CertificateDer<'static>],
    (verify, authorities): (ClientCertificates, &[CertificateDer<'static>]),
) -> Result<ServerConfig, TlsError> {
    let unusable = |source| TlsError::Unusable {
        certificate: options.certificate.clone(),
        key: options.key.clone(),
        source,
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = if options.only_1_3 { &[&TLS13][..] } else { &[&TLS12, &TLS13] };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(unusable)?;
    let builder = if verify == ClientCertificates::None {
        builder.with_no_client_auth()
    } else {
        let Some(path) = options.client_ca.clone() else { return Err(TlsError::NoClientCa) };
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            let wrong = |error: Error| TlsError::File { path: path.clone(), reason: error.to_string() };
            roots.add(authority.clone()).map_err(wrong)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = match verify {
            ClientCertificates::Optional => verifier.allow_unauthenticated(),
            _ => verifier,
        };
        let wrong = |error: String| TlsError::File { path: path.clone(), reason: error };
        builder.with_client_cert_verifier(verifier.build().map_err(|error| wrong(error.to_string()))?)
    };
    builder.with_single_cert(chain.to_vec(), key(&options.key)?).map_err(unusable)
}
