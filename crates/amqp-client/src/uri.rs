//! `amqp://USER:PASSWORD@HOST:PORT/VHOST?KEY=VALUE`, as RabbitMQ specifies it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Longest URI that is read. Bytes.
const URI_MAX_BYTES: usize = 4096;

/// What is not encoded in user names and vhosts when a URI is shown.
const PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where a broker is and how to come in. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Uri {
    /// Whether `amqps`.
    pub is_tls: bool,
    /// Name or address; empty: none was given.
    pub host: String,
    /// 5672, or 5671 with TLS, where none was given.
    pub port: u16,
    /// `guest` where none was given.
    pub user: String,
    /// `guest` where none was given.
    pub password: String,
    /// `/` where none was given.
    pub vhost: String,
    /// `heartbeat`, in seconds: 0 for none.
    pub heartbeat: Option<Duration>,
    /// `channel_max`.
    pub channel_max: Option<u16>,
    /// `frame_max`, in bytes.
    pub frame_max: Option<u32>,
    /// `connection_timeout`, in milliseconds.
    pub connection_timeout: Option<Duration>,
    /// `cacertfile`: who is trusted beside the system's authorities; PEM.
    pub ca_file: Option<PathBuf>,
    /// `certfile`: who we are; PEM.
    pub cert_file: Option<PathBuf>,
    /// `keyfile`: its key; PEM.
    pub key_file: Option<PathBuf>,
    /// `verify=verify_none`: any certificate is taken.
    pub is_unverified: bool,
    /// `server_name_indication`: the name that the certificate must bear.
    pub server_name: Option<String>,
    /// `auth_mechanism=external`: the certificate is the login.
    pub is_external: bool,
}

/// Why a text is no URI of a broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Too long to be one.
    #[error("a URI of {size_bytes} bytes is over the limit of {URI_MAX_BYTES}")]
    TooLong {
        /// How long it is.
        size_bytes: usize,
    },
    /// Another scheme, or none.
    #[error("a broker's URI begins with amqp:// or amqps://")]
    Scheme,
    /// A part of it cannot be read. Not quoted, for it may be the password.
    #[error("the {part} of the broker's URI cannot be read: {reason}")]
    Part {
        /// `port`
        part: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// A parameter that does not exist, or has a value it cannot have.
    #[error("the parameter '{name}' of the broker's URI {reason}")]
    Parameter {
        /// Which.
        name: String,
        /// Why.
        reason: &'static str,
    },
}

impl Uri {
    /// Host and port, for people.
    pub fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    fn defaults(is_tls: bool) -> Self {
        Self {
            is_tls,
            host: String::new(),
            port: if is_tls { 5671 } else { 5672 },
            user: "guest".to_owned(),
            password: "guest".to_owned(),
            vhost: "/".to_owned(),
            heartbeat: None,
            channel_max: None,
            frame_max: None,
            connection_timeout: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            is_unverified: false,
            server_name: None,
            is_external: false,
        }
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), UriError> {
        let refuse = |reason| UriError::Parameter { name: name.to_owned(), reason };
        let number = |most: u64| match value.parse() {
            Ok(number) if number <= most => Ok(number),
            _ => Err(refuse("is a whole number, and not so large")),
        };
        match name {
            "heartbeat" => self.heartbeat = Some(Duration::from_secs(number(u16::MAX.into())?)),
            "channel_max" => self.channel_max = Some(number(u16::MAX.into())? as u16),
            "frame_max" => self.frame_max = Some(number(u32::MAX.into())? as u32),
            "connection_timeout" => {
                self.connection_timeout = Some(Duration::from_millis(number(u32::MAX.into())?));
            }
            "cacertfile" => self.ca_file = Some(value.into()),
            "certfile" => self.cert_file = Some(value.into()),
            "keyfile" => self.key_file = Some(value.into()),
            "server_name_indication" => self.server_name = Some(value),
            "verify" => match value.as_str() {
                "verify_peer" => self.is_unverified = false,
                "verify_none" => self.is_unverified = true,
                _ => return Err(refuse("is verify_peer or verify_none")),
            },
            "auth_mechanism" => match value.as_str() {
                "plain" => self.is_external = false,
                "external" => self.is_external = true,
                _ => return Err(refuse("is plain or external")),
            },
            // RabbitMQ's clients have them, and they change nothing here.
            "fail_if_no_peer_cert" | "depth" | "cacerts" => {}
            _ => return Err(refuse("is not known")),
        }
        Ok(())
    }
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        if text.len() > URI_MAX_BYTES {
            return Err(UriError::TooLong { size_bytes: text.len() });
        }
        let (scheme, rest) = text.split_once("://").ok_or(UriError::Scheme)?;
        let mut uri = match scheme.to_ascii_lowercase().as_str() {
            "amqp" => Self::defaults(false),
            "amqps" => Self::defaults(true),
            _ => return Err(UriError::Scheme),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, Some(path)),
            None => (rest, None),
        };
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        if let Some(login) = login {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            uri.user = decode("user", user)?;
            uri.password = decode("password", password)?;
        }
        uri.set_place(place)?;
        // As RabbitMQ reads it: no path or an empty one is the vhost `/`.
        if let Some(path) = path.filter(|path| !path.is_empty()) {
            if path.contains('/') {
                let reason = "a slash in a vhost's name is written %2f";
                return Err(UriError::Part { part: "vhost", reason });
            }
            uri.vhost = decode("vhost", path)?;
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            uri.set(name, decode("query", value)?)?;
        }
        Ok(uri)
    }
}

