//! Alarms on a connection (contract C11): who publishes while one is set is told so and not read from, until it is
//! clear or so old that publishes are refused. Who only consumes notices nothing.

use super::core::Core;
use millpond_amqp_codec::connection;
use millpond_broker::AlarmLevel;
use std::task::Context;

impl Core {
    /// Publishes were handed over: while an alarm is set, they were the last ones.
    #[inline]
    pub(super) fn note_published(&mut self) {
        if !self.is_blocked && self.session.alarm_level() != AlarmLevel::Clear {
            self.block();
        }
    }

    #[cold]
    fn block(&mut self) {
        self.is_blocked = true;
        let reason = self.session.alarm_reason();
        tracing::info!(connection = %self.name, %reason, "publisher blocked");
        if self.capabilities.connection_blocked {
            self.reply(0, connection::Blocked { reason: &reason });
        }
    }

    /// Whether input has to wait because of an alarm; sends connection.unblocked when it is over.
    #[inline]
    pub(super) fn waits_for_alarm(&mut self, cx: &mut Context<'_>) -> bool {
        self.is_blocked && self.is_still_blocked(cx)
    }

    #[cold]
    fn is_still_blocked(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            let level = self.session.alarm_level();
            if level == AlarmLevel::Clear {
                break;
            }
            // While publishes are refused the end is waited for too, to be told.
            if self.session.poll_alarm(level, cx).is_pending() {
                return level == AlarmLevel::Blocking;
            }
        }
        self.is_blocked = false;
        tracing::info!(connection = %self.name, "publisher unblocked");
        if self.capabilities.connection_blocked {
            self.reply(0, connection::Unblocked {});
        }
        false
    }
}
