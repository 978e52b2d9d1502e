//! From the protocol header to connection.open (contracts C1 to C9).

use super::core::{Agreed, Capabilities};
use super::outbox::Outbox;
use super::reply::Fault;
use super::{Peer, farewell, sasl};
use crate::login::log_in;
use crate::oauth::Oauth;
use crate::options::AmqpOptions;
use crate::tls::Wire;
use millpond_amqp_codec::{
    FRAME_MAX_MIN_BYTES, FrameKind, FrameReader, Greeting, Method, PROTOCOL_HEADER, ReplyCode, connection,
};
use millpond_broker::{Broker, ClientFacts, Credential, Login, OpenSession, Session};
use millpond_model::VhostName;
use millpond_model::table::{RawTable, Table, TableBuf, Value};
use std::io;
use tokio::io::AsyncReadExt;

/// Largest frame before tune-ok (contract C3). Bytes.
const FRAME_MAX_BEFORE_TUNE_BYTES: u32 = 8192;

/// What we can do, all of it true (contract C2).
const CAPABILITIES: [&str; 9] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
];

/// A connection that may work.
pub(super) struct Opened {
    pub(super) agreed: Agreed,
    pub(super) session: Session,
    /// Read already: clients need not wait for open-ok.
    pub(super) unread: Vec<u8>,
}

/// What a client has shown of itself.
enum Shown {
    Password(sasl::Credentials),
    /// Whom its certificate stands for, or why for nobody.
    Certificate(Result<String, String>),
}

