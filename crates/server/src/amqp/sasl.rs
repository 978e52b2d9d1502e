//! User and password out of a SASL response: PLAIN, and AMQPLAIN, RabbitMQ's. EXTERNAL has nothing in it.

use millpond_model::table::RawTable;

/// The mechanism of those who have shown a certificate.
pub(super) const EXTERNAL: &str = "EXTERNAL";

/// What connection.start offers, to somebody with a certificate or without.
pub(super) fn mechanisms(has_certificate: bool) -> &'static [u8] {
    if has_certificate { b"PLAIN AMQPLAIN EXTERNAL" } else { b"PLAIN AMQPLAIN" }
}

/// As sent by the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: Vec<u8>,
}

/// Why there are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SaslError {
    #[error(
        "unknown authentication mechanism '{mechanism}'; offered are PLAIN and AMQPLAIN, and EXTERNAL to those who show a certificate"
    )]
    UnknownMechanism { mechanism: String },
    #[error("malformed {mechanism} response: {reason}")]
    Malformed { mechanism: &'static str, reason: &'static str },
}

/// Reads a response.
pub(super) fn credentials(mechanism: &str, response: &[u8]) -> Result<Credentials, SaslError> {
    match mechanism {
        "PLAIN" => plain(response),
        "AMQPLAIN" => amqplain(response),
        other => Err(SaslError::UnknownMechanism { mechanism: other.chars().take(100).collect() }),
    }
}

/// RFC 4616: `[authzid] NUL user NUL password`.
fn plain(response: &[u8]) -> Result<Credentials, SaslError> {
    let malformed = |reason| SaslError::Malformed { mechanism: "PLAIN", reason };
    let mut parts = response.split(|byte| *byte == 0);
    let (Some(_authorization), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed("expected NUL, user, NUL, password"));
    };
    let user = std::str::from_utf8(user).map_err(|_| malformed("the user is not UTF-8"))?;
    Ok(Credentials { user: user.into(), password: password.into() })
}

/// A field table without its length: LOGIN and PASSWORD, long strings.
fn amqplain(response: &[u8]) -> Result<Credentials, SaslError> {
    let malformed = |reason| SaslError::Malformed { mechanism: "AMQPLAIN", reason };
    let table = RawTable::parse(response).map_err(|_| malformed("not a field table"))?;
    let text = |name| table.get(name).and_then(|value| value.as_long_str());
    let user = text("LOGIN").ok_or(malformed("LOGIN is missing"))?;
    let password = text("PASSWORD").ok_or(malformed("PASSWORD is missing"))?;
    let user = std::str::from_utf8(user).map_err(|_| malformed("LOGIN is not UTF-8"))?;
    Ok(Credentials { user: user.into(), password: password.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_read_or_refused() {
        let good = Some(("guest", "secret"));
        let table = [&b"\x05LOGINS\0\0\0\x05guest"[..], b"\x08PASSWORDS\0\0\0\x06secret"].concat();
        type Case<'a> = (&'a str, &'a [u8], Option<(&'a str, &'a str)>);
        let cases: &[Case<'_>] = &[
            ("PLAIN", b"\0guest\0secret", good),
            ("PLAIN", b"admin\0guest\0secret", good),
            ("PLAIN", b"\0guest\0", Some(("guest", ""))),
            ("PLAIN", b"guest", None),
            ("PLAIN", b"", None),
            ("PLAIN", b"\0guest\0secret\0", None),
            ("PLAIN", b"\0\xff\0secret", None),
            ("AMQPLAIN", &table, good),
            ("AMQPLAIN", &table[..14], None),
            ("AMQPLAIN", b"", None),
            ("AMQPLAIN", b"\xff", None),
            ("EXTERNAL", b"", None),
            ("plain", b"\0guest\0secret", None),
        ];
        for (mechanism, response, expected) in cases {
            let found = credentials(mechanism, response).ok();
            let expected =
                expected.map(|(user, password)| Credentials { user: user.into(), password: password.into() });
            assert_eq!(found, expected, "{mechanism} {response:?}");
        }
    }
}
