//! Definitions as keyed values of the store: our own versioned records, never frames.
//!
//! Keys (`name` below is its length in one byte, then its bytes):
//!
//! ```text
//! x/ vhost:name exchange bytes                                        an exchange
//! q/ vhost:name queue bytes                                           a queue
//! b/ vhost:name source:name kind u8 destination:name key:name args    a binding; kind 0 = queue, 1 = exchange
//! a/ vhost:name queue bytes                                           arguments of a queue altered since it was declared
//! v/ vhost bytes                                                      a vhost; `/` is there without it
//! p/ vhost:name policy bytes                                          a policy
//! o/ vhost:name policy bytes                                          an operator policy
//! u/ user bytes                                                       limits of a user
//! us/ user bytes                                                      a user
//! pe/ vhost:name user bytes                                           what a user may do in a vhost
//! tp/ vhost:name user:name exchange bytes                             what a user may do with a topic exchange
//! m/users                                                             there was a user once
//! d/ queue id u64 | id of a message                                   until when it is remembered, see `queue::dedup`
//! r/ queue id u64                                                     the log of what a queue remembers, see `queue::retained`
//! r/ queue id u64 | number u64                                        acked, and not in that log yet
//! w/ vhost:name exchange bytes                                        the log of an exchange's delayed messages
//! cr/ vhost:name schedule bytes                                      a schedule
//! cs/ vhost:name schedule bytes                                      how far it has come
//! pa/ vhost:name component:name parameter bytes                       a parameter; without a vhost it is the node's
//! m/queue-ids                                                         ids below this u64 may have been given
//! so/ queue id u64, consumer tag bytes                                 where a stream's consumer of that tag goes on
//! app/<room>/...                                                      other rooms' values, not ours
//! ```
//!
//! Values, all integers big-endian:
//!
//! ```text
//! exchange  version=1 u8 | flags u8 (1 auto-delete, 2 internal) | kind:name | args
//! queue     version=1 u8 | flags u8 (1 auto-delete, 4 priorities) | id u64 | priorities | args
//! priorities, if flagged: the highest u8 | of a message that names none u8; its logs have consecutive ids
//! binding   version=1 u8
//! delay     version=1 u8 | id u64
//! retained  version=1 u8 | id u64
//! acked     version=1 u8 | first sequence number u64 | the one behind the last u64
//! altered   version=1 u8 | args; a void value: the argument was taken away
//! vhost     version=1 u8 | connections max i64 | queues max i64 | default queue type:name | description:name
//!           | flags u8 (1 protected) | tags: a name each; earlier versions wrote neither
//! parameter version=1 u8 | JSON
//! policy    version=1 u8 | applies to:name | priority i64 | pattern length u32 | pattern | args: the definition
//! limits    version=1 u8 | connections max i64 | channels max i64; -1: no limit
//! offset    version=1 u8 | offset u64
//! user      version=1 u8 | hash algorithm:name (empty: no password) | hash:name | tags: a name each
//! rights    version=1 u8 | configure, write, read: a pattern each, behind its length u32; of topics write and read
//! schedule  version=1 u8 | missed:name | cron:name | zone:name | exchange:name | key:name
//!           | properties length u32 | properties as a message has them | body
//! its state version=1 u8 | flags u8 (1 paused) | done up to u64 | last moment with a message u64 (0: none); ms
//! ```
//!
//! `args` takes what is left: a table as `millpond_model::table` encodes it. In a binding's key the entries are
//! sorted by name, because arguments are part of a binding's identity whatever their order. Only what is durable is
//! here: durable exchanges, durable queues that are not exclusive, bindings between them and built-in exchanges.

mod access;
mod admin;
mod schedules;

use crate::queue::logs::Priorities;
use crate::request::{Binding, Destination};
pub(crate) use access::*;
pub(crate) use admin::*;
use millpond_model::table::{Table, TableBuf};
use millpond_model::{ExchangeName, QueueName, VhostName};
use millpond_store::QueueId;
pub(crate) use schedules::*;
use std::ops::Range;

const VERSION: u8 = 1;
const AUTO_DELETE: u8 = 1;
const INTERNAL: u8 = 2;
const PRIORITIES: u8 = 4;

