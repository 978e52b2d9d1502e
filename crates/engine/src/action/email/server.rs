//! The servers of the section `mail`.

use crate::secret::SecretText;
use crate::topology::Node;
use crate::topology::read::{Fields, Report, entries};
use crate::topology::used::plain_name;
use lettre::message::Mailbox;
use std::sync::Arc;
use std::time::Duration;

/// Longest time a mail may take on its way to the server.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// How the way to a server is guarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tls {
    /// From the first byte.
    Required,
    /// After the greeting; without it nothing is sent.
    Upgraded,
    /// Not at all.
    None,
}

/// A server that takes mail.
#[derive(Debug)]
pub(crate) struct MailServer {
    pub(crate) name: Box<str>,
    /// `FILE:LINE`.
    pub(crate) place: String,
    pub(super) host: Box<str>,
    pub(super) port: u16,
    pub(super) tls: Tls,
    pub(super) login: Option<(SecretText, SecretText)>,
    /// Authorities to trust beside the system's: a file in the data directory, or absolute.
    pub(super) ca_file: Option<Box<str>>,
    pub(super) from: Option<Mailbox>,
    pub(super) timeout: Duration,
    /// As written, to see whether another file says the same.
    pub(crate) definition: Node,
}

/// Reads the section `mail`.
pub(crate) fn read_servers(node: &Node, report: &mut Report) -> Vec<Arc<MailServer>> {
    let mut servers = Vec::new();
    for entry in entries(node, "mail", "a mapping from names to mail servers", report) {
        let path = format!("mail.{}", entry.key);
        if plain_name(&entry.key, entry.line, &path, report)
            && let Some(server) = read_server(&entry.key, entry.line, &entry.value, &path, report)
        {
            servers.push(Arc::new(server));
        }
    }
    servers
}

fn read_server(name: &str, line: usize, node: &Node, path: &str, report: &mut Report) -> Option<MailServer> {
    let known = ["host", "port", "tls", "username", "password", "ca_file", "from", "timeout"];
    let fields = Fields::read(node, path, &known, report);
    fields.required("host", "'host', the server's name or address", report);
    let host = fields.text("host", "the server's name or address", report);
    let tls = match fields.text("tls", "starttls, required or none", report) {
        None | Some("starttls") => Tls::Upgraded,
        Some("required") => Tls::Required,
        Some("none") => Tls::None,
        Some(_) => {
            let node = fields.get("tls").unwrap_or(node);
            report.expected(node, &fields.path_of("tls"), "starttls, required or none");
            return None;
        }
    };
    let port = match tls {
        Tls::Upgraded => 587,
        Tls::Required => 465,
        Tls::None => 25,
    };
    let mut secret = |key: &str| {
        let node = fields.get(key)?;
        SecretText::read(node, &fields.path_of(key), "a text such as ${secret:NAME}", report)
    };
    let (username, password) = (secret("username"), secret("password"));
    if fields.get("username").is_some() != fields.get("password").is_some() {
        report.add(line, path, "found one of 'username' and 'password', expected both or neither");
    }
    let is_here = host.is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "::1"));
    if password.is_some() && tls == Tls::None && !is_here {
        let text = "found a password with 'tls: none', expected TLS: everybody on the way could read it";
        report.add(line, path, text);
    }
    let from = fields.text("from", "an address", report).and_then(|text| {
        let parsed = text.parse::<Mailbox>().ok();
        if parsed.is_none() {
            let line = fields.get("from").map_or(line, |node| node.line);
            let text = format!("found '{text}', expected an address such as Shop <shop@example.com>");
            report.add(line, &fields.path_of("from"), text);
        }
        parsed
    });
    Some(MailServer {
        name: name.into(),
        place: format!("{}:{line}", report.file),
        host: host?.into(),
        port: fields.integer("port", port, 1..=65535, report) as u16,
        tls,
        login: username.zip(password),
        ca_file: fields.text("ca_file", "the path of a file with certificates", report).map(Into::into),
        from,
        timeout: fields.duration("timeout", Duration::from_secs(30), TIMEOUT_MAX, report),
        definition: node.clone(),
    })
}
