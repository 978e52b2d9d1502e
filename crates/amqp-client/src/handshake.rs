//! From the socket to connection.open-ok.

use crate::connection::Connection;
use crate::error::{ClientError, ConnectError};
use crate::options::{ClientOptions, Limits};
use crate::stream::Stream;
use crate::uri::Uri;
use crate::wire::Wire;
use bytes::Bytes;
use millpond_amqp_codec::{
    FRAME_MAX_MIN_BYTES, FrameKind, FrameReader, Method, PROTOCOL_HEADER, ReplyCode, connection,
};
use millpond_model::table::{RawTable, Table};
use std::future::poll_fn;
use std::time::Duration;

/// Largest frame before one is agreed on. Bytes.
const FRAME_FIRST_MAX_BYTES: u32 = 1024 * 1024;

pub(crate) async fn open(uri: &Uri, options: &ClientOptions) -> Result<Connection, ConnectError> {
    let broken = |error| ConnectError::broken(uri, error);
    let mut wire = Wire::new(Stream::connect(uri, &options.tls).await?, FRAME_FIRST_MAX_BYTES);
    wire.output.extend_from_slice(&PROTOCOL_HEADER);
    let mut talk = Talk { wire, frames: Bytes::new() };

    let payload = match talk.method().await {
        Err(ClientError::Frame(_) | ClientError::End) if !talk.wire.unread().is_empty() => {
            let answer = talk.wire.unread();
            let answer = answer[..answer.len().min(16)].escape_ascii().to_string();
            return Err(ConnectError::Foreign { address: uri.address(), answer });
        }
        other => other.map_err(broken)?,
    };
    let start = match read(&payload).map_err(broken)? {
        Method::ConnectionStart(start) => start,
        other => return Err(broken(unexpected(&other))),
    };
    let product = product(start.server_properties);
    start_ok(&mut talk.wire, uri, options).map_err(broken)?;

    let payload = talk.method().await.map_err(|error| login_error(uri, error))?;
    let tune = match read(&payload).map_err(broken)? {
        Method::ConnectionTune(tune) => tune,
        Method::ConnectionClose(close) => return Err(refused(uri, &close)),
        other => return Err(broken(unexpected(&other))),
    };
    let limits = agree(uri, options, &tune);
    let ok = connection::TuneOk {
        channel_max: limits.channels_max,
        frame_max: limits.frame_max_bytes,
        heartbeat: limits.heartbeat.as_secs() as u16,
    };
    Method::from(ok).encode(0, &mut talk.wire.output);
    let open = connection::Open { virtual_host: &uri.vhost, ..connection::Open::default() };
    Method::from(open).encode(0, &mut talk.wire.output);
    talk.wire.frame_max_bytes = limits.frame_max_bytes;

    let payload = talk.method().await.map_err(|error| login_error(uri, error))?;
    match read(&payload).map_err(broken)? {
        Method::ConnectionOpenOk(_) => Ok(Connection::new(talk.wire, limits, options.clone(), product)),
        Method::ConnectionClose(close) => Err(refused(uri, &close)),
        other => Err(broken(unexpected(&other))),
    }
}

fn start_ok(wire: &mut Wire, uri: &Uri, options: &ClientOptions) -> Result<(), ClientError> {
    let names = [
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "exchange_exchange_bindings",
        "publisher_confirms",
    ];
    let capabilities: Table = names.into_iter().map(|name| (name, true)).collect();
    let mut properties = Table::new();
    properties.push("product", "Millpond");
    properties.push("version", env!("CARGO_PKG_VERSION"));
    properties.push("connection_name", options.name.as_str());
    properties.push("capabilities", capabilities);
    let encoding = |error: millpond_model::table::TableError| ClientError::Encoding {
        what: "the connection's name",
        reason: error.to_string(),
    };
    let properties = properties.encode().map_err(encoding)?;
    let plain = format!("\0{}\0{}", uri.user, uri.password);
    let (mechanism, response) =
        if uri.is_external { ("EXTERNAL", &b""[..]) } else { ("PLAIN", plain.as_bytes()) };
    let start_ok =
        connection::StartOk { client_properties: properties.as_raw(), mechanism, response, locale: "en_US" };
    Method::from(start_ok).encode(0, &mut wire.output);
    Ok(())
}

