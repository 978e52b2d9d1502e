//! Databases as the file names them.

use super::show_range;
use crate::secret::SecretText;
use crate::topology::read::{Fields, Report, entries, text};
use crate::topology::yaml::{Node, shorten};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Longest `connect_timeout`.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Longest `statement_timeout`.
const STATEMENT_TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// Most connections to one database.
const CONNECTIONS_MAX: i64 = 64;

/// What a URL may look like.
const URL_EXPECTED: &str = "a URL: postgres://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE or sqlite:PATH";

/// A database that a topology names.
#[derive(Debug)]
pub(crate) struct DatabaseSpec {
    pub(crate) name: String,
    /// `FILE:LINE`.
    pub(crate) place: String,
    pub(crate) kind: Kind,
    pub(crate) password: Option<SecretText>,
    pub(crate) tls: Tls,
    /// Authorities to trust beside the system's: PEM; relative to the data directory, or absolute.
    pub(crate) ca_file: Option<String>,
    pub(crate) connections: u32,
    pub(crate) connect_timeout: Duration,
    pub(crate) statement_timeout: Duration,
    /// As written, to see whether another file says the same.
    pub(crate) definition: Node,
}

impl PartialEq for DatabaseSpec {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.definition == other.definition
    }
}

/// Which database, and where it is.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Without its password.
    Postgres { config: Box<tokio_postgres::Config> },
    /// Also MariaDB. Without its password.
    MySql { opts: Box<mysql_async::Opts> },
    /// Relative to the data directory, or absolute.
    Sqlite { path: PathBuf },
}

/// Whether a connection is encrypted; the server's certificate is checked whenever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tls {
    Disable,
    /// If the server can.
    Prefer,
    Require,
}

/// A password: a reference to one, and nothing else. Nothing: it holds a text of its own.
fn read_password(text: &str) -> Option<SecretText> {
    (text.starts_with("${") && text.ends_with('}') && text.matches("${").count() == 1)
        .then(|| SecretText::parse(text).ok())?
}

impl DatabaseSpec {
    /// What the URL's scheme says.
    pub(crate) fn product(&self) -> &'static str {
        match self.kind {
            Kind::Postgres { .. } => "postgres",
            Kind::MySql { .. } => "mysql",
            Kind::Sqlite { .. } => "sqlite",
        }
    }
}

/// The section `databases`.
pub(crate) fn read_databases(node: &Node, report: &mut Report) -> Vec<Arc<DatabaseSpec>> {
    let mut out = Vec::new();
    for entry in entries(node, "databases", "a mapping from names to databases", report) {
        let path = format!("databases.{}", entry.key);
        let known = ["url", "password", "ca_file", "connections", "connect_timeout", "statement_timeout"];
        let fields = Fields::read(&entry.value, &path, &known, report);
        let url = fields.required("url", &format!("'url', {URL_EXPECTED}"), report);
        let url = url.and_then(|node| {
            let source = text(node, &fields.path_of("url"), URL_EXPECTED, report)?;
            let read = read_url(source);
            read.map_err(|reason| report.add(node.line, &fields.path_of("url"), reason)).ok()
        });
        let own = fields.get("password").and_then(|node| {
            let path = fields.path_of("password");
            let source = text(node, &path, "a reference such as ${env:NAME}", report)?;
            let password = read_password(source);
            if password.is_none() {
                // What was found may be the password itself: it is not shown.
                report.add(node.line, &path, format!("found a text, expected {PASSWORD_EXPECTED}"));
            }
            password
        });
        let connections = fields.integer("connections", 4, 1..=CONNECTIONS_MAX, report) as u32;
        let connect_timeout =
            fields.duration("connect_timeout", Duration::from_secs(5), CONNECT_TIMEOUT_MAX, report);
        let statement_timeout =
            fields.duration("statement_timeout", Duration::from_secs(30), STATEMENT_TIMEOUT_MAX, report);
        let ca_file =
            fields.text("ca_file", "the path of a file with certificates of authorities, in PEM", report);
        let Some(Url { kind, password, tls }) = url else { continue };
        if own.is_some() && password.is_some() {
            report.add(
                entry.line,
                &path,
                "found a password in 'url' and one in 'password', expected one of them",
            );
        }
        if matches!(kind, Kind::Sqlite { .. }) && (own.is_some() || ca_file.is_some()) {
            report.add(entry.line, &path, "found a password or 'ca_file', which SQLite does not have");
        }
        if ca_file.is_some() && tls == Tls::Disable {
            report.add(entry.line, &path, "found 'ca_file' and sslmode=disable, expected one of them");
        }
        out.push(Arc::new(DatabaseSpec {
            name: entry.key.to_string(),
            place: format!("{}:{}", report.file, entry.line),
            kind,
            password: own.or(password),
            tls,
            ca_file: ca_file.map(str::to_owned),
            connections,
            connect_timeout,
            statement_timeout,
            definition: entry.value.clone(),
        }));
    }
    out
}

const PASSWORD_EXPECTED: &str =
    "a reference to a secret, such as ${env:NAME}, ${file:PATH} or ${secret:NAME}";

struct Url {
    kind: Kind,
    password: Option<SecretText>,
    tls: Tls,
}

