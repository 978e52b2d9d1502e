//! Calls: a method, and the wait for its answer. What else comes meanwhile is kept for [`Connection::next`].

use crate::connection::{Call, ChannelId, ChannelState, Connection, short};
use crate::error::ClientError;
use crate::event::Got;
use crate::incoming::Reply;
use millpond_amqp_codec::{Method, basic, channel, confirm, exchange, queue};
use millpond_model::table::{Table, TableBuf};
use std::future::poll_fn;

/// How a queue is declared.
#[derive(Debug, Clone, Default)]
pub struct QueueOptions {
    /// Only ask whether it exists.
    pub passive: bool,
    /// Survives a restart.
    pub durable: bool,
    /// Belongs to this connection and goes with it.
    pub exclusive: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// `x-...`
    pub arguments: Table,
}

/// How an exchange is declared.
#[derive(Debug, Clone, Default)]
pub struct ExchangeOptions {
    /// Only ask whether it exists.
    pub passive: bool,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last binding.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// `alternate-exchange`...
    pub arguments: Table,
}

/// What queue.declare answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDeclared {
    /// Its name, given or made by the broker.
    pub name: String,
    /// Ready messages.
    pub messages: u32,
    /// Its consumers.
    pub consumers: u32,
}

/// How a consumer is started.
#[derive(Debug, Clone, Default)]
pub struct Consume {
    /// Its tag; empty: the broker makes one.
    pub consumer_tag: String,
    /// Deliveries are settled when they are sent.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// `x-priority`...
    pub arguments: Table,
}

impl Connection {
    /// Sends all that is in the buffer and this method, and waits for one of these answers.
    pub(crate) async fn call<'a>(
        &mut self,
        channel: u16,
        method: impl Into<Method<'a>>,
        wanted: &[&'static str],
    ) -> Result<Reply, ClientError> {
        if let Some(Call { method, .. }) = self.call {
            return Err(ClientError::Confused { method });
        }
        let method = method.into();
        let name = method.name();
        self.put(channel, method);
        self.call = Some(Call { channel, method: name });
        let timeout = self.options.call_timeout;
        let reply = tokio::time::timeout(timeout, self.reply()).await;
        let reply = reply.map_err(|_| ClientError::TimedOut { method: name, timeout })??;
        self.call = None;
        match reply {
            Ok(reply) if wanted.contains(&reply.name()) => Ok(reply),
            Ok(reply) => Err(ClientError::Unexpected { what: reply.name(), channel }),
            Err((code, text)) => Err(ClientError::ChannelClosed { code, text }),
        }
    }

    async fn reply(&mut self) -> Result<Result<Reply, (u16, String)>, ClientError> {
        loop {
            if let Some(reply) = self.reply.take() {
                return Ok(reply);
            }
            poll_fn(|cx| self.poll_progress(cx)).await?;
        }
    }

    /// A call on an open channel.
    async fn call_on<'a>(
        &mut self,
        channel: ChannelId,
        method: impl Into<Method<'a>>,
        wanted: &[&'static str],
    ) -> Result<Reply, ClientError> {
        self.open_channel_state(channel)?;
        self.call(channel.0, method, wanted).await
    }

    /// Opens a channel: the lowest number that is free.
    pub async fn open_channel(&mut self) -> Result<ChannelId, ClientError> {
        let channels_max = self.limits.channels_max;
        let free = (1..=channels_max).find(|number| !self.channels.contains_key(number));
        let number = free.ok_or(ClientError::ChannelsUsedUp { channels_max })?;
        // Before the answer: the broker may close it instead.
        self.channels.insert(number, ChannelState::default());
        match self.call(number, channel::Open::default(), &["channel.open-ok"]).await {
            Ok(_) => Ok(ChannelId(number)),
            Err(error) => {
                self.channels.remove(&number);
                Err(error)
            }
        }
    }

    /// Closes a channel; what its consumers have not settled is ready again.
    pub async fn close_channel(&mut self, channel: ChannelId) -> Result<(), ClientError> {
        let close = channel::Close { reply_code: 200, ..channel::Close::default() };
        self.call_on(channel, close, &["channel.close-ok"]).await?;
        self.channels.remove(&channel.0);
        Ok(())
    }

    /// Has the broker confirm each publish on this channel from now on.
    pub async fn confirm_select(&mut self, channel: ChannelId) -> Result<(), ClientError> {
        self.call_on(channel, confirm::Select { no_wait: false }, &["confirm.select-ok"]).await?;
        let state = self.open_channel_state(channel)?;
        state.next_tag = state.next_tag.max(1);
        Ok(())
    }

    /// How many unsettled deliveries each later consumer of this channel may have; 0: no limit.
    pub async fn qos(&mut self, channel: ChannelId, prefetch: u16) -> Result<(), ClientError> {
        let qos = basic::Qos { prefetch_count: prefetch, ..basic::Qos::default() };
        self.call_on(channel, qos, &["basic.qos-ok"]).await.map(drop)
    }

    /// Declares a queue, or asks whether it is there.
    pub async fn declare_queue(
        &mut self,
        channel: ChannelId,
        name: &str,
        options: &QueueOptions,
    ) -> Result<QueueDeclared, ClientError> {
        short("a queue's name", name.as_bytes())?;
        let arguments = arguments(&options.arguments)?;
        let declare = queue::Declare {
            queue: name,
            passive: options.passive,
            durable: options.durable,
            exclusive: options.exclusive,
            auto_delete: options.auto_delete,
            arguments: arguments.as_raw(),
            ..queue::Declare::default()
        };
        match self.call_on(channel, declare, &["queue.declare-ok"]).await? {
            Reply::QueueDeclared { queue, messages, consumers } => {
                Ok(QueueDeclared { name: queue, messages, consumers })
            }
            other => Err(ClientError::Unexpected { what: other.name(), channel: channel.0 }),
        }
    }