/// Prefixes of the keys.
pub(crate) const EXCHANGES: &[u8] = b"x/";
pub(crate) const QUEUES: &[u8] = b"q/";
pub(crate) const BINDINGS: &[u8] = b"b/";
/// Ids of messages that a queue remembers, see `queue::dedup`.
pub(crate) const DEDUP: &[u8] = b"d/";
/// Offsets of consumers of streams.
pub(crate) const STREAM_OFFSETS: &[u8] = b"so/";
pub(crate) const DELAYS: &[u8] = b"w/";
/// Logs of what queues remember, see `queue::retained`.
pub(crate) const RETAINED: &[u8] = b"r/";
/// Where the bound of given queue ids is kept.
pub(crate) const QUEUE_IDS: &[u8] = b"m/queue-ids";

/// A durable exchange.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExchangeDefinition {
    pub(crate) kind: Box<str>,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    pub(crate) arguments: Table,
}

/// A durable queue.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QueueDefinition {
    /// Of its first log; those of further priorities follow.
    pub(crate) id: QueueId,
    pub(crate) auto_delete: bool,
    pub(crate) priorities: Priorities,
    pub(crate) arguments: Table,
}

fn key(prefix: &[u8], vhost: &VhostName) -> Vec<u8> {
    let mut out = Vec::with_capacity(prefix.len() + vhost.as_str().len() + 64);
    out.extend_from_slice(prefix);
    put_name(&mut out, vhost.as_str().as_bytes());
    out
}

pub(crate) fn exchange_key(vhost: &VhostName, exchange: &ExchangeName) -> Vec<u8> {
    let mut out = key(EXCHANGES, vhost);
    out.extend_from_slice(exchange.as_str().as_bytes());
    out
}

pub(crate) fn queue_key(vhost: &VhostName, queue: &QueueName) -> Vec<u8> {
    let mut out = key(QUEUES, vhost);
    out.extend_from_slice(queue.as_str().as_bytes());
    out
}

pub(crate) fn delay_key(vhost: &VhostName, exchange: &ExchangeName) -> Vec<u8> {
    let mut out = key(DELAYS, vhost);
    out.extend_from_slice(exchange.as_str().as_bytes());
    out
}

/// The key of the log of what a queue remembers.
pub(crate) fn retained_key(queue: QueueId) -> Vec<u8> {
    [RETAINED, &queue.0.to_be_bytes()].concat()
}

/// The key of messages that were acked and are to be remembered; numbered in the order of the acks.
pub(crate) fn pending_key(queue: QueueId, number: u64) -> Vec<u8> {
    [RETAINED, &queue.0.to_be_bytes(), &number.to_be_bytes()].concat()
}

/// Sequence numbers.
pub(crate) fn encode_range(seqs: &Range<u64>) -> Vec<u8> {
    [&[VERSION][..], &seqs.start.to_be_bytes(), &seqs.end.to_be_bytes()].concat()
}

pub(crate) fn decode_range(value: &[u8]) -> Result<Range<u64>, String> {
    let mut rest = Reader::of_version(value)?;
    Ok(rest.u64()?..rest.u64()?)
}

/// Splits a key under [`RETAINED`] into the queue and what follows.
pub(crate) fn decode_retained_key(key: &[u8]) -> Result<(QueueId, &[u8]), String> {
    let mut rest = Reader::after(RETAINED, key)?;
    Ok((QueueId(rest.u64()?), rest.0))
}

/// The log of delayed messages.
pub(crate) fn encode_delay(id: QueueId) -> [u8; 9] {
    encode_queue_ids(id.0)
}

pub(crate) fn decode_delay(value: &[u8]) -> Result<QueueId, String> {
    decode_queue_ids(value).map(QueueId)
}

pub(crate) fn binding_key(vhost: &VhostName, binding: &Binding) -> Vec<u8> {
    let mut out = key(BINDINGS, vhost);
    put_name(&mut out, binding.source.as_str().as_bytes());
    let (kind, name) = match &binding.destination {
        Destination::Queue(name) => (0, name.as_str()),
        Destination::Exchange(name) => (1, name.as_str()),
    };
    out.push(kind);
    put_name(&mut out, name.as_bytes());
    put_name(&mut out, &binding.key);
    if !binding.arguments.is_empty() {
        let mut entries: Vec<_> = binding.arguments.iter().cloned().collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        put_table(&mut out, &entries.into_iter().collect());
    }
    out
}

