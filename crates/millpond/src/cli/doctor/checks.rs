//! What is looked at. Nothing is changed by looking.

use super::Finding;
use crate::cli::process::is_locked;
use crate::control::{self, Request, Status, Style};
use crate::settings::Settings;
use crate::tls;
use rustix::fs::{Access, AtFlags, CWD};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Fewer open files than this are too few for a broker.
const OPEN_FILES_MIN: u64 = 1024;
/// Files beside those of connections: segments of queues, the log, sources.
const OPEN_FILES_BESIDE: u64 = 1024;
/// With less free disk than so many times the limit of the alarm, it is near.
const DISK_NEAR: u64 = 4;

/// Whether a broker has the data directory.
#[derive(Debug)]
pub(super) enum Running {
    /// And how it is.
    Yes(Status),
    /// Something has it and does not answer, because of this.
    Silent(String),
    No,
    /// That cannot be seen by this user.
    Hidden,
}

impl Running {
    pub(super) fn find(data_dir: &Path) -> Self {
        let asked = control::ask(data_dir, &Request::Status, |_, _| {})
            .and_then(|answer| Ok(serde_json::from_str::<Status>(&answer.render(Style::Json))?));
        let reason = match asked {
            Ok(status) => return Self::Yes(status),
            Err(reason) => reason,
        };
        match is_locked(data_dir) {
            Some(true) => Self::Silent(format!("{reason:#}")),
            Some(false) => Self::No,
            None => Self::Hidden,
        }
    }
}

/// The files that settings name.
pub(super) fn files(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(path) = &settings.topology {
        let (check, file) = ("topology", path.display().to_string());
        let checked = std::fs::read_to_string(path).map_err(|error| format!("{file}: {error}"));
        let checked = checked.and_then(|text| {
            millpond_engine::check(&file, &text).map_err(|error| error.to_string().replace('\n', "; "))
        });
        findings.push(match checked {
            Ok(topology) => Finding::ok(check, format!("{file}: {topology}")),
            Err(error) => Finding::fail(check, error, "mend the file; the broker does not start with it"),
        });
    }
    if let Some(path) = &settings.secrets_key_file {
        let (check, file) = ("secrets key", path.display().to_string());
        findings.push(match std::fs::metadata(path) {
            Err(error) => Finding::warn(check, format!("{file}: {error}"), "sealed secrets need it"),
            Ok(found) if found.permissions().mode() & 0o077 != 0 => {
                Finding::warn(check, format!("{file}: others may read it"), format!("chmod 600 {file}"))
            }
            Ok(_) => Finding::ok(check, file),
        });
    }
    findings.extend(settings.exec_allow.iter().map(|path| {
        let (check, file) = ("program", path.display().to_string());
        match may(path, Access::EXEC_OK) {
            true => Finding::ok(check, file),
            false => Finding::warn(
                check,
                format!("{file}: cannot be run by this user"),
                "install it, or take it from `exec_allow`",
            ),
        }
    }));
    findings
}

/// Certificates: whether they can be used, and for how long.
pub(super) fn tls(settings: &Settings) -> Vec<Finding> {
    const CHECK: &str = "TLS";
    let loaded = match tls::load(settings) {
        Ok(None) => return Vec::new(),
        Ok(Some(loaded)) => loaded.status(),
        Err(error) => {
            let todo = "mend the files or the settings; the broker does not start with them";
            return vec![Finding::fail(CHECK, format!("{error:#}"), todo)];
        }
    };
    let now = loaded.expire_within(Duration::ZERO);
    let soon = loaded.expire_within(tls::SOON);
    let mut findings: Vec<_> = (loaded.certificates.iter())
        .map(|it| {
            let found = format!("{} {}: {}", it.what, it.subject, it.validity());
            match () {
                () if now.contains(&it) => Finding::fail(CHECK, found, "it has ended: get another one"),
                () if soon.contains(&it) => Finding::warn(CHECK, found, "it ends soon: get another one"),
                () => Finding::ok(CHECK, found),
            }
        })
        .collect();
    let key = settings.tls_key.as_ref().and_then(|path| Some((path, std::fs::metadata(path).ok()?)));
    if let Some((path, found)) = key
        && found.permissions().mode() & 0o007 != 0
    {
        let file = path.display();
        let todo = format!("chmod o= {file}");
        findings.push(Finding::warn(CHECK, format!("{file}: everybody may read the key"), todo));
    }
    findings
}

