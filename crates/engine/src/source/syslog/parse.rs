//! What a syslog message says: RFC 5424, else RFC 3164 as far as senders keep to it. Nothing is refused: what cannot be
//! read is text.

use serde_json::{Map, Value, json};

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// What a message without a priority has: user.notice (RFC 3164, 4.3.3).
const PRIORITY_DEFAULT: u16 = 13;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Elements of structured data, and parameters of one.
const STRUCTURED_MAX: usize = 100;

/// A message as an event's data.
pub(super) fn parse(bytes: &[u8]) -> Map<String, Value> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches(['\n', '\r', '\0']);
    let (priority, rest) = priority(text).unwrap_or((PRIORITY_DEFAULT, text));
    let mut data = Map::new();
    let facility = FACILITIES.get(usize::from(priority >> 3)).copied();
    data.insert("facility".to_owned(), facility.into());
    data.insert("severity".to_owned(), SEVERITIES[usize::from(priority & 7)].into());
    data.insert("level".to_owned(), (priority & 7).into());
    let fields = match rest.strip_prefix("1 ").and_then(modern) {
        Some(fields) => fields,
        None => old(rest),
    };
    let Fields { timestamp, hostname, appname, procid, msgid, structured, message } = fields;
    let texts = [
        ("timestamp", timestamp),
        ("hostname", hostname),
        ("appname", appname),
        ("procid", procid),
        ("msgid", msgid),
    ];
    for (name, value) in texts {
        data.insert(name.to_owned(), value.into());
    }
    data.insert("structured_data".to_owned(), Value::Object(structured));
    data.insert("message".to_owned(), message.into());
    data
}

#[derive(Default)]
struct Fields<'t> {
    timestamp: Option<&'t str>,
    hostname: Option<&'t str>,
    appname: Option<&'t str>,
    procid: Option<&'t str>,
    msgid: Option<&'t str>,
    structured: Map<String, Value>,
    message: &'t str,
}

/// `<34>`: facility and severity.
fn priority(text: &str) -> Option<(u16, &str)> {
    let (number, rest) = text.strip_prefix('<')?.split_once('>')?;
    let is_number = (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u16 = number.parse().ok().filter(|number| is_number && *number <= 191)?;
    Some((number, rest))
}

/// RFC 5424, behind `<PRI>1 `.
fn modern(text: &str) -> Option<Fields<'_>> {
    let mut rest = text;
    let mut next = || {
        let (word, behind) = rest.split_once(' ')?;
        rest = behind;
        Some((word != "-").then_some(word))
    };
    let mut fields = Fields {
        timestamp: next()?,
        hostname: next()?,
        appname: next()?,
        procid: next()?,
        // The last one may end the message, if there is no structured data at all.
        msgid: next()?,
        ..Fields::default()
    };
    let rest = match rest.strip_prefix('-') {
        Some(rest) => rest,
        None => structured(rest, &mut fields.structured)?,
    };
    let message = rest.strip_prefix(' ').unwrap_or(rest);
    fields.message = message.strip_prefix('\u{feff}').unwrap_or(message);
    Some(fields)
}

/// `[id name="value" ...][...]`; what is behind. `None`: it is not that.
fn structured<'t>(text: &'t str, out: &mut Map<String, Value>) -> Option<&'t str> {
    let mut rest = text;
    while let Some(inside) = rest.strip_prefix('[') {
        let end = inside.find([' ', ']'])?;
        let (id, mut left) = inside.split_at(end);
        let mut parameters = Map::new();
        loop {
            left = left.trim_start_matches(' ');
            if let Some(behind) = left.strip_prefix(']') {
                rest = behind;
                break;
            }
            let (name, quoted) = left.split_once("=\"")?;
            let (value, behind) = quoted_value(quoted)?;
            if parameters.len() >= STRUCTURED_MAX {
                return None;
            }
            parameters.insert(name.to_owned(), value.into());
            left = behind;
        }
        if id.is_empty() || out.len() >= STRUCTURED_MAX {
            return None;
        }
        out.insert(id.to_owned(), Value::Object(parameters));
    }
    (rest.len() < text.len()).then_some(rest)
}

/// Up to the quote that ends it; `\"`, `\\` and `\]` stand for the second character.
fn quoted_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()? {
                (_, escaped @ ('"' | '\\' | ']')) => value.push(escaped),
                (_, other) => value.extend(['\\', other]),
            },
            c => value.push(c),
        }
    }
    None
}

/// RFC 3164, behind the priority: `Oct 11 22:14:15 host tag[pid]: text`, each part if it is there.
fn old(text: &str) -> Fields<'_> {
    let mut fields = Fields { message: text, ..Fields::default() };
    let Some((timestamp, rest)) = old_time(text) else {
        tag(text, &mut fields);
        return fields;
    };
    fields.timestamp = Some(timestamp);
    // The tag has a colon or a bracket, which no host has; an address of IPv6 ends with neither.
    let rest = match rest.split_once(' ') {
        Some((host, behind)) if !host.is_empty() && !host.ends_with(':') && !host.contains('[') => {
            fields.hostname = Some(host);
            behind
        }
        _ => rest,
    };
    fields.message = rest;
    tag(rest, &mut fields);
    fields
}

/// `Oct 11 22:14:15 `, or a time as in RFC 3339, which many send.
fn old_time(text: &str) -> Option<(&str, &str)> {
    let is_time = |text: &str| {
        let bytes = text.as_bytes();
        bytes.len() == 8 && bytes[2] == b':' && bytes[5] == b':' && bytes[0].is_ascii_digit()
    };
    if let (Some(month), Some(time)) = (text.get(..3), text.get(7..15))
        && MONTHS.contains(&month)
        && is_time(time)
    {
        return Some((&text[..15], text[15..].strip_prefix(' ').unwrap_or(&text[15..])));
    }
    let (word, rest) = text.split_once(' ')?;
    let bytes = word.as_bytes();
    (bytes.len() >= 19 && bytes[4] == b'-' && bytes[10] == b'T').then_some((word, rest))
}

/// `tag[pid]: text` or `tag: text`.
fn tag<'t>(text: &'t str, fields: &mut Fields<'t>) {
    const TAG_MAX_BYTES: usize = 64;
    let is_tag = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let end = text.find(|c| !is_tag(c)).unwrap_or(text.len());
    if end == 0 || end > TAG_MAX_BYTES {
        return;
    }
    let mut rest = &text[end..];
    let mut procid = None;
    if let Some((pid, behind)) = rest.strip_prefix('[').and_then(|inside| inside.split_once(']')) {
        (procid, rest) = (Some(pid), behind);
    }
    let Some(message) = rest.strip_prefix(':') else { return };
    fields.appname = Some(&text[..end]);
    fields.procid = procid;
    fields.message = message.strip_prefix(' ').unwrap_or(message);
}

/// The data with who sent it.
pub(super) fn data(bytes: &[u8], peer: &str, transport: &str, cut: bool) -> Value {
    let mut data = parse(bytes);
    data.insert("peer".to_owned(), peer.into());
    data.insert("transport".to_owned(), transport.into());
    if cut {
        data.insert("truncated".to_owned(), true.into());
    }
    json!(data)
}
