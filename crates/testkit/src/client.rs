//! A client of raw frames.

use millpond_amqp_codec::{
    ContentHeader, FRAME_END, FrameKind, FrameReader, Method, PROTOCOL_HEADER, basic, channel, connection,
    encode_content, queue,
};
use millpond_model::table::Table;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Nothing in a test takes so long unless it hangs.
const HANG: Duration = Duration::from_secs(30);

/// What a client may speak over.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug> Socket for T {}

/// A message as received.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// The encoded property list.
    pub properties: Vec<u8>,
    /// All body frames together.
    pub body: Vec<u8>,
    /// How many of them there were.
    pub body_frames: usize,
}

/// What came from the server, in the forms that tests compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A method without content, as `Debug` prints it: `ChannelOpenOk(OpenOk { .. })`.
    Method {
        /// On which channel.
        channel: u16,
        /// `channel.open-ok`
        name: &'static str,
        /// The whole of it, for asserts on arguments.
        debug: String,
    },
    /// basic.ack.
    Ack {
        /// On which channel.
        channel: u16,
        /// Which publish.
        tag: u64,
        /// And all before it.
        multiple: bool,
    },
    /// basic.nack.
    Nack {
        /// On which channel.
        channel: u16,
        /// Which publish.
        tag: u64,
        /// And all before it.
        multiple: bool,
    },
    /// basic.deliver.
    Deliver {
        /// On which channel.
        channel: u16,
        /// The consumer's tag.
        consumer: String,
        /// The delivery's tag.
        tag: u64,
        /// Whether it was handed out before.
        redelivered: bool,
        /// Routing key.
        key: String,
        /// The message.
        content: Content,
    },
    /// basic.get-ok.
    Got {
        /// The delivery's tag.
        tag: u64,
        /// Whether it was handed out before.
        redelivered: bool,
        /// Ready messages left.
        left: u32,
        /// The message.
        content: Content,
    },
    /// basic.return.
    Returned {
        /// 312.
        code: u16,
        /// Routing key.
        key: String,
        /// The message.
        content: Content,
    },
    /// channel.close.
    ChannelClosed {
        /// Which.
        channel: u16,
        /// The reply code.
        code: u16,
        /// The reply text.
        text: String,
        /// Class and method it is about.
        method: (u16, u16),
    },
    /// connection.close.
    Closed {
        /// The reply code.
        code: u16,
        /// The reply text.
        text: String,
    },
    /// A heartbeat.
    Heartbeat,
    /// The protocol header, which is no frame.
    ProtocolHeader,
    /// The socket is closed.
    End,
}

/// A connection of raw frames.
#[derive(Debug)]
pub struct Client {
    socket: Box<dyn Socket>,
    input: Vec<u8>,
    /// Agreed on, for the content it sends. Bytes.
    pub frame_max_bytes: u32,
    /// Whether channel.close and connection.close are confirmed by itself.
    pub answers_close: bool,
}

impl Client {
    /// As [`Self::connect_raw`], over what is connected already: TLS.
    pub fn over(socket: impl Socket + 'static) -> Self {
        Self { socket: Box::new(socket), input: Vec::new(), frame_max_bytes: 131_072, answers_close: true }
    }

    /// A socket, and nothing said.
    pub async fn connect_raw(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self::over(socket)
    }

