//! Every setting, declared once: from one line come the file key, the environment variable, the flag, the default,
//! the help text and the table in docs/guide/settings.md.
//!
//! Order of precedence: flag, environment (`MILLPOND_<KEY>`), file (`millpond.toml`), default.

mod source;
mod value;

use millpond_server::{CertificateName, ClientCertificates};
pub(crate) use source::{file, load};
pub(crate) use value::{
    ByteSize, LogFormat, SettingValue, Share, SyncSetting, TlsVersion, Watermark, Word, Words,
};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// One setting as people see it.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Key in the file; the flag is the same with dashes, the variable `MILLPOND_` and capitals.
    pub(crate) key: &'static str,
    /// What a value looks like.
    pub(crate) shape: &'static str,
    /// Whether it may be given several times.
    pub(crate) repeats: bool,
    /// What it does.
    pub(crate) help: &'static str,
    /// In the form a person would write.
    pub(crate) default: &'static [&'static str],
}

impl Setting {
    /// `--data-dir`, without the dashes in front.
    pub(crate) fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// `MILLPOND_DATA_DIR`.
    pub(crate) fn variable(&self) -> String {
        format!("MILLPOND_{}", self.key.to_uppercase())
    }
}

macro_rules! settings {
    ($($(#[doc = $help:literal])+ $key:ident: $kind:ty = [$($default:literal),*];)+) => {
        /// The values a server runs with.
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) struct Settings {
            $($(#[doc = $help])+ pub(crate) $key: $kind,)+
        }

        /// All settings, in the order of the documentation.
        pub(crate) const SETTINGS: &[Setting] = &[$(Setting {
            key: stringify!($key),
            shape: <$kind as SettingValue>::SHAPE,
            repeats: <$kind as SettingValue>::REPEATS,
            help: concat!($($help,)+),
            default: &[$($default),*],
        },)+];

        impl Settings {
            /// What holds where nobody says otherwise.
            fn defaults() -> Result<Self, String> {
                Ok(Self {
                    $($key: {
                        let values: &[&str] = &[$($default),*];
                        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
                        SettingValue::parse_all(&values)?
                    },)+
                })
            }

            /// Sets one setting from what a person wrote.
            fn set(&mut self, key: &str, values: &[String]) -> Result<(), String> {
                match key {
                    $(stringify!($key) => self.$key = <$kind as SettingValue>::parse_all(values)?,)+
                    _ => return Err("is not a setting".to_owned()),
                }
                Ok(())
            }
        }
    };
}

settings! {
    /// Directory of the store: messages, definitions, rules' state.
    data_dir: PathBuf = ["./data"];
    /// Address and port for AMQP clients.
    amqp_listen: Vec<SocketAddr> = ["127.0.0.1:5672", "[::1]:5672"];
    /// Address and port for HTTP: health checks, events, metrics and the management API.
    http_listen: SocketAddr = ["127.0.0.1:15672"];
    /// Address and port for AMQP clients with TLS; served when `tls_certificate` is set.
    amqps_listen: Vec<SocketAddr> = ["127.0.0.1:5671", "[::1]:5671"];
    /// Address and port for HTTP with TLS; served when `tls_certificate` is set.
    https_listen: Vec<SocketAddr> = ["127.0.0.1:15671"];
    /// File with the chain of certificates (PEM), the server's own first. A changed file is taken up within seconds.
    tls_certificate: Option<PathBuf> = [];
    /// File with the certificate's private key (PEM, without a password).
    tls_key: Option<PathBuf> = [];
    /// File with certificates (PEM) of those who may sign clients' certificates.
    tls_client_ca: Option<PathBuf> = [];
    /// Whether AMQP clients show certificates: `none` are asked for, `optional`, `required`. HTTP clients are never asked.
    tls_verify: ClientCertificates = ["none"];
    /// Oldest version of TLS: `1.2` or `1.3`.
    tls_min_version: TlsVersion = ["1.2"];
    /// What of a client's certificate is the user's name for SASL EXTERNAL: `distinguished_name`, `common_name` or `subject_alternative_name`.
    tls_login_from: CertificateName = ["distinguished_name"];
    /// What tokens (OAuth 2) are for, `aud` in them; where it is set, a token is taken as a password.
    oauth_resource_server_id: Word = [];
    /// What the scopes of tokens begin with; without it, the resource server's id and a dot.
    oauth_scope_prefix: Word = [];
    /// Who issues tokens, `iss` in them; without it, whoever has a key.
    oauth_issuer: Word = [];
    /// Where the keys are that tokens are signed with (JWKS): https, or http on this machine.
    oauth_jwks_url: Word = [];
    /// File with a public key (PEM) that tokens are signed with.
    oauth_signing_keys: Vec<PathBuf> = [];
    /// A claim with scopes besides `scope`, such as `realm_access.roles`.
    oauth_additional_scopes_key: Word = [];
    /// Claims whose first text is the user's name.
    oauth_username_claims: Words = ["preferred_username", "sub", "client_id"];
    /// Signatures that are taken; those with a shared secret never are.
    oauth_algorithms: Words = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];
    /// How far the clocks of the issuer and of this machine may be apart.
    oauth_clock_skew: Duration = ["60s"];
    /// What the console calls itself when it sends somebody to the issuer to sign in; without it, the console asks for passwords alone.
    oauth_client_id: Word = [];
    /// Scopes that the console asks the issuer for.
    oauth_scopes: Words = ["openid", "profile"];
    /// HTTP connections at once; further ones are closed at once.
    http_connections_max: usize = ["4096"];
    /// How long an HTTP connection may idle, or take for the head of a request.
    http_header_timeout: Duration = ["60s"];
    /// For how long nothing may come of a request's body that has begun.
    http_body_pause_max: Duration = ["30s"];
    /// After how long without a request a login by cookie (the web console) ends.
    http_login_idle: Duration = ["480m"];
    /// For how long SIGTERM and SIGINT let clients settle what they hold before the broker stops; `0s`: not at all.
    stop_drain: Duration = ["0s"];
    /// Address and port for Prometheus alone, without a password, such as `127.0.0.1:15692`, where RabbitMQ has it; `/metrics` is on the HTTP port in any case.
    prometheus_listen: Vec<SocketAddr> = [];
    /// When a publisher's confirm is sent: `always` after fdatasync, `os` after write, or an interval such as `200ms`: after write, with an fdatasync at least that often.
    sync: SyncSetting = ["always"];
    /// A topology file (YAML) to apply at the start: exchanges, queues, bindings, rules.
    topology: Option<PathBuf> = [];
    /// Definitions to import at the start, as RabbitMQ exports them (JSON): a file, or a directory whose `*.json` are taken by name. What cannot be taken stops the start.
    load_definitions: Option<PathBuf> = [];
    /// Whether definitions are left alone that are those of the last start.
    load_definitions_skip_unchanged: bool = ["false"];
    /// File of the key that `millpond secrets` seals its table with; where none is named, `secrets.key` in the data directory, made when the first secret is set.
    secrets_key_file: Option<PathBuf> = [];
    /// Programs that rules may run with the action `exec`, by their absolute paths; none: no rule runs any.
    exec_allow: Vec<PathBuf> = [];
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or a filter by module such as `info,millpond_store=debug`.
    log: String = ["info"];
    /// What the log is written as: `text` for people, `json` for programs, one object a line.
    log_format: LogFormat = ["text"];
    /// The audit log, who changed what and who was refused: a file, in the data directory unless its path is absolute; `off`: in memory only.
    audit_log: String = ["audit.log"];
    /// Where a file of the audit log ends and the next begins.
    audit_log_max_size: ByteSize = ["16MiB"];
    /// Files of the audit log that are kept beside the one that is written; the oldest goes.
    audit_log_keep: usize = ["10"];
    /// A collector of OpenTelemetry traces, by OTLP over HTTP: `http://127.0.0.1:4318`; empty: none are made.
    otel_endpoint: String = [""];
    /// Headers for the collector: `NAME=VALUE`, several with commas between.
    otel_headers: String = [""];
    /// What the traces call this broker.
    otel_service_name: String = ["millpond"];
    /// Share of the traces that begin here and are sent, from 0 to 1; a caller's `traceparent` decides for its own.
    otel_sampling: Share = ["1"];
    /// The user that is made in a new data directory: an administrator with all permissions. Later changes have no effect: see `millpond users`.
    default_user: String = ["guest"];
    /// The password that user is made with.
    default_password: String = ["guest"];
    /// Whether that user may only connect from this machine.
    default_user_loopback_only: bool = ["true"];
    /// Largest message body accepted; a larger one closes the channel with 406.
    message_size_max: ByteSize = ["16MiB"];
    /// Bodies received in part that one connection may hold, over all its channels; beyond, the channel is closed with 406. At least `message_size_max`.
    partial_bodies_max: ByteSize = ["64MiB"];
    /// Connections at once; further ones are refused with 530.
    connections_max: usize = ["65536"];
    /// Channels a connection may open.
    channels_max: u16 = ["2047"];
    /// Consumers a channel may have.
    consumers_per_channel_max: usize = ["100000"];
    /// Largest frame offered to clients.
    frame_size_max: ByteSize = ["128KiB"];
    /// Largest property list of a message; a larger one closes the channel with 406.
    header_size_max: ByteSize = ["128KiB"];
    /// Heartbeat offered to clients; `0s` for none.
    heartbeat: Duration = ["60s"];
    /// How long a client may take from connect to connection.open.
    handshake_timeout: Duration = ["10s"];
    /// Deliveries that may wait for one connection before its consumers are passed over.
    inbox_size_max: ByteSize = ["1MiB"];
    /// Messages one queue may hold in memory before it pages out to disk.
    queue_memory_max: ByteSize = ["24MiB"];
    /// Messages all queues may hold in memory before the largest page out.
    memory_max: ByteSize = ["256MiB"];
    /// Resident memory from which publishers are blocked: a share of the machine's (or its container's) memory such as `0.6`, or a size.
    memory_high_watermark: Watermark = ["0.6"];
    /// Free space on the disk of the data directory below which publishers are blocked.
    disk_free_min: ByteSize = ["50MiB"];
    /// How often memory and disk are looked at.
    alarm_check_interval: Duration = ["1s"];
    /// Age of an alarm from which publishes are refused (nack) instead of waiting; `0s`: they wait.
    alarm_nack_after: Duration = ["30s"];
    /// How often statistics are noted, of what moves; rates are of the last such interval. At least `100ms`.
    statistics_interval: Duration = ["5s"];
    /// Length of one segment of the write-ahead log.
    wal_segment_size: ByteSize = ["16MiB"];
    /// Segments the write-ahead log may span.
    wal_segments_max: usize = ["4"];
    /// Where a queue's segment file ends and the next begins.
    queue_segment_size: ByteSize = ["64MiB"];
    /// Worker threads of the runtime; 0: one for each core.
    worker_threads: usize = ["0"];
}

/// The Markdown table of docs/guide/settings.md.
pub(crate) fn table() -> String {
    let mut out = String::from("| File key | Flag | Environment | Default | What |\n|---|---|---|---|---|\n");
    for setting in SETTINGS {
        let default = match setting.default {
            [] | [""] => "none".to_owned(),
            values => values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", "),
        };
        out += &format!(
            "| `{}` | `--{} {}`{} | `{}` | {default} | {} |\n",
            setting.key,
            setting.flag(),
            setting.shape,
            if setting.repeats { " (repeatable)" } else { "" },
            setting.variable(),
            setting.help.trim(),
        );
    }
    out
}

#[cfg(test)]
mod tests;