impl Uri {
    fn set_place(&mut self, place: &str) -> Result<(), UriError> {
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, after) =
                    rest.split_once(']').ok_or(UriError::Part { part: "host", reason: "a ] is missing" })?;
                (host.to_owned(), after.strip_prefix(':').unwrap_or(after))
            }
            None => {
                let (host, port) = place.split_once(':').unwrap_or((place, ""));
                (decode("host", host)?, port)
            }
        };
        self.host = host;
        if !port.is_empty() {
            let reason = "it is a number up to 65535";
            self.port = port.parse().map_err(|_| UriError::Part { part: "port", reason })?;
        }
        Ok(())
    }
}

fn decode(part: &'static str, text: &str) -> Result<String, UriError> {
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| UriError::Part { part, reason: "it is not UTF-8" })?.into_owned())
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_tls { "amqps://" } else { "amqp://" })?;
        if !self.host.is_empty() {
            write!(f, "{}@{}", utf8_percent_encode(&self.user, &PLAIN), self.address())?;
        }
        match self.vhost.as_str() {
            "/" => Ok(()),
            vhost => write!(f, "/{}", utf8_percent_encode(vhost, &PLAIN)),
        }
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uri({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_the_usual_values() {
        for text in ["amqp://", "amqp:///", "AMQP://"] {
            let uri: Uri = text.parse().unwrap();
            assert_eq!((uri.host.as_str(), uri.port, uri.vhost.as_str()), ("", 5672, "/"), "{text}");
            assert_eq!((uri.user.as_str(), uri.password.as_str()), ("guest", "guest"));
        }
        assert_eq!("amqps://h".parse::<Uri>().unwrap().port, 5671);
    }

    #[test]
    fn every_part_is_read_and_the_password_is_never_shown() {
        let text = "amqps://al%40ice:p%2Fw@[::1]:5699/%2Fa?heartbeat=7&connection_timeout=250&verify=verify_none\
                    &cacertfile=/ca.pem&server_name_indication=broker.example&channel_max=9&frame_max=8192";
        let uri: Uri = text.parse().unwrap();
        assert_eq!((uri.user.as_str(), uri.password.as_str(), uri.vhost.as_str()), ("al@ice", "p/w", "/a"));
        assert_eq!((uri.host.as_str(), uri.port, uri.is_tls, uri.is_unverified), ("::1", 5699, true, true));
        assert_eq!(uri.heartbeat, Some(Duration::from_secs(7)));
        assert_eq!(uri.connection_timeout, Some(Duration::from_millis(250)));
        assert_eq!((uri.channel_max, uri.frame_max), (Some(9), Some(8192)));
        assert_eq!(uri.to_string(), "amqps://al%40ice@[::1]:5699/%2Fa");
        assert!(!format!("{uri:?}").contains("p/w"));
    }

    #[test]
    fn what_is_no_broker_is_said_without_quoting_it() {
        for (text, says) in [
            ("http://h", "amqp://"),
            ("localhost", "amqp://"),
            ("amqp://u:secret@h:port/", "the port"),
            ("amqp://h/a/b", "%2f"),
            ("amqp://h?wrong=1", "'wrong'"),
            ("amqp://h?heartbeat=x", "whole number"),
            ("amqp://%ff:secret@h", "the user"),
        ] {
            let error = text.parse::<Uri>().unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("secret"), "{text}: {error}");
        }
    }
}
