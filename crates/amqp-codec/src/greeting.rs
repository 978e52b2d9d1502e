//! The eight bytes a client begins with.

/// What a client of this protocol sends first, and what the server answers to any other.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// The header of 0-9, which RabbitMQ takes for 0-9-1; some old clients send it.
const PROTOCOL_HEADER_0_9: [u8; 8] = *b"AMQP\x01\x01\x00\x09";

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// Fewer than eight bytes, and nothing wrong with them yet.
    NeedMore,
    /// AMQP 0-9-1 (or 0-9): eight bytes are used up.
    Amqp,
    /// Something else: write [`PROTOCOL_HEADER`] and close.
    Foreign(Foreign),
}

/// What spoke to the port by mistake, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// Another version of AMQP; the four bytes after the word.
    OtherAmqp([u8; 4]),
    /// A TLS client hello: the client wants the TLS port.
    Tls,
    /// An HTTP request.
    Http,
    /// Nothing known.
    Unknown,
}

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OtherAmqp([a, b, c, d]) => write!(f, "AMQP with version bytes {a} {b} {c} {d}"),
            Self::Tls => f.write_str("a TLS client hello"),
            Self::Http => f.write_str("an HTTP request"),
            Self::Unknown => f.write_str("an unknown protocol"),
        }
    }
}

impl Greeting {
    /// Judges all bytes received so far.
    pub fn parse(input: &[u8]) -> Self {
        let seen = &input[..input.len().min(8)];
        if !PROTOCOL_HEADER[..4].starts_with(&seen[..seen.len().min(4)]) {
            return foreign(seen);
        }
        let Some(header) = input.first_chunk::<8>() else { return Self::NeedMore };
        match *header {
            PROTOCOL_HEADER | PROTOCOL_HEADER_0_9 => Self::Amqp,
            [.., a, b, c, d] => Self::Foreign(Foreign::OtherAmqp([a, b, c, d])),
        }
    }
}

fn foreign(seen: &[u8]) -> Greeting {
    const VERBS: [&[u8]; 7] = [b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI", b"PRI "];
    let verb = &seen[..seen.len().min(4)];
    let may_be_verb = VERBS.iter().any(|known| known.starts_with(verb));
    let may_be_tls = seen[0] == 0x16 && seen.get(1).is_none_or(|version| *version == 3);
    match seen.len() {
        // A second look tells TLS or HTTP from noise; the log is worth the wait for bytes already on their way.
        1 if may_be_tls => Greeting::NeedMore,
        1..4 if may_be_verb => Greeting::NeedMore,
        _ if may_be_tls => Greeting::Foreign(Foreign::Tls),
        _ if may_be_verb => Greeting::Foreign(Foreign::Http),
        _ => Greeting::Foreign(Foreign::Unknown),
    }
}