/// Why there is none.
enum Refusal {
    /// Not AMQP 0-9-1: the header that we speak is shown.
    Foreign,
    /// connection.close.
    Fault(Fault),
    /// The socket is just closed.
    HangUp,
    /// It is closed already.
    Gone,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<io::Error> for Refusal {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// Runs it, within its time; `None`: the connection is ended.
pub(super) async fn run(
    socket: &mut Wire,
    peer: Peer,
    broker: &Broker,
    (options, oauth): (&AmqpOptions, Option<&Oauth>),
) -> Option<Opened> {
    let address = peer.address;
    let mut this = Handshake {
        socket,
        peer,
        broker,
        options,
        oauth,
        input: Vec::new(),
        taken: 0,
        frame_max_bytes: FRAME_MAX_BEFORE_TUNE_BYTES,
    };
    let refusal = match tokio::time::timeout(options.handshake_timeout, this.steps()).await {
        Ok(Ok(opened)) => return Some(opened),
        Ok(Err(refusal)) => refusal,
        Err(_) => {
            tracing::warn!(peer = %address, "no connection.open in time, closed");
            Refusal::HangUp
        }
    };
    this.refuse(refusal).await;
    None
}

struct Handshake<'a> {
    socket: &'a mut Wire,
    peer: Peer,
    broker: &'a Broker,
    options: &'a AmqpOptions,
    oauth: Option<&'a Oauth>,
    input: Vec<u8>,
    /// How much of the input is used up.
    taken: usize,
    frame_max_bytes: u32,
}

impl Handshake<'_> {
    async fn steps(&mut self) -> Result<Opened, Refusal> {
        self.greeting().await?;
        let cluster_name = self.broker.cluster_name().unwrap_or_else(|| self.options.cluster_name.clone());
        self.send(connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: server_properties(&cluster_name).as_raw(),
            mechanisms: sasl::mechanisms(self.certificate_user().is_some()),
            locales: b"en_US",
        })
        .await?;
        let (login, capabilities, mut client) = self.log_in().await?;
        let tuned = self.tune().await?;
        let vhost = self.open().await?;
        let (address, name) = (self.peer.address, self.peer.name());
        let user = login.user.clone();
        let request = OpenSession { login, vhost: vhost.clone(), name: name.clone() };
        let session = self.broker.open_session(request).map_err(|error| {
            tracing::warn!(peer = %address, %user, reason = %error, "connection refused");
            Fault::from(error).of(10, 40)
        })?;
        client.channel_max = tuned.channel_max;
        client.frame_max_bytes = tuned.frame_max;
        client.heartbeat_secs = tuned.heartbeat;
        session.describe_client(client);
        tracing::info!(connection = %name, %user, %vhost, "connection opened");
        let agreed = Agreed {
            user,
            peer: address.ip(),
            name,
            channel_max: tuned.channel_max,
            frame_max_bytes: tuned.frame_max,
            heartbeat_secs: tuned.heartbeat,
            capabilities,
        };
        self.input.drain(..self.taken);
        self.input.shrink_to_fit();
        Ok(Opened { agreed, session, unread: std::mem::take(&mut self.input) })
    }

    /// Whom the client's certificate stands for, if it has shown one.
    fn certificate_user(&self) -> Option<&Result<String, String>> {
        self.peer.tls.as_ref()?.user.as_ref()
    }

    async fn greeting(&mut self) -> Result<(), Refusal> {
        loop {
            match Greeting::parse(&self.input) {
                Greeting::NeedMore => self.read().await?,
                Greeting::Amqp => {
                    self.taken = PROTOCOL_HEADER.len();
                    return Ok(());
                }
                Greeting::Foreign(protocol) => {
                    tracing::warn!(peer = %self.peer.address, "this port speaks AMQP 0-9-1, the client sent {protocol}");
                    return Err(Refusal::Foreign);
                }
            }
        }
    }

    async fn log_in(&mut self) -> Result<(Login, Capabilities, ClientFacts), Refusal> {
        let certificate = self.certificate_user().cloned();
        let start = self.method(connection::StartOk::NAME, (10, 11), |method| match method {
            Method::ConnectionStartOk(m) => {
                let capabilities = Capabilities::of_client(&m.client_properties);
                let client = ClientFacts {
                    protocol: "AMQP 0-9-1",
                    mechanism: m.mechanism.into(),
                    channel_max: 0,
                    frame_max_bytes: 0,
                    heartbeat_secs: 0,
                    properties: m.client_properties.to_table(),
                };
                let credentials = match (m.mechanism, &certificate) {
                    (sasl::EXTERNAL, Some(user)) => Ok(Shown::Certificate(user.clone())),
                    (mechanism, _) => sasl::credentials(mechanism, m.response).map(Shown::Password),
                };
                Some((capabilities, client, credentials))
            }
            _ => None,
        });
        let (capabilities, client, credentials) = start.await?;
        let credentials = credentials.map_err(|error| {
            tracing::warn!(peer = %self.peer.address, reason = %error, "login refused");
            let peer = Some(self.peer.address.ip());
            self.broker.refuse_login("", Credential::Password, peer, &error.to_string());
            let code = match error {
                sasl::SaslError::UnknownMechanism { .. } => ReplyCode::CommandInvalid,
                sasl::SaslError::Malformed { .. } => ReplyCode::SyntaxError,
            };
            Fault::new(code, error).of(10, 11)
        })?;
        let checked = match credentials {
            Shown::Password(sasl::Credentials { user, password }) => {
                let checked = log_in(self.broker, user, password, self.peer.address.ip(), self.oauth).await;
                checked.map_err(|error| error.to_string())
            }
            Shown::Certificate(Ok(user)) => {
                let login = self.broker.login_proven(&user, Some(self.peer.address.ip()));
                login.map_err(|error| error.to_string())
            }
            Shown::Certificate(Err(reason)) => {
                let peer = Some(self.peer.address.ip());
                self.broker.refuse_login("", Credential::Certificate, peer, &reason);
                Err(reason)
            }
        };
        match checked {
            Ok(login) => Ok((login, capabilities, client)),
            Err(reason) => {
                tracing::warn!(peer = %self.peer.address, reason, "login refused");
                if !capabilities.authentication_failure_close {
                    return Err(Refusal::HangUp);
                }
                let text = format_args!(
                    "Login was refused using authentication mechanism {}. For details see the broker logfile.",
                    client.mechanism
                );
                Err(Fault::new(ReplyCode::AccessRefused, text).into())
            }
        }
    }

    async fn tune(&mut self) -> Result<connection::TuneOk, Refusal> {
        let options = self.options;
        let offer = connection::Tune {
            channel_max: options.channel_max,
            frame_max: options.frame_max_bytes.max(FRAME_MAX_MIN_BYTES),
            heartbeat: options.heartbeat_secs,
        };
        self.send(offer).await?;
        let tuned = self
            .method(connection::TuneOk::NAME, (10, 31), |method| match method {
                Method::ConnectionTuneOk(m) => Some(*m),
                _ => None,
            })
            .await?;
        check_tuned(&offer, &tuned).map_err(|text| Fault::new(ReplyCode::NotAllowed, text).of(10, 31))?;
        self.frame_max_bytes = tuned.frame_max;
        Ok(tuned)
    }

    async fn open(&mut self) -> Result<VhostName, Refusal> {
        let name = self
            .method(connection::Open::NAME, (10, 40), |method| match method {
                Method::ConnectionOpen(m) => Some(VhostName::new(m.virtual_host)),
                _ => None,
            })
            .await?;
        Ok(name.map_err(Fault::from)?)
    }

    /// The next method; `pick` takes what it wants of the one expected.
    async fn method<T>(
        &mut self,
        expected: &str,
        id: (u16, u16),
        pick: impl Fn(&Method<'_>) -> Option<T>,
    ) -> Result<T, Refusal> {
        loop {
            let mut reader = FrameReader::new(&self.input[self.taken..], self.frame_max_bytes);
            let frame = match reader.next().map_err(Fault::from)? {
                None => {
                    self.read().await?;
                    continue;
                }
                Some(frame) if frame.kind == FrameKind::Heartbeat => {
                    self.taken += reader.consumed();
                    continue;
                }
                Some(frame) => frame,
            };
            self.taken += reader.consumed();
            if frame.kind != FrameKind::Method {
                let text = format_args!("expected {expected}, got content");
                return Err(Fault::new(ReplyCode::UnexpectedFrame, text).into());
            }
            let method = Method::decode(frame.payload).map_err(|error| Fault::from(error).of(id.0, id.1))?;
            if frame.channel == 0
                && let Some(picked) = pick(&method)
            {
                return Ok(picked);
            }
            if frame.channel == 0 && matches!(method, Method::ConnectionClose(_)) {
                let mut out = Outbox::default();
                Method::from(connection::CloseOk {}).encode(0, out.buffer());
                out.write_all(self.socket).await?;
                return Err(Refusal::HangUp);
            }
            let text = format_args!(
                "expected {expected} on channel 0, got {} on channel {}",
                method.name(),
                frame.channel
            );
            return Err(Fault::new(ReplyCode::ChannelError, text)
                .of(method.class_id(), method.method_id())
                .into());
        }
    }

    async fn read(&mut self) -> Result<(), Refusal> {
        self.input.drain(..self.taken);
        self.taken = 0;
        match self.socket.read_buf(&mut self.input).await? {
            0 => Err(Refusal::Gone),
            _ => Ok(()),
        }
    }

    async fn send(&mut self, method: impl Into<Method<'_>>) -> Result<(), Refusal> {
        let mut out = Outbox::default();
        method.into().encode(0, out.buffer());
        Ok(out.write_all(self.socket).await?)
    }

    async fn refuse(self, refusal: Refusal) {
        let limit = self.options.close_timeout;
        match refusal {
            Refusal::Foreign => farewell::hang_up(self.socket, &PROTOCOL_HEADER, limit).await,
            Refusal::HangUp => farewell::hang_up(self.socket, &[], limit).await,
            Refusal::Gone => tracing::debug!(peer = %self.peer.address, "closed before connection.open"),
            Refusal::Fault(fault) => {
                tracing::info!(peer = %self.peer.address, reason = %fault.text, "connection refused");
                let unread = self.input[self.taken..].to_vec();
                farewell::close(self.socket, Outbox::default(), unread, &fault, limit).await;
            }
        }
    }
}

