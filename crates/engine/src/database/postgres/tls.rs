//! TLS for PostgreSQL: rustls with aws-lc-rs, as everywhere here.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as RustlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// Largest file of authorities. Bytes.
const CA_FILE_MAX_BYTES: u64 = 1024 * 1024;

/// The authorities that are trusted: the system's and those of a `ca_file`. Blocks on the disk.
pub(in crate::database) fn authorities(
    ca_file: Option<&Path>,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut found = rustls_native_certs::load_native_certs().certs;
    let Some(path) = ca_file else { return Ok(found) };
    let unusable = |reason: &dyn std::fmt::Display| format!("ca_file '{}': {reason}", path.display());
    let size_bytes = std::fs::metadata(path).map_err(|error| unusable(&error))?.len();
    if size_bytes > CA_FILE_MAX_BYTES {
        let reason = format!("it has {size_bytes} bytes, at most {CA_FILE_MAX_BYTES} are read");
        return Err(unusable(&reason));
    }
    let before = found.len();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
        found.push(certificate.map_err(|error| unusable(&error))?);
    }
    match found.len() == before {
        true => Err(unusable(&"there is no certificate in it: PEM is expected")),
        false => Ok(found),
    }
}

/// Makes connections that trust the system's authorities and those of a file.
#[derive(Clone)]
pub(super) struct MakeTls(Arc<ClientConfig>);

impl MakeTls {
    pub(super) async fn new(ca_file: Option<PathBuf>) -> Result<Self, String> {
        let found = tokio::task::spawn_blocking(move || authorities(ca_file.as_deref())).await;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.map_err(|error| error.to_string())??);
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        Ok(Self(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for MakeTls {
    type Stream = Stream<S>;
    type TlsConnect = Connect;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Connect> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Connect { connector: TlsConnector::from(self.0.clone()), name })
    }
}

/// One handshake to be made.
pub(super) struct Connect {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Connect {
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(
            async move { self.connector.connect(self.name, stream).await.map(|it| Stream(Box::new(it))) },
        )
    }
}

/// An encrypted connection.
pub(super) struct Stream<S>(Box<RustlsStream<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        // The hash it needs depends on how the certificate was signed; the certificate was checked, which protects
        // better than the binding would.
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}
