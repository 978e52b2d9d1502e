//! All methods of AMQP 0-9-1 and of RabbitMQ's extensions, as a table.
//!
//! Names of exchanges and routing keys that travel with a message are bytes (checked UTF-8), because that is how
//! messages keep them; all other names are text.

use crate::method::{Arguments, MethodError, Sender, encode_frame, methods};
use crate::wire::{Reader, Sink, Writer};
use millpond_model::table::RawTable;

methods! { 'a
    /// Class 10: the connection itself, on channel 0.
    connection = 10 {
        /// Opens the negotiation.
        Start<'a> = 10, ConnectionStart, "connection.start", Server {
            version_major: u8 [octet], version_minor: u8 [octet], server_properties: RawTable<'a> [table],
            mechanisms: &'a [u8] [longstr], locales: &'a [u8] [longstr],
        }
        /// Chooses a SASL mechanism and answers it.
        StartOk<'a> = 11, ConnectionStartOk, "connection.start-ok", Client {
            client_properties: RawTable<'a> [table], mechanism: &'a str [shortstr],
            response: &'a [u8] [longstr], locale: &'a str [shortstr],
        }
        /// A further SASL challenge.
        Secure<'a> = 20, ConnectionSecure, "connection.secure", Server { challenge: &'a [u8] [longstr] }
        /// The answer to it.
        SecureOk<'a> = 21, ConnectionSecureOk, "connection.secure-ok", Client { response: &'a [u8] [longstr] }
        /// Offers limits: frame_max in bytes, heartbeat in seconds, 0 for none.
        Tune = 30, ConnectionTune, "connection.tune", Server {
            channel_max: u16 [short], frame_max: u32 [long], heartbeat: u16 [short],
        }
        /// Settles them.
        TuneOk = 31, ConnectionTuneOk, "connection.tune-ok", Client {
            channel_max: u16 [short], frame_max: u32 [long], heartbeat: u16 [short],
        }
        /// Chooses a vhost.
        Open<'a> = 40, ConnectionOpen, "connection.open", Client {
            virtual_host: &'a str [shortstr], capabilities: &'a str [shortstr], insist: bool [bit],
        }
        /// The connection is open.
        OpenOk<'a> = 41, ConnectionOpenOk, "connection.open-ok", Server { known_hosts: &'a str [shortstr] }
        /// Ends the connection; class and method name what caused it, or are 0.
        Close<'a> = 50, ConnectionClose, "connection.close", Both {
            reply_code: u16 [short], reply_text: &'a str [shortstr], class_id: u16 [short], method_id: u16 [short],
        }
        /// Confirms the end.
        CloseOk = 51, ConnectionCloseOk, "connection.close-ok", Both {}
        /// RabbitMQ: publishing is suspended.
        Blocked<'a> = 60, ConnectionBlocked, "connection.blocked", Server { reason: &'a str [shortstr] }
        /// RabbitMQ: publishing goes on.
        Unblocked = 61, ConnectionUnblocked, "connection.unblocked", Server {}
        /// RabbitMQ: new credentials.
        UpdateSecret<'a> = 70, ConnectionUpdateSecret, "connection.update-secret", Client {
            new_secret: &'a [u8] [longstr], reason: &'a str [shortstr],
        }
        /// They are accepted.
        UpdateSecretOk = 71, ConnectionUpdateSecretOk, "connection.update-secret-ok", Server {}
    }

    /// Class 20: channels.
    channel = 20 {
        /// Opens the channel it comes on.
        Open<'a> = 10, ChannelOpen, "channel.open", Client { out_of_band: &'a str [shortstr] }
        /// The channel is open.
        OpenOk<'a> = 11, ChannelOpenOk, "channel.open-ok", Server { channel_id: &'a [u8] [longstr] }
        /// Suspends or resumes content.
        Flow = 20, ChannelFlow, "channel.flow", Both { active: bool [bit] }
        /// Done so.
        FlowOk = 21, ChannelFlowOk, "channel.flow-ok", Both { active: bool [bit] }
        /// Ends the channel; class and method name what caused it, or are 0.
        Close<'a> = 40, ChannelClose, "channel.close", Both {
            reply_code: u16 [short], reply_text: &'a str [shortstr], class_id: u16 [short], method_id: u16 [short],
        }
        /// Confirms the end.
        CloseOk = 41, ChannelCloseOk, "channel.close-ok", Both {}
    }

    /// Class 30: access tickets, a relic of 0-8 that old clients still ask for.
    access = 30 {
        /// Asks for a ticket.
        Request<'a> = 10, AccessRequest, "access.request", Client {
            realm: &'a str [shortstr], exclusive: bool [bit], passive: bool [bit], active: bool [bit],
            write: bool [bit], read: bool [bit],
        }
        /// Grants it; RabbitMQ's is always 1.
        RequestOk = 11, AccessRequestOk, "access.request-ok", Server { ticket: u16 [short] }
    }

    /// Class 40: exchanges.
    exchange = 40 {
        /// Creates an exchange, or checks that it is as given.
        Declare<'a> = 10, ExchangeDeclare, "exchange.declare", Client {
            ticket: u16 [short], exchange: &'a str [shortstr], kind: &'a str [shortstr], passive: bool [bit],
            durable: bool [bit], auto_delete: bool [bit], internal: bool [bit], no_wait: bool [bit],
            arguments: RawTable<'a> [table],
        }
        /// It is there.
        DeclareOk = 11, ExchangeDeclareOk, "exchange.declare-ok", Server {}
        /// Deletes an exchange.
        Delete<'a> = 20, ExchangeDelete, "exchange.delete", Client {
            ticket: u16 [short], exchange: &'a str [shortstr], if_unused: bool [bit], no_wait: bool [bit],
        }
        /// It is gone.
        DeleteOk = 21, ExchangeDeleteOk, "exchange.delete-ok", Server {}
        /// RabbitMQ: binds an exchange to an exchange.
        Bind<'a> = 30, ExchangeBind, "exchange.bind", Client {
            ticket: u16 [short], destination: &'a str [shortstr], source: &'a str [shortstr],
            routing_key: &'a [u8] [shortbytes], no_wait: bool [bit], arguments: RawTable<'a> [table],
        }
        /// Bound.
        BindOk = 31, ExchangeBindOk, "exchange.bind-ok", Server {}
        /// RabbitMQ: takes such a binding back.
        Unbind<'a> = 40, ExchangeUnbind, "exchange.unbind", Client {
            ticket: u16 [short], destination: &'a str [shortstr], source: &'a str [shortstr],
            routing_key: &'a [u8] [shortbytes], no_wait: bool [bit], arguments: RawTable<'a> [table],
        }
        /// Unbound; the number is 51, not 41.
        UnbindOk = 51, ExchangeUnbindOk, "exchange.unbind-ok", Server {}
    }

    /// Class 50: queues.
    queue = 50 {
        /// Creates a queue, or checks that it is as given; an empty name asks for one by the server.
        Declare<'a> = 10, QueueDeclare, "queue.declare", Client {
            ticket: u16 [short], queue: &'a str [shortstr], passive: bool [bit], durable: bool [bit],
            exclusive: bool [bit], auto_delete: bool [bit], no_wait: bool [bit], arguments: RawTable<'a> [table],
        }
        /// It is there, with so many ready messages and consumers.
        DeclareOk<'a> = 11, QueueDeclareOk, "queue.declare-ok", Server {
            queue: &'a str [shortstr], message_count: u32 [long], consumer_count: u32 [long],
        }
        /// Binds a queue to an exchange.
        Bind<'a> = 20, QueueBind, "queue.bind", Client {
            ticket: u16 [short], queue: &'a str [shortstr], exchange: &'a str [shortstr],
            routing_key: &'a [u8] [shortbytes], no_wait: bool [bit], arguments: RawTable<'a> [table],
        }
        /// Bound.
        BindOk = 21, QueueBindOk, "queue.bind-ok", Server {}
        /// Drops the ready messages.
        Purge<'a> = 30, QueuePurge, "queue.purge", Client {
            ticket: u16 [short], queue: &'a str [shortstr], no_wait: bool [bit],
        }
        /// So many were dropped.
        PurgeOk = 31, QueuePurgeOk, "queue.purge-ok", Server { message_count: u32 [long] }
        /// Deletes a queue.
        Delete<'a> = 40, QueueDelete, "queue.delete", Client {
            ticket: u16 [short], queue: &'a str [shortstr], if_unused: bool [bit], if_empty: bool [bit],
            no_wait: bool [bit],
        }
        /// It is gone, with so many messages.
        DeleteOk = 41, QueueDeleteOk, "queue.delete-ok", Server { message_count: u32 [long] }
        /// Takes a binding back; there is no no-wait here.
        Unbind<'a> = 50, QueueUnbind, "queue.unbind", Client {
            ticket: u16 [short], queue: &'a str [shortstr], exchange: &'a str [shortstr],
            routing_key: &'a [u8] [shortbytes], arguments: RawTable<'a> [table],
        }
        /// Unbound.
        UnbindOk = 51, QueueUnbindOk, "queue.unbind-ok", Server {}
    }

    /// Class 60: messages.
    basic = 60 {
        /// Limits what is unacknowledged.
        Qos = 10, BasicQos, "basic.qos", Client {
            prefetch_size: u32 [long], prefetch_count: u16 [short], global: bool [bit],
        }
        /// Done so.
        QosOk = 11, BasicQosOk, "basic.qos-ok", Server {}
        /// Starts a consumer; an empty tag asks for one by the server.
        Consume<'a> = 20, BasicConsume, "basic.consume", Client {
            ticket: u16 [short], queue: &'a str [shortstr], consumer_tag: &'a str [shortstr], no_local: bool [bit],
            no_ack: bool [bit], exclusive: bool [bit], no_wait: bool [bit], arguments: RawTable<'a> [table],
        }
        /// It runs.
        ConsumeOk<'a> = 21, BasicConsumeOk, "basic.consume-ok", Server { consumer_tag: &'a str [shortstr] }
        /// Ends a consumer; from the server (RabbitMQ): it was ended.
        Cancel<'a> = 30, BasicCancel, "basic.cancel", Both { consumer_tag: &'a str [shortstr], no_wait: bool [bit] }
        /// It is ended.
        CancelOk<'a> = 31, BasicCancelOk, "basic.cancel-ok", Both { consumer_tag: &'a str [shortstr] }
        /// Publishes the content that follows.
        Publish<'a> = 40, BasicPublish, "basic.publish", Client {
            ticket: u16 [short], exchange: &'a [u8] [shortbytes], routing_key: &'a [u8] [shortbytes],
            mandatory: bool [bit], immediate: bool [bit],
        }
        /// Gives a message back that could not be routed; content follows.
        Return<'a> = 50, BasicReturn, "basic.return", Server {
            reply_code: u16 [short], reply_text: &'a str [shortstr], exchange: &'a [u8] [shortbytes],
            routing_key: &'a [u8] [shortbytes],
        }
        /// Hands a message to a consumer; content follows.
        Deliver<'a> = 60, BasicDeliver, "basic.deliver", Server {
            consumer_tag: &'a str [shortstr], delivery_tag: u64 [longlong], redelivered: bool [bit],
            exchange: &'a [u8] [shortbytes], routing_key: &'a [u8] [shortbytes],
        }
        /// Asks for one message.
        Get<'a> = 70, BasicGet, "basic.get", Client {
            ticket: u16 [short], queue: &'a str [shortstr], no_ack: bool [bit],
        }
        /// Here it is, and so many are left; content follows.
        GetOk<'a> = 71, BasicGetOk, "basic.get-ok", Server {
            delivery_tag: u64 [longlong], redelivered: bool [bit], exchange: &'a [u8] [shortbytes],
            routing_key: &'a [u8] [shortbytes], message_count: u32 [long],
        }
        /// There is none.
        GetEmpty<'a> = 72, BasicGetEmpty, "basic.get-empty", Server { cluster_id: &'a str [shortstr] }
        /// Settles deliveries; from the server (RabbitMQ): confirms publishes.
        Ack = 80, BasicAck, "basic.ack", Both { delivery_tag: u64 [longlong], multiple: bool [bit] }
        /// Refuses one delivery.
        Reject = 90, BasicReject, "basic.reject", Client { delivery_tag: u64 [longlong], requeue: bool [bit] }
        /// Recover without an answer, deprecated.
        RecoverAsync = 100, BasicRecoverAsync, "basic.recover-async", Client { requeue: bool [bit] }
        /// Asks for all unacknowledged messages again.
        Recover = 110, BasicRecover, "basic.recover", Client { requeue: bool [bit] }
        /// They are on their way.
        RecoverOk = 111, BasicRecoverOk, "basic.recover-ok", Server {}
        /// RabbitMQ: refuses deliveries; from the server: a publish failed.
        Nack = 120, BasicNack, "basic.nack", Both {
            delivery_tag: u64 [longlong], multiple: bool [bit], requeue: bool [bit],
        }
    }

    /// Class 85: publisher confirms, RabbitMQ's.
    confirm = 85 {
        /// Asks for confirms on this channel.
        Select = 10, ConfirmSelect, "confirm.select", Client { no_wait: bool [bit] }
        /// They will come.
        SelectOk = 11, ConfirmSelectOk, "confirm.select-ok", Server {}
    }

    /// Class 90: transactions.
    tx = 90 {
        /// Makes the channel transactional.
        Select = 10, TxSelect, "tx.select", Client {}
        /// It is.
        SelectOk = 11, TxSelectOk, "tx.select-ok", Server {}
        /// Commits publishes and acks.
        Commit = 20, TxCommit, "tx.commit", Client {}
        /// Committed.
        CommitOk = 21, TxCommitOk, "tx.commit-ok", Server {}
        /// Drops them.
        Rollback = 30, TxRollback, "tx.rollback", Client {}
        /// Dropped.
        RollbackOk = 31, TxRollbackOk, "tx.rollback-ok", Server {}
    }
}

impl Method<'_> {
    /// Whether a content header and body follow.
    pub fn has_content(&self) -> bool {
        matches!(
            self,
            Self::BasicPublish(_) | Self::BasicReturn(_) | Self::BasicDeliver(_) | Self::BasicGetOk(_)
        )
    }
}

impl<'a> basic::Publish<'a> {
    /// The short way for the method that comes most: `Some` if the payload is a well-formed basic.publish. Anything
    /// else, a malformed one included, is for [`Method::decode`].
    #[inline]
    pub fn from_payload(payload: &'a [u8]) -> Option<Self> {
        let (&[0, 60, 0, 40], arguments) = payload.split_first_chunk::<4>()? else { return None };
        Self::decode(arguments).ok()
    }
}

impl basic::Ack {
    /// As [`basic::Publish::from_payload`], for basic.ack.
    #[inline]
    pub fn from_payload(payload: &[u8]) -> Option<Self> {
        let (&[0, 60, 0, 80], arguments) = payload.split_first_chunk::<4>()? else { return None };
        Self::decode(arguments).ok()
    }
}
