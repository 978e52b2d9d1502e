//! The bytes' way: a TCP socket, in the clear or with TLS.

use crate::error::ConnectError;
use crate::uri::Uri;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

/// Largest file of certificates or keys that is read. Bytes.
const PEM_FILE_MAX_BYTES: u64 = 1024 * 1024;

/// TLS beyond what a URI says: what is trusted instead of the system's authorities.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// Certificates of authorities, DER; empty: the system's.
    pub authorities: Vec<Vec<u8>>,
}

/// A socket.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(crate) async fn connect(uri: &Uri, options: &TlsOptions) -> Result<Self, ConnectError> {
        let unreachable = |error| ConnectError::Unreachable { address: uri.address(), error };
        let socket = TcpStream::connect((uri.host.as_str(), uri.port)).await.map_err(unreachable)?;
        socket.set_nodelay(true).map_err(unreachable)?;
        if !uri.is_tls {
            return Ok(Self::Plain(socket));
        }
        let refuse = |reason: String| ConnectError::Tls { address: uri.address(), reason };
        let (of, trusted) = (uri.clone(), options.clone());
        let config = tokio::task::spawn_blocking(move || config(&of, &trusted)).await;
        let config = config.map_err(|error| refuse(error.to_string()))?.map_err(refuse)?;
        let name = uri.server_name.clone().unwrap_or_else(|| uri.host.clone());
        let name = ServerName::try_from(name).map_err(|error| refuse(error.to_string()))?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await;
        Ok(Self::Tls(Box::new(stream.map_err(|error| refuse(error.to_string()))?)))
    }
}

/// Reads files, so not on an async thread.
fn config(uri: &Uri, options: &TlsOptions) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = if uri.is_unverified {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        let mut roots = RootCertStore::empty();
        let given = options.authorities.iter().map(|der| CertificateDer::from(der.clone()));
        match options.authorities.is_empty() {
            true => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
            false => roots.add_parsable_certificates(given),
        };
        if let Some(path) = &uri.ca_file {
            roots.add_parsable_certificates(certificates(path)?);
        }
        builder.with_root_certificates(roots)
    };
    match (&uri.cert_file, &uri.key_file) {
        (Some(cert), Some(key)) => {
            check_size(key)?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| format!("keyfile '{}': {error}", key.display()))?;
            builder.with_client_auth_cert(certificates(cert)?, key).map_err(|error| error.to_string())
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err("certfile and keyfile are given together".to_owned()),
    }
}

fn check_size(path: &Path) -> Result<(), String> {
    let size_bytes = std::fs::metadata(path).map_err(|error| format!("'{}': {error}", path.display()))?.len();
    match size_bytes > PEM_FILE_MAX_BYTES {
        true => {
            let path = path.display();
            Err(format!("'{path}' has {size_bytes} bytes, at most {PEM_FILE_MAX_BYTES} are read"))
        }
        false => Ok(()),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    check_size(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found = found.map_err(|error| format!("'{}': {error}", path.display()))?;
    match found.is_empty() {
        true => Err(format!("'{}' has no certificate: PEM is expected", path.display())),
        false => Ok(found),
    }
}

/// `verify_none`: whoever answers is believed, and only the encryption is left.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
