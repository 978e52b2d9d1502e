//! What a certificate says, in RabbitMQ's words.

use std::fmt::Write;
use std::net::IpAddr;
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

/// What of a client's certificate is the user's name, as RabbitMQ's `ssl_cert_login_from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CertificateName {
    /// The subject as a whole: `CN=client,O=Example`.
    #[default]
    DistinguishedName,
    /// The subject's CN; several are put together with commas.
    CommonName,
    /// The first of the DNS names, e-mail addresses, URIs or IP addresses that it is for.
    SubjectAlternativeName,
}

/// A certificate as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// `certificate`, `chain`, `client CA` or `client`.
    pub what: &'static str,
    /// Whose it is, as RabbitMQ writes it.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// From when it holds. Seconds since 1970.
    pub not_before_s: i64,
    /// To when. Seconds since 1970.
    pub not_after_s: i64,
}

impl CertificateInfo {
    pub(super) fn read(what: &'static str, der: &CertificateDer<'_>) -> Result<Self, String> {
        let found = parse(der)?;
        let validity = found.validity();
        Ok(Self {
            what,
            subject: distinguished(found.subject()),
            issuer: distinguished(found.issuer()),
            not_before_s: validity.not_before.timestamp(),
            not_after_s: validity.not_after.timestamp(),
        })
    }
}

impl CertificateInfo {
    /// `2026-01-01T00:00:00Z - 2027-01-01T00:00:00Z`.
    pub fn validity(&self) -> String {
        let at = |s| jiff::Timestamp::from_second(s).map(|time| time.to_string()).unwrap_or_default();
        format!("{} - {}", at(self.not_before_s), at(self.not_after_s))
    }
}

impl CertificateName {
    /// The user's name, or why there is none.
    pub(super) fn of(self, der: &CertificateDer<'_>) -> Result<String, String> {
        let found = parse(der)?;
        let name = match self {
            Self::DistinguishedName => distinguished(found.subject()),
            Self::CommonName => {
                let names = found.subject().iter_common_name().filter_map(|name| name.as_str().ok());
                names.collect::<Vec<_>>().join(",")
            }
            Self::SubjectAlternativeName => {
                let names = found.subject_alternative_name().map_err(|error| error.to_string())?;
                names
                    .and_then(|names| names.value.general_names.iter().find_map(alternative))
                    .unwrap_or_default()
            }
        };
        if name.is_empty() { Err(format!("the certificate has no {}", self.words())) } else { Ok(name) }
    }

    fn words(self) -> &'static str {
        match self {
            Self::DistinguishedName => "subject",
            Self::CommonName => "CN in its subject",
            Self::SubjectAlternativeName => "subject alternative name",
        }
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    let (_, found) = X509Certificate::from_der(der).map_err(|error| format!("not a certificate: {error}"))?;
    Ok(found)
}

fn alternative(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some((*name).to_owned())
        }
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(|ip| ip.to_string())
        }
        _ => None,
    }
}

/// RFC 4514, the most specific part first, with the abbreviations that RabbitMQ knows.
fn distinguished(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter_rdn()
        .map(|rdn| {
            let pairs = rdn.iter().map(|pair| {
                let kind = pair.attr_type().to_id_string();
                let short =
                    KINDS.iter().find(|(id, _)| *id == kind).map_or(kind.as_str(), |(_, short)| short);
                format!("{short}={}", pair.as_str().map_or_else(|_| hex(pair.as_slice()), escape))
            });
            pairs.collect::<Vec<_>>().join("+")
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

const KINDS: [(&str, &str); 16] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "TITLE"),
    ("2.5.4.42", "GIVENNAME"),
    ("2.5.4.43", "INITIALS"),
    ("2.5.4.44", "GENERATIONQUALIFIER"),
    ("2.5.4.65", "PSEUDONYM"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "EMAILADDRESS"),
];

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, character) in text.chars().enumerate() {
        let at_an_end = character == ' ' && (at == 0 || at == last) || character == '#' && at == 0;
        if at_an_end || ",+\"\\<>;".contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("#".to_owned(), |mut out, byte| {
        // Writing to a text does not fail.
        let _ = write!(out, "{byte:02X}");
        out
    })
}
