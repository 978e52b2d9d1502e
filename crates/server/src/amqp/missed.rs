//! Publishes that were to take back delayed messages and found none: they are returned if they are mandatory.

use super::core::Core;

impl Core {
    /// Returns the messages that were to take back others and found none.
    pub(super) fn return_missed(&mut self) {
        if self.publisher.cancels.is_empty() {
            return;
        }
        let missed = self.session.take_missed();
        for (place, channel, message) in std::mem::take(&mut self.publisher.cancels) {
            if missed.contains(&place) {
                self.return_message(channel, &message);
            }
        }
    }
}
