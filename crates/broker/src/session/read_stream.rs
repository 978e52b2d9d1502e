//! Consuming from a stream (contract A13).

use super::consume::shown;
use super::{Consumer, Session};
use crate::error::{ConsumeError, QueueError};
use crate::queue::QueueCell;
use crate::request::{ConsumeRequest, ConsumerId};
use crate::stream::arguments::ReaderSettings;
use crate::stream::{NewReader, ReaderRefused, StreamRoom};
use std::sync::Arc;

impl Session {
    /// Starts a consumer of a stream.
    pub(super) fn read_stream(
        &mut self,
        request: ConsumeRequest,
        cell: &Arc<QueueCell>,
        stream: &Arc<StreamRoom>,
    ) -> Result<ConsumerId, ConsumeError> {
        if request.no_ack {
            return Err(self.not_for_streams(cell, "automatic acknowledgement").into());
        }
        if request.prefetch_shared {
            return Err(self.not_for_streams(cell, "global qos").into());
        }
        if request.prefetch == 0 {
            return Err(ConsumeError::NoPrefetch { queue: request.queue, vhost: self.vhost.name.clone() });
        }
        let now_ms = self.core.options.clock.now_ms();
        let settings = ReaderSettings::parse(&request.arguments, now_ms)
            .map_err(|bad| bad_argument(bad.argument, bad.reason))?;
        let new = NewReader {
            owner: self.owner,
            prefetch: request.prefetch,
            shown: shown(&request),
            inbox: self.inbox.clone(),
            cookie: request.cookie,
            queue: self.queues.reader_number(cell, self.owner),
            settings,
        };
        let added = self.core.work(|work| stream.add_reader(cell, new, work));
        let key = added.map_err(|refused| match refused {
            ReaderRefused::Deleted => ConsumeError::Queue(self.missing(&request.queue)),
            ReaderRefused::ExclusiveUse => {
                ConsumeError::ExclusiveUse { queue: request.queue, vhost: self.vhost.name.clone() }
            }
            ReaderRefused::NotTracked { reason } => {
                bad_argument("x-stream-automatic-offset-tracking", reason)
            }
        })?;
        self.next_consumer += 1;
        self.consumers.insert(self.next_consumer, Consumer { cell: cell.clone(), key, no_ack: false });
        Ok(ConsumerId(self.next_consumer))
    }

    /// Refuses for streams what takes messages away.
    pub(super) fn check_not_stream(&self, cell: &QueueCell, what: &'static str) -> Result<(), QueueError> {
        if cell.stream().is_some() { Err(self.not_for_streams(cell, what)) } else { Ok(()) }
    }

    fn not_for_streams(&self, cell: &QueueCell, what: &'static str) -> QueueError {
        QueueError::NotForStreams { queue: cell.spec().name.clone(), vhost: self.vhost.name.clone(), what }
    }
}

fn bad_argument(argument: &str, reason: String) -> ConsumeError {
    ConsumeError::BadArgument { argument: argument.to_owned(), reason }
}