    /// An open connection as guest, vhost `/`, no heartbeats, with the usual capabilities.
    pub async fn connect(address: SocketAddr) -> Self {
        let tune = connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 0 };
        Self::connect_with(address, tune).await
    }

    /// As [`Self::connect`], with this tune-ok.
    pub async fn connect_with(address: SocketAddr, tune: connection::TuneOk) -> Self {
        let mut this = Self::connect_raw(address).await;
        this.frame_max_bytes = tune.frame_max;
        this.send_bytes(&PROTOCOL_HEADER).await;
        this.expect("connection.start").await;
        this.start_ok("PLAIN", b"\0guest\0guest", true).await;
        this.expect("connection.tune").await;
        this.send(0, tune).await;
        this.open("/").await;
        this.expect("connection.open-ok").await;
        this
    }

    /// connection.start-ok with the capabilities, or without any.
    pub async fn start_ok(&mut self, mechanism: &str, response: &[u8], capable: bool) {
        let mut properties = Table::new();
        if capable {
            let names = [
                "authentication_failure_close",
                "consumer_cancel_notify",
                "basic.nack",
                "publisher_confirms",
                "connection.blocked",
            ];
            let capabilities: Table = names.into_iter().map(|name| (name, true)).collect();
            properties.push("capabilities", capabilities);
        }
        let properties = properties.encode().unwrap();
        self.send(
            0,
            connection::StartOk {
                client_properties: properties.as_raw(),
                mechanism,
                response,
                locale: "en_US",
            },
        )
        .await;
    }

    /// connection.open.
    pub async fn open(&mut self, virtual_host: &str) {
        self.send(0, connection::Open { virtual_host, ..Default::default() }).await;
    }

    /// Opens a channel.
    pub async fn open_channel(&mut self, number: u16) {
        self.send(number, channel::Open::default()).await;
        self.expect("channel.open-ok").await;
    }

    /// Declares a queue that is neither durable nor exclusive nor auto-delete... unless `durable`.
    pub async fn declare_queue(&mut self, channel: u16, queue: &str, durable: bool) {
        self.send(channel, queue::Declare { queue, durable, ..Default::default() }).await;
        self.expect("queue.declare-ok").await;
    }

    /// Sends a method.
    pub async fn send<'a>(&mut self, channel: u16, method: impl Into<Method<'a>>) {
        let mut out = Vec::new();
        method.into().encode(channel, &mut out);
        self.send_bytes(&out).await;
    }

    /// basic.publish with content.
    pub async fn publish(
        &mut self,
        channel: u16,
        method: basic::Publish<'_>,
        properties: &[u8],
        body: &[u8],
    ) {
        let out = self.encode_publish(channel, method, properties, body);
        self.send_bytes(&out).await;
    }

    /// basic.publish with content, as bytes.
    pub fn encode_publish(
        &self,
        channel: u16,
        method: basic::Publish<'_>,
        properties: &[u8],
        body: &[u8],
    ) -> Vec<u8> {
        let mut out = Vec::new();
        Method::from(method).encode(channel, &mut out);
        encode_content(&mut out, channel, properties, body, self.frame_max_bytes);
        out
    }

    /// Publishes to the default exchange, transient, without properties.
    pub async fn publish_to(&mut self, channel: u16, queue: &str, body: &[u8]) {
        let method = basic::Publish { routing_key: queue.as_bytes(), ..Default::default() };
        self.publish(channel, method, &[0, 0], body).await;
    }

    /// Starts a consumer with this tag.
    pub async fn consume(&mut self, channel: u16, queue: &str, consumer_tag: &str, no_ack: bool) {
        self.send(channel, basic::Consume { queue, consumer_tag, no_ack, ..Default::default() }).await;
        self.expect("basic.consume-ok").await;
    }

    /// Sends a frame with its head and end.
    pub async fn send_frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let mut out = vec![kind];
        out.extend_from_slice(&channel.to_be_bytes());
        out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        out.extend_from_slice(payload);
        out.push(FRAME_END);
        self.send_bytes(&out).await;
    }

    /// Sends bytes as they are; a socket closed by the server is not minded, its words are for `next`.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes).await;
    }

    /// Says no more: the server sees the end of the stream and can still be heard.
    pub async fn end_input(&mut self) {
        let _ = self.socket.shutdown().await;
    }

    /// What comes next; heartbeats included.
    pub async fn next(&mut self) -> Event {
        tokio::time::timeout(HANG, self.read_event()).await.expect("the server says nothing")
    }

    /// What comes next, heartbeats left out.
    pub async fn event(&mut self) -> Event {
        loop {
            match self.next().await {
                Event::Heartbeat => {}
                event => return event,
            }
        }
    }

    /// Waits for a method without content of that name; returns it as `Debug` prints it.
    pub async fn expect(&mut self, expected: &str) -> String {
        match self.event().await {
            Event::Method { name, debug, .. } if name == expected => debug,
            other => panic!("expected {expected}, got {other:?}"),
        }
    }

    /// Waits for channel.close with that code; returns its text.
    pub async fn expect_channel_close(&mut self, expected: u16) -> String {
        match self.event().await {
            Event::ChannelClosed { code, text, .. } if code == expected => text,
            other => panic!("expected channel.close {expected}, got {other:?}"),
        }
    }

    /// Waits for connection.close with that code and for the end of the socket; returns its text.
    pub async fn expect_close(&mut self, expected: u16) -> String {
        let text = match self.event().await {
            Event::Closed { code, text } if code == expected => text,
            other => panic!("expected connection.close {expected}, got {other:?}"),
        };
        assert_eq!(self.event().await, Event::End);
        text
    }

    /// Waits for a delivery; returns its tag, the redelivered flag and the body.
    pub async fn expect_delivery(&mut self) -> (u64, bool, Vec<u8>) {
        match self.event().await {
            Event::Deliver { tag, redelivered, content, .. } => (tag, redelivered, content.body),
            other => panic!("expected a delivery, got {other:?}"),
        }
    }

    /// Shows that nothing was on its way: the next thing that comes is the answer to this question.
    pub async fn expect_nothing(&mut self, channel: u16) {
        self.send(channel, channel::Flow { active: true }).await;
        self.expect("channel.flow-ok").await;
    }

    /// Closes in peace.
    pub async fn close(mut self) {
        self.send(0, connection::Close { reply_code: 200, ..Default::default() }).await;
        self.expect("connection.close-ok").await;
        assert_eq!(self.event().await, Event::End);
    }

    async fn read_event(&mut self) -> Event {
        loop {
            if self.input.starts_with(b"AMQP") {
                self.input.drain(..8);
                return Event::ProtocolHeader;
            }
            if let Some((event, taken)) = parse(&self.input) {
                self.input.drain(..taken);
                self.answer(&event).await;
                return event;
            }
            match self.socket.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return Event::End,
                Ok(_) => {}
            }
        }
    }

    async fn answer(&mut self, event: &Event) {
        match event {
            Event::ChannelClosed { channel, .. } if self.answers_close => {
                self.send(*channel, channel::CloseOk {}).await
            }
            Event::Closed { .. } if self.answers_close => self.send(0, connection::CloseOk {}).await,
            _ => {}
        }
    }
}