/// The smaller of both wishes, where 0 is none.
fn agree(uri: &Uri, options: &ClientOptions, tune: &connection::Tune) -> Limits {
    let lesser = |ours: u32, theirs: u32| match (ours, theirs) {
        (0, other) | (other, 0) => other,
        (ours, theirs) => ours.min(theirs),
    };
    let channels_max = uri.channel_max.unwrap_or(options.channels_max);
    let frame_max = uri.frame_max.unwrap_or(options.frame_max_bytes);
    let frame_max_bytes = match lesser(frame_max, tune.frame_max) {
        0 => 0,
        bytes => bytes.max(FRAME_MAX_MIN_BYTES),
    };
    let ours = uri.heartbeat.unwrap_or(options.heartbeat).as_secs().min(u16::MAX.into()) as u32;
    // A heartbeat of 0 is a wish of its own here: who does not want any gets none.
    let heartbeat = if ours == 0 { 0 } else { lesser(ours, tune.heartbeat.into()) };
    Limits {
        channels_max: match lesser(channels_max.into(), tune.channel_max.into()) {
            0 => u16::MAX,
            channels => channels as u16,
        },
        frame_max_bytes,
        heartbeat: Duration::from_secs(heartbeat.into()),
    }
}

fn product(properties: RawTable<'_>) -> String {
    let table = properties.to_table();
    let text = |name| table.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    format!("{} {}", text("product"), text("version")).trim().to_owned()
}

fn read(payload: &Bytes) -> Result<Method<'_>, ClientError> {
    Ok(Method::decode(payload)?)
}

fn unexpected(method: &Method<'_>) -> ClientError {
    ClientError::Unexpected { what: method.name(), channel: 0 }
}

fn refused(uri: &Uri, close: &connection::Close<'_>) -> ConnectError {
    let text = close.reply_text.to_owned();
    if close.reply_code == ReplyCode::AccessRefused.code() {
        return ConnectError::Login { address: uri.address(), user: uri.user.clone(), text };
    }
    ConnectError::broken(uri, ClientError::Closed { code: close.reply_code, text })
}

/// Where a broker hangs up, it has refused what was said last.
fn login_error(uri: &Uri, error: ClientError) -> ConnectError {
    let (address, user) = (uri.address(), uri.user.clone());
    match error {
        ClientError::End | ClientError::Io(_) => {
            ConnectError::HungUp { address, user, vhost: uri.vhost.clone() }
        }
        error => ConnectError::Broken { address, error },
    }
}

/// A conversation of one method at a time.
struct Talk {
    wire: Wire,
    /// Whole frames that were read and not looked at.
    frames: Bytes,
}

impl Talk {
    /// Sends what is in the buffer, and waits for a method frame's payload.
    async fn method(&mut self) -> Result<Bytes, ClientError> {
        poll_fn(|cx| self.wire.poll_write(cx)).await?;
        loop {
            let mut frames = FrameReader::new(&self.frames, self.wire.frame_max_bytes);
            let found = frames.next()?.map(|frame| (frame.kind, self.frames.slice_ref(frame.payload)));
            let used = frames.consumed();
            match found {
                Some((kind, payload)) => {
                    self.frames = self.frames.slice(used..);
                    if kind == FrameKind::Method {
                        return Ok(payload);
                    }
                }
                None => {
                    if poll_fn(|cx| self.wire.poll_read(cx)).await? == 0 {
                        return Err(ClientError::End);
                    }
                    self.frames = self.wire.take_frames()?.unwrap_or_default();
                }
            }
        }
    }
}