pub(crate) const BINDING_VALUE: &[u8] = &[VERSION];

impl ExchangeDefinition {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, flag(self.auto_delete, AUTO_DELETE) | flag(self.internal, INTERNAL)];
        put_name(&mut out, self.kind.as_bytes());
        put_table(&mut out, &self.arguments);
        out
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, String> {
        let mut rest = Reader::of_version(value)?;
        let flags = rest.flags(AUTO_DELETE | INTERNAL)?;
        Ok(Self {
            auto_delete: flags & AUTO_DELETE != 0,
            internal: flags & INTERNAL != 0,
            kind: rest.text()?.into(),
            arguments: rest.table()?,
        })
    }
}

impl QueueDefinition {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let levels = self.priorities != Priorities::NONE;
        let mut out = vec![VERSION, flag(self.auto_delete, AUTO_DELETE) | flag(levels, PRIORITIES)];
        out.extend_from_slice(&self.id.0.to_be_bytes());
        if levels {
            out.extend_from_slice(&[self.priorities.max, self.priorities.default]);
        }
        put_table(&mut out, &self.arguments);
        out
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, String> {
        let mut rest = Reader::of_version(value)?;
        let flags = rest.flags(AUTO_DELETE | PRIORITIES)?;
        let id = QueueId(rest.u64()?);
        let priorities = if flags & PRIORITIES != 0 {
            Priorities { max: rest.u8()?, default: rest.u8()? }
        } else {
            Priorities::NONE
        };
        Ok(Self { auto_delete: flags & AUTO_DELETE != 0, id, priorities, arguments: rest.table()? })
    }
}

/// Splits the key of an exchange or a queue into vhost and name.
pub(crate) fn decode_name_key<'a>(prefix: &[u8], key: &'a [u8]) -> Result<(VhostName, &'a [u8]), String> {
    let mut rest = Reader::after(prefix, key)?;
    let vhost = VhostName::from_bytes(rest.name()?).map_err(|e| e.to_string())?;
    Ok((vhost, rest.0))
}

/// Reads a binding back from its key.
pub(crate) fn decode_binding(key: &[u8], value: &[u8]) -> Result<(VhostName, Binding), String> {
    Reader::of_version(value)?;
    let mut rest = Reader::after(BINDINGS, key)?;
    let vhost = VhostName::from_bytes(rest.name()?).map_err(|e| e.to_string())?;
    let source = ExchangeName::from_bytes(rest.name()?).map_err(|e| e.to_string())?;
    let kind = rest.u8()?;
    let name = rest.name()?;
    let destination = match kind {
        0 => Destination::Queue(QueueName::from_bytes(name).map_err(|e| e.to_string())?),
        1 => Destination::Exchange(ExchangeName::from_bytes(name).map_err(|e| e.to_string())?),
        other => return Err(format!("destination kind {other} is unknown: a newer version wrote it")),
    };
    let key = rest.name()?.into();
    Ok((vhost, Binding { source, destination, key, arguments: rest.table()? }))
}

/// The bound of given queue ids.
pub(crate) fn encode_queue_ids(bound: u64) -> [u8; 9] {
    let mut out = [VERSION; 9];
    out[1..].copy_from_slice(&bound.to_be_bytes());
    out
}

pub(crate) fn decode_queue_ids(value: &[u8]) -> Result<u64, String> {
    Reader::of_version(value)?.u64()
}

/// The key of the place of a stream's consumer.
pub(crate) fn stream_offset_key(stream: QueueId, consumer: &str) -> Vec<u8> {
    let mut out = STREAM_OFFSETS.to_vec();
    out.extend_from_slice(&stream.0.to_be_bytes());
    out.extend_from_slice(consumer.as_bytes());
    out
}

/// The place of a stream's consumer: the offset it goes on with.
pub(crate) fn stream_offset_value(offset: u64) -> [u8; 9] {
    encode_queue_ids(offset)
}

/// Reads the place of a stream's consumer back: which stream's, whose, the offset.
pub(crate) fn decode_stream_offset(key: &[u8], value: &[u8]) -> Result<(QueueId, Box<str>, u64), String> {
    let mut rest = Reader::after(STREAM_OFFSETS, key)?;
    let stream = QueueId(rest.u64()?);
    let consumer = std::str::from_utf8(rest.0).map_err(|e| e.to_string())?;
    Ok((stream, consumer.into(), Reader::of_version(value)?.u64()?))
}