/// One event with its content, if all of it is there.
fn parse(input: &[u8]) -> Option<(Event, usize)> {
    let mut reader = FrameReader::new(input, 0);
    let frame = reader.next().unwrap()?;
    let channel = frame.channel;
    if frame.kind == FrameKind::Heartbeat {
        return Some((Event::Heartbeat, reader.consumed()));
    }
    assert_eq!(frame.kind, FrameKind::Method);
    let method = Method::decode(frame.payload).unwrap();
    let content = if method.has_content() { content(&mut reader, channel)? } else { Content::default() };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let event = match method {
        Method::BasicAck(m) => Event::Ack { channel, tag: m.delivery_tag, multiple: m.multiple },
        Method::BasicNack(m) => Event::Nack { channel, tag: m.delivery_tag, multiple: m.multiple },
        Method::BasicDeliver(m) => Event::Deliver {
            channel,
            consumer: m.consumer_tag.into(),
            tag: m.delivery_tag,
            redelivered: m.redelivered,
            key: text(m.routing_key),
            content,
        },
        Method::BasicGetOk(m) => {
            Event::Got { tag: m.delivery_tag, redelivered: m.redelivered, left: m.message_count, content }
        }
        Method::BasicReturn(m) => Event::Returned { code: m.reply_code, key: text(m.routing_key), content },
        Method::ChannelClose(m) => Event::ChannelClosed {
            channel,
            code: m.reply_code,
            text: m.reply_text.into(),
            method: (m.class_id, m.method_id),
        },
        Method::ConnectionClose(m) => Event::Closed { code: m.reply_code, text: m.reply_text.into() },
        other => Event::Method { channel, name: other.name(), debug: format!("{other:?}") },
    };
    Some((event, reader.consumed()))
}

fn content(reader: &mut FrameReader<'_>, channel: u16) -> Option<Content> {
    let header = reader.next().unwrap()?;
    assert_eq!((header.kind, header.channel), (FrameKind::Header, channel));
    let header = ContentHeader::decode(header.payload).unwrap();
    let mut content = Content { properties: header.properties.as_bytes().to_vec(), ..Content::default() };
    while (content.body.len() as u64) < header.body_size_bytes {
        let piece = reader.next().unwrap()?;
        assert_eq!((piece.kind, piece.channel), (FrameKind::Body, channel));
        content.body.extend_from_slice(piece.payload);
        content.body_frames += 1;
    }
    Some(content)
}