fn read_url(source: &str) -> Result<Url, String> {
    let (scheme, rest) = source.split_once(':').unwrap_or(("", source));
    if scheme == "sqlite" {
        let path = rest.strip_prefix("//").unwrap_or(rest);
        if path.is_empty() || path.contains(['\0', '?']) || path == ":memory:" {
            return Err(format!("found '{}', expected sqlite:PATH, the path of a file", shorten(source)));
        }
        return Ok(Url { kind: Kind::Sqlite { path: path.into() }, password: None, tls: Tls::Disable });
    }
    let is_mysql = match scheme {
        "postgres" | "postgresql" => false,
        "mysql" | "mariadb" => true,
        // The text may hold a password: no more of it is shown than the scheme.
        _ => return Err(format!("found the scheme '{}', expected {URL_EXPECTED}", shorten(scheme))),
    };
    let Some(rest) = rest.strip_prefix("//") else {
        return Err(format!("found no '//', expected {URL_EXPECTED}"));
    };
    let (rest, password) = take_password(rest)?;
    if rest.contains("${") {
        return Err(
            "found a reference outside of the password, expected it there: USER:${env:NAME}@HOST".to_owned()
        );
    }
    let (rest, tls) = take_tls(&rest, if is_mysql { &MYSQL_MODES } else { &POSTGRES_MODES })?;
    let kind = match is_mysql {
        true => Kind::MySql { opts: Box::new(mysql(&format!("mysql://{rest}"))?) },
        false => Kind::Postgres { config: Box::new(postgres(&format!("postgres://{rest}"))?) },
    };
    Ok(Url { kind, password, tls })
}

/// Takes `:PASSWORD` out of `USER:PASSWORD@HOST/...`: a password may hold any character then.
fn take_password(rest: &str) -> Result<(String, Option<SecretText>), String> {
    let mut inside = false;
    let mut colon = None;
    for (at, c) in rest.char_indices() {
        match c {
            '$' if rest[at..].starts_with("${") => inside = true,
            '}' => inside = false,
            _ if inside => {}
            ':' if colon.is_none() => colon = Some(at),
            '/' | '?' => break,
            '@' => {
                let Some(colon) = colon else { break };
                let password = read_password(&rest[colon + 1..at]);
                let password = password.ok_or(format!("found a password, expected {PASSWORD_EXPECTED}"))?;
                return Ok((format!("{}{}", &rest[..colon], &rest[at..]), Some(password)));
            }
            _ => {}
        }
    }
    Ok((rest.to_owned(), None))
}

type Modes = [(&'static str, Tls); 4];

/// The default comes first.
const POSTGRES_MODES: Modes = [
    ("prefer", Tls::Prefer),
    ("disable", Tls::Disable),
    ("require", Tls::Require),
    ("verify-full", Tls::Require),
];

/// A MySQL client has to know beforehand.
const MYSQL_MODES: Modes = [
    ("disable", Tls::Disable),
    ("disabled", Tls::Disable),
    ("require", Tls::Require),
    ("verify-full", Tls::Require),
];

/// Takes `sslmode=...` out of a URL's query.
fn take_tls(rest: &str, modes: &Modes) -> Result<(String, Tls), String> {
    let Some((before, query)) = rest.split_once('?') else { return Ok((rest.to_owned(), modes[0].1)) };
    let mut tls = modes[0].1;
    let mut left = Vec::new();
    for pair in query.split('&') {
        let Some(mode) = pair.strip_prefix("sslmode=") else {
            left.push(pair);
            continue;
        };
        let known = modes.iter().find(|(name, _)| *name == mode);
        tls = known.map(|(_, tls)| *tls).ok_or_else(|| {
            let names: Vec<_> = modes.iter().map(|(name, _)| *name).collect();
            format!("found sslmode={}, expected one of {}", shorten(mode), names.join(", "))
        })?;
    }
    let query = if left.is_empty() { String::new() } else { format!("?{}", left.join("&")) };
    Ok((format!("{before}{query}"), tls))
}

fn postgres(url: &str) -> Result<tokio_postgres::Config, String> {
    let mut config: tokio_postgres::Config = url
        .parse()
        .map_err(|error| format!("found a URL that PostgreSQL does not have: {}", causes(&error)))?;
    if config.get_password().is_some() {
        return Err(format!("found a password, expected {PASSWORD_EXPECTED}"));
    }
    if config.get_hosts().is_empty() {
        return Err("found no host, expected postgres://USER@HOST/DATABASE".to_owned());
    }
    if config.get_user().is_none() {
        return Err("found no user, expected postgres://USER@HOST/DATABASE".to_owned());
    }
    if config.get_application_name().is_none() {
        config.application_name("millpond");
    }
    Ok(config)
}

fn mysql(url: &str) -> Result<mysql_async::Opts, String> {
    let opts = mysql_async::Opts::from_url(url)
        .map_err(|error| format!("found a URL that MySQL does not have: {error}"))?;
    match opts.user() {
        None | Some("") => Err("found no user, expected mysql://USER@HOST/DATABASE".to_owned()),
        Some(_) => Ok(opts),
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// `expect_rows`: `1`, `1-5`.
pub(crate) fn read_range(text: &str) -> Option<std::ops::RangeInclusive<u64>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    let range = from..=to;
    (from <= to && show_range(&range).len() < 40).then_some(range)
}
