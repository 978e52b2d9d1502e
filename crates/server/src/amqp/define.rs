//! exchange.* and queue.*.

use super::core::Core;
use super::reply::Fault;
use millpond_amqp_codec::{ReplyCode, exchange, queue};
use millpond_broker::{Binding, DeclareExchange, DeclareQueue, Destination};
use millpond_model::{ExchangeName, QueueName};

/// Declared names lose carriage returns and line feeds, as in RabbitMQ (contract D4).
fn stripped(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '\r' | '\n')).collect()
}

impl Core {
    /// The queue of that name; the empty name is the one declared last on the channel.
    pub(super) fn queue_name(&self, number: u16, name: &str) -> Result<QueueName, Fault> {
        if !name.is_empty() {
            return Ok(QueueName::new(name)?);
        }
        self.channels
            .get(number)
            .and_then(|channel| channel.last_queue.clone())
            .ok_or_else(|| Fault::new(ReplyCode::NotFound, "no previously declared queue"))
    }

    pub(super) fn declare_exchange(&mut self, number: u16, m: &exchange::Declare<'_>) -> Result<(), Fault> {
        let durability = self.session.declare_exchange(&DeclareExchange {
            name: ExchangeName::new(&stripped(m.exchange))?,
            kind: m.kind.into(),
            passive: m.passive,
            durable: m.durable,
            auto_delete: m.auto_delete,
            internal: m.internal,
            arguments: m.arguments.to_table(),
        })?;
        self.reply_when(number, durability, m.no_wait, exchange::DeclareOk {});
        Ok(())
    }

    pub(super) fn delete_exchange(&mut self, number: u16, m: &exchange::Delete<'_>) -> Result<(), Fault> {
        let durability =
            self.session.delete_exchange(&ExchangeName::new(&stripped(m.exchange))?, m.if_unused)?;
        self.reply_when(number, durability, m.no_wait, exchange::DeleteOk {});
        Ok(())
    }

    pub(super) fn bind_exchange(&mut self, number: u16, m: &exchange::Bind<'_>) -> Result<(), Fault> {
        let durability = self.session.bind(&Binding {
            source: ExchangeName::new(m.source)?,
            destination: Destination::Exchange(ExchangeName::new(m.destination)?),
            key: m.routing_key.into(),
            arguments: m.arguments.to_table(),
        })?;
        self.reply_when(number, durability, m.no_wait, exchange::BindOk {});
        Ok(())
    }

    pub(super) fn unbind_exchange(&mut self, number: u16, m: &exchange::Unbind<'_>) -> Result<(), Fault> {
        let durability = self.session.unbind(&Binding {
            source: ExchangeName::new(m.source)?,
            destination: Destination::Exchange(ExchangeName::new(m.destination)?),
            key: m.routing_key.into(),
            arguments: m.arguments.to_table(),
        })?;
        self.reply_when(number, durability, m.no_wait, exchange::UnbindOk {});
        Ok(())
    }

    pub(super) fn declare_queue(&mut self, number: u16, m: &queue::Declare<'_>) -> Result<(), Fault> {
        let name = match stripped(m.queue) {
            name if name.is_empty() && m.passive => self.queue_name(number, "")?,
            name => QueueName::new(&name)?,
        };
        let (declared, durability) = self.session.declare_queue(&DeclareQueue {
            name,
            passive: m.passive,
            durable: m.durable,
            exclusive: m.exclusive,
            auto_delete: m.auto_delete,
            arguments: m.arguments.to_table(),
        })?;
        let reply = queue::DeclareOk {
            queue: declared.name.as_str(),
            message_count: count(declared.ready),
            consumer_count: count(declared.consumers),
        };
        self.reply_when(number, durability, m.no_wait, reply);
        if let Some(channel) = self.channels.get_mut(number) {
            channel.last_queue = Some(declared.name);
        }
        Ok(())
    }

    pub(super) fn bind_queue(&mut self, number: u16, m: &queue::Bind<'_>) -> Result<(), Fault> {
        let binding =
            self.queue_binding(number, m.queue, m.exchange, m.routing_key, m.arguments.to_table())?;
        let durability = self.session.bind(&binding)?;
        self.reply_when(number, durability, m.no_wait, queue::BindOk {});
        Ok(())
    }

    pub(super) fn unbind_queue(&mut self, number: u16, m: &queue::Unbind<'_>) -> Result<(), Fault> {
        let binding =
            self.queue_binding(number, m.queue, m.exchange, m.routing_key, m.arguments.to_table())?;
        let durability = self.session.unbind(&binding)?;
        self.reply_when(number, durability, false, queue::UnbindOk {});
        Ok(())
    }

    fn queue_binding(
        &self,
        number: u16,
        queue: &str,
        exchange: &str,
        key: &[u8],
        arguments: millpond_model::table::Table,
    ) -> Result<Binding, Fault> {
        let name = self.queue_name(number, queue)?;
        // Without a queue and without a key, the key is the queue's name too.
        let key = if queue.is_empty() && key.is_empty() { name.as_str().as_bytes() } else { key };
        Ok(Binding {
            source: ExchangeName::new(exchange)?,
            key: key.into(),
            destination: Destination::Queue(name),
            arguments,
        })
    }

    pub(super) fn purge_queue(&mut self, number: u16, m: &queue::Purge<'_>) -> Result<(), Fault> {
        let name = self.queue_name(number, m.queue)?;
        let (purged, durability) = self.session.purge_queue(&name)?;
        self.reply_when(number, durability, m.no_wait, queue::PurgeOk { message_count: count(purged) });
        Ok(())
    }

    pub(super) fn delete_queue(&mut self, number: u16, m: &queue::Delete<'_>) -> Result<(), Fault> {
        let name = self.queue_name(number, m.queue)?;
        let (deleted, durability) = self.session.delete_queue(&name, m.if_unused, m.if_empty)?;
        self.reply_when(number, durability, m.no_wait, queue::DeleteOk { message_count: count(deleted) });
        Ok(())
    }
}

/// Counts have four bytes on the wire.
pub(super) fn count(count: u64) -> u32 {
    count.try_into().unwrap_or(u32::MAX)
}