fn flag(on: bool, bit: u8) -> u8 {
    if on { bit } else { 0 }
}

/// Names have at most 255 bytes; a binding key likewise.
fn put_name(out: &mut Vec<u8>, name: &[u8]) {
    let name = &name[..name.len().min(255)];
    out.push(name.len() as u8);
    out.extend_from_slice(name);
}

/// A table off the wire always has an encoding; one that a program made too deep is kept without its entries.
fn put_table(out: &mut Vec<u8>, table: &Table) {
    if !table.is_empty() {
        out.extend_from_slice(table.encode().unwrap_or_else(|_| TableBuf::new()).as_bytes());
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn of_version(value: &'a [u8]) -> Result<Self, String> {
        let mut rest = Self(value);
        match rest.u8()? {
            VERSION => Ok(rest),
            other => {
                Err(format!("its version is {other}, this program knows {VERSION}: use a newer Millpond"))
            }
        }
    }

    fn after(prefix: &[u8], key: &'a [u8]) -> Result<Self, String> {
        key.strip_prefix(prefix).map(Self).ok_or_else(|| "its key has another prefix".to_owned())
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self.0.split_at_checked(len).ok_or("it ends inside a field")?;
        self.0 = rest;
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn u64(&mut self) -> Result<u64, String> {
        let bytes = self.take(8)?;
        Ok(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn flags(&mut self, known: u8) -> Result<u8, String> {
        let flags = self.u8()?;
        if flags & !known != 0 {
            return Err(format!("its flags {flags:#04x} are not all known: a newer version wrote it"));
        }
        Ok(flags)
    }

    fn name(&mut self) -> Result<&'a [u8], String> {
        let len = self.u8()?;
        self.take(len as usize)
    }

    fn text(&mut self) -> Result<&'a str, String> {
        std::str::from_utf8(self.name()?).map_err(|_| "a name in it is not UTF-8".to_owned())
    }

    fn table(&mut self) -> Result<Table, String> {
        Table::decode(std::mem::take(&mut self.0)).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_read_back_as_they_were_written() {
        let arguments: Table = [("x-max-length", 5)].into_iter().collect();
        let exchange = ExchangeDefinition {
            kind: "topic".into(),
            auto_delete: true,
            internal: true,
            arguments: arguments.clone(),
        };
        assert_eq!(ExchangeDefinition::decode(&exchange.encode()), Ok(exchange));
        let queue = QueueDefinition {
            id: QueueId(u64::MAX - 3),
            auto_delete: false,
            priorities: Priorities { max: 9, default: 0 },
            arguments,
        };
        assert_eq!(QueueDefinition::decode(&queue.encode()), Ok(queue));
        assert_eq!(decode_queue_ids(&encode_queue_ids(77)), Ok(77));
    }

    #[test]
    fn bindings_are_the_same_whatever_the_order_of_their_arguments() {
        let vhost = VhostName::new("a/b").unwrap();
        let make = |names: [&str; 2]| Binding {
            source: ExchangeName::new("amq.headers").unwrap(),
            destination: Destination::Queue(QueueName::new("q").unwrap()),
            key: b"\xff.key"[..].into(),
            arguments: names.iter().map(|name| (*name, 1)).collect(),
        };
        let key = binding_key(&vhost, &make(["b", "a"]));
        assert_eq!(key, binding_key(&vhost, &make(["a", "b"])));
        let (found_vhost, found) = decode_binding(&key, BINDING_VALUE).unwrap();
        assert_eq!(found_vhost, vhost);
        assert_eq!(binding_key(&vhost, &found), key);
    }

    #[test]
    fn every_cut_of_a_definition_is_an_error_or_a_shorter_table() {
        let queue = QueueDefinition {
            id: QueueId(1),
            priorities: Priorities::NONE,
            auto_delete: true,
            arguments: [("x-a", 1)].into_iter().collect(),
        };
        let whole = queue.encode();
        for end in 0..whole.len() {
            if let Ok(read) = QueueDefinition::decode(&whole[..end]) {
                assert_eq!(end, 10, "only the empty table may follow the id");
                assert!(read.arguments.is_empty());
            }
        }
        assert!(QueueDefinition::decode(&[2, 0]).unwrap_err().contains("version is 2"));
    }
}