/// That there is one, or can be, and room in it.
pub(super) fn data_dir(settings: &Settings) -> Vec<Finding> {
    const CHECK: &str = "data directory";
    let dir = &settings.data_dir;
    let shown = std::path::absolute(dir).unwrap_or_else(|_| dir.clone()).display().to_string();
    let mut findings = Vec::new();
    let there = nearest(dir);
    let own = "make it belong to the user that the broker runs as, or run this as that user";
    findings.push(match (dir.exists(), there.is_dir(), may(&there, Access::WRITE_OK | Access::EXEC_OK)) {
        (_, false, _) => Finding::fail(
            CHECK,
            format!("{} is no directory", there.display()),
            "choose another by --data-dir",
        ),
        (_, true, false) => Finding::fail(CHECK, format!("{} cannot be written to", there.display()), own),
        (true, ..) => Finding::ok(CHECK, shown),
        (false, ..) => Finding::ok(CHECK, format!("{shown}, made at the start")),
    });
    if let Ok(disk) = rustix::fs::statvfs(&there) {
        let (free, least) = (disk.f_bavail.saturating_mul(disk.f_frsize), settings.disk_free_min.0);
        let found = format!("{} MiB free, alarm below {}", free >> 20, least >> 20);
        let todo = "make room, or put the data directory on a larger disk";
        findings.push(match free {
            _ if free < least => Finding::fail("disk", found, todo),
            _ if free < least.saturating_mul(DISK_NEAR) => Finding::warn("disk", found, todo),
            _ => Finding::ok("disk", found),
        });
    }
    findings
}

/// How the running one is.
pub(super) fn broker(running: &Running) -> Vec<Finding> {
    const CHECK: &str = "broker";
    let status = match running {
        Running::Yes(status) => status,
        Running::No => return vec![Finding::ok(CHECK, "not running")],
        Running::Hidden => {
            return vec![Finding::warn(CHECK, "this user may not see whether it runs", "run this as root")];
        }
        Running::Silent(reason) => {
            let todo = "it starts, stops or hangs: look into its log";
            return vec![Finding::fail(CHECK, format!("has the data directory, but {reason}"), todo)];
        }
    };
    let mut findings = vec![match &status.store_trouble {
        None => Finding::ok(CHECK, format!("running as process {}", status.pid)),
        Some(trouble) => {
            Finding::fail(CHECK, format!("the store takes no writes: {trouble}"), "look into its log")
        }
    }];
    if status.version != env!("CARGO_PKG_VERSION") {
        let found = format!("version {} runs, this is {}", status.version, env!("CARGO_PKG_VERSION"));
        findings.push(Finding::warn(CHECK, found, "restart it"));
    }
    if !status.alarms.is_empty() {
        let found = format!("alarm: {}", status.alarms.join(", "));
        findings.push(Finding::fail(CHECK, found, "publishers are held up: millpond alarms list"));
    }
    if status.stuck > 0 {
        let found = format!("queues were stuck {} times", status.stuck);
        findings.push(Finding::warn(CHECK, found, "a bug: report it, with the lines of the log"));
    }
    findings
}

/// Of the running broker, or of one that would be started from here.
pub(super) fn open_files(settings: &Settings, running: &Running) -> Finding {
    const CHECK: &str = "open files";
    let process = match running {
        Running::Yes(status) => status.pid.to_string(),
        _ => "self".to_owned(),
    };
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).ok();
    let Some(most) = limits.and_then(|limits| hard_limit(&limits)) else {
        return Finding::warn(CHECK, "the limit is not known on this system", "see that it is high enough");
    };
    let wanted = (settings.connections_max as u64).saturating_add(OPEN_FILES_BESIDE);
    let found = match most {
        u64::MAX => "no limit".to_owned(),
        _ => format!("at most {most}"),
    };
    let todo = "raise LimitNOFILE= of the unit, or `ulimit -Hn`";
    match most {
        _ if most < OPEN_FILES_MIN => Finding::fail(CHECK, found, todo),
        _ if most < wanted => Finding::warn(
            CHECK,
            format!("{found}: fewer than connections_max = {} need", settings.connections_max),
            format!("{todo}, or lower connections_max"),
        ),
        _ => Finding::ok(CHECK, found),
    }
}