    /// Deletes a queue; how many messages went with it. One that is not there is fine.
    pub async fn delete_queue(&mut self, channel: ChannelId, name: &str) -> Result<u32, ClientError> {
        short("a queue's name", name.as_bytes())?;
        let delete = queue::Delete { queue: name, ..queue::Delete::default() };
        self.count(channel, delete, "queue.delete-ok").await
    }

    /// Drops the ready messages of a queue; how many.
    pub async fn purge_queue(&mut self, channel: ChannelId, name: &str) -> Result<u32, ClientError> {
        short("a queue's name", name.as_bytes())?;
        self.count(channel, queue::Purge { queue: name, ..queue::Purge::default() }, "queue.purge-ok").await
    }

    async fn count<'a>(
        &mut self,
        channel: ChannelId,
        method: impl Into<Method<'a>>,
        wanted: &'static str,
    ) -> Result<u32, ClientError> {
        match self.call_on(channel, method, &[wanted]).await? {
            Reply::Count(_, count) => Ok(count),
            other => Err(ClientError::Unexpected { what: other.name(), channel: channel.0 }),
        }
    }

    /// Declares an exchange of this type, or asks whether it is there.
    pub async fn declare_exchange(
        &mut self,
        channel: ChannelId,
        name: &str,
        kind: &str,
        options: &ExchangeOptions,
    ) -> Result<(), ClientError> {
        short("an exchange's name", name.as_bytes())?;
        short("an exchange's type", kind.as_bytes())?;
        let arguments = arguments(&options.arguments)?;
        let declare = exchange::Declare {
            exchange: name,
            kind,
            passive: options.passive,
            durable: options.durable,
            auto_delete: options.auto_delete,
            internal: options.internal,
            arguments: arguments.as_raw(),
            ..exchange::Declare::default()
        };
        self.call_on(channel, declare, &["exchange.declare-ok"]).await.map(drop)
    }

    /// Deletes an exchange. One that is not there is fine.
    pub async fn delete_exchange(&mut self, channel: ChannelId, name: &str) -> Result<(), ClientError> {
        short("an exchange's name", name.as_bytes())?;
        let delete = exchange::Delete { exchange: name, ..exchange::Delete::default() };
        self.call_on(channel, delete, &["exchange.delete-ok"]).await.map(drop)
    }

    /// Binds a queue to an exchange.
    pub async fn bind_queue(
        &mut self,
        channel: ChannelId,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        with: &Table,
    ) -> Result<(), ClientError> {
        for (what, text) in
            [("a queue's name", queue), ("an exchange's name", exchange), ("a routing key", routing_key)]
        {
            short(what, text.as_bytes())?;
        }
        let arguments = arguments(with)?;
        let bind = queue::Bind {
            queue,
            exchange,
            routing_key: routing_key.as_bytes(),
            arguments: arguments.as_raw(),
            ..queue::Bind::default()
        };
        self.call_on(channel, bind, &["queue.bind-ok"]).await.map(drop)
    }

    /// Starts a consumer; its tag. Deliveries come as events.
    pub async fn consume(
        &mut self,
        channel: ChannelId,
        queue: &str,
        options: &Consume,
    ) -> Result<String, ClientError> {
        short("a queue's name", queue.as_bytes())?;
        short("a consumer's tag", options.consumer_tag.as_bytes())?;
        let arguments = arguments(&options.arguments)?;
        let consume = basic::Consume {
            queue,
            consumer_tag: &options.consumer_tag,
            no_ack: options.no_ack,
            exclusive: options.exclusive,
            arguments: arguments.as_raw(),
            ..basic::Consume::default()
        };
        self.tag(channel, consume, "basic.consume-ok").await
    }

    /// Ends a consumer. What came before the answer is still to be taken and settled.
    pub async fn cancel(&mut self, channel: ChannelId, consumer_tag: &str) -> Result<(), ClientError> {
        short("a consumer's tag", consumer_tag.as_bytes())?;
        self.tag(channel, basic::Cancel { consumer_tag, no_wait: false }, "basic.cancel-ok").await.map(drop)
    }

    async fn tag<'a>(
        &mut self,
        channel: ChannelId,
        method: impl Into<Method<'a>>,
        wanted: &'static str,
    ) -> Result<String, ClientError> {
        match self.call_on(channel, method, &[wanted]).await? {
            Reply::ConsumerTag(_, tag) => Ok(tag),
            other => Err(ClientError::Unexpected { what: other.name(), channel: channel.0 }),
        }
    }

    /// Takes one message; `None`: there is none.
    pub async fn get(
        &mut self,
        channel: ChannelId,
        queue: &str,
        no_ack: bool,
    ) -> Result<Option<Got>, ClientError> {
        short("a queue's name", queue.as_bytes())?;
        let get = basic::Get { queue, no_ack, ..basic::Get::default() };
        match self.call_on(channel, get, &["basic.get-ok", "basic.get-empty"]).await? {
            Reply::Got(got) => Ok(Some(*got)),
            _ => Ok(None),
        }
    }
}

fn arguments(table: &Table) -> Result<TableBuf, ClientError> {
    let encoding = |error: millpond_model::table::TableError| ClientError::Encoding {
        what: "the arguments",
        reason: error.to_string(),
    };
    table.encode().map_err(encoding)
}