impl Capabilities {
    fn of_client(properties: &RawTable<'_>) -> Self {
        let Some(millpond_model::table::RawValue::Table(table)) = properties.get("capabilities") else {
            return Self::default();
        };
        let has = |name| matches!(table.get(name), Some(millpond_model::table::RawValue::Bool(true)));
        Self {
            authentication_failure_close: has("authentication_failure_close"),
            consumer_cancel_notify: has("consumer_cancel_notify"),
            connection_blocked: has("connection.blocked"),
        }
    }
}

/// Contract C4; 0 asks for no limit, which we do not give, but no heartbeats are fine.
fn check_tuned(offer: &connection::Tune, tuned: &connection::TuneOk) -> Result<(), String> {
    let check = |what: &str, value: u32, least: u32, most: u32| {
        if most != 0 && (value == 0 || value > most) {
            return Err(format!(
                "negotiated {what} = {value} is higher than the maximum allowed value ({most})"
            ));
        }
        if value < least {
            return Err(format!(
                "negotiated {what} = {value} is lower than the minimum allowed value ({least})"
            ));
        }
        Ok(())
    };
    check("frame_max", tuned.frame_max, FRAME_MAX_MIN_BYTES, offer.frame_max)?;
    check("channel_max", tuned.channel_max.into(), 0, offer.channel_max.into())
}

fn server_properties(cluster_name: &str) -> TableBuf {
    let mut capabilities = Table::new();
    for name in CAPABILITIES {
        capabilities.push(name, true);
    }
    let mut properties = Table::new();
    properties.push("capabilities", capabilities);
    properties.push("cluster_name", cluster_name);
    properties.push("product", "Millpond");
    properties.push("version", env!("CARGO_PKG_VERSION"));
    properties.push("platform", "Rust");
    properties.push("copyright", "The Millpond authors");
    properties.push("information", "Licensed under the Apache License 2.0");
    let mut out = TableBuf::new();
    for (name, value) in &properties {
        // Short names and shallow values always have an encoding.
        let pushed = out.push_value(name, value as &Value);
        debug_assert!(pushed.is_ok());
    }
    out
}