/// `Max open files            1024                 524288               files`.
fn hard_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// That each address is free, or the running broker's.
pub(super) fn addresses(settings: &Settings, running: &Running) -> Vec<Finding> {
    let amqp = settings.amqp_listen.iter().map(|address| (*address, "AMQP", "--amqp-listen"));
    let http = [(settings.http_listen, "HTTP", "--http-listen")];
    let has_tls = settings.tls_certificate.is_some();
    let amqps = settings.amqps_listen.iter().map(|address| (*address, "AMQPS", "--amqps-listen"));
    let https = settings.https_listen.iter().map(|address| (*address, "HTTPS", "--https-listen"));
    amqp.chain(http)
        .chain(amqps.chain(https).filter(|_| has_tls))
        .map(|(address, service, flag)| {
            let check = format!("{service} {address}");
            let is_ours = match running {
                Running::Yes(status) => status.amqp.contains(&address) || status.http.contains(&address),
                _ => false,
            };
            if is_ours {
                return Finding::ok(check, "served by the running broker");
            }
            let another = format!("choose another by {flag}");
            match TcpListener::bind(address).map_err(|error| (error.kind(), error)) {
                Ok(_) if matches!(running, Running::Yes(_)) => {
                    Finding::warn(check, "free: the running broker has other settings", "restart it")
                }
                Ok(_) => Finding::ok(check, "free"),
                Err((ErrorKind::AddrInUse, _)) if matches!(running, Running::Hidden | Running::Silent(_)) => {
                    Finding::warn(check, "in use, perhaps by this broker", "ss -ltnp shows by whom")
                }
                Err((ErrorKind::AddrInUse, _)) => Finding::fail(
                    check,
                    "in use by another program",
                    format!("ss -ltnp shows by which; {another}"),
                ),
                Err((_, error)) if is_optional(address, settings) => {
                    Finding::ok(check, format!("left out: {error}"))
                }
                Err((_, error)) => Finding::fail(check, error.to_string(), another),
            }
        })
        .collect()
}

/// A loopback of IPv6 that is not there is left out by the broker where it has another address.
fn is_optional(address: SocketAddr, settings: &Settings) -> bool {
    address.is_ipv6() && address.ip().is_loopback() && settings.amqp_listen.len() > 1
}

/// Who could come in.
pub(super) fn doors(settings: &Settings) -> Option<Finding> {
    let is_open = settings.amqp_listen.iter().any(|address| !address.ip().is_loopback());
    let is_known = settings.default_password == "guest" && !settings.default_user_loopback_only;
    (is_open && is_known).then(|| {
        let user = &settings.default_user;
        Finding::warn(
            "default user",
            format!("'{user}' with the password 'guest' may come from every machine"),
            format!("set default_password before the first start, or: millpond users password {user}"),
        )
    })
}

/// The data of time zones are in the binary.
pub(super) fn zones() -> Finding {
    match millpond_calendar::Calendar::new("@daily", "Europe/Berlin") {
        Ok(_) => Finding::ok("time zones", "built in"),
        Err(error) => Finding::fail("time zones", error.to_string(), "a bug: report it"),
    }
}

/// The path, or of the directories above it the first that there is.
fn nearest(path: &Path) -> PathBuf {
    let here = |path: &Path| if path == Path::new("") { PathBuf::from(".") } else { path.to_owned() };
    path.ancestors().map(here).find(|path| path.exists()).unwrap_or_else(|| PathBuf::from("/"))
}

/// Whether this user, as it is now, may do this there.
fn may(path: &Path, access: Access) -> bool {
    rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::load;

    #[test]
    fn the_limit_of_open_files_is_read_as_the_system_writes_it() {
        let limits =
            |hard: &str| format!("Limit  Soft  Hard  Units\nMax open files    1024    {hard}    files\n");
        assert_eq!(hard_limit(&limits("4096")), Some(4096));
        assert_eq!(hard_limit(&limits("unlimited")), Some(u64::MAX));
        assert_eq!(hard_limit("Max processes 1 2 processes"), None);
    }

    #[test]
    fn a_directory_that_is_to_be_made_is_judged_by_the_one_above() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(nearest(&folder.path().join("a/b")), folder.path());
        assert_eq!(nearest(Path::new("not-there")), Path::new("."));
    }

    #[test]
    fn a_known_password_is_told_only_where_others_can_come() {
        let told = |flags: &[(&'static str, &str)]| {
            let flags: Vec<_> = flags.iter().map(|(key, value)| (*key, vec![(*value).to_owned()])).collect();
            doors(&load(None, &[], &flags).unwrap()).is_some()
        };
        let everywhere = ("amqp_listen", "0.0.0.0:5672");
        let anybody = ("default_user_loopback_only", "false");
        assert!(told(&[everywhere, anybody]));
        assert!(!told(&[everywhere]));
        assert!(!told(&[anybody]));
        assert!(!told(&[everywhere, anybody, ("default_password", "x")]));
    }
}
