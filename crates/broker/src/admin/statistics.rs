//! What was counted.

use super::VhostMissing;
use crate::Broker;
use crate::stats::{Figures, Window};
use millpond_model::{ExchangeName, VhostName};

impl Broker {
    /// The sums over the node; the rows for a window that goes far back are farther apart.
    pub fn node_counts(&self, window: Option<Window>) -> Figures {
        self.core.stats.totals(None, window)
    }

    /// The sums over a vhost.
    pub fn vhost_counts(&self, vhost: &VhostName, window: Option<Window>) -> Result<Figures, VhostMissing> {
        let vhost = self.vhost(vhost)?;
        Ok(self.core.stats.totals(Some(&vhost.name), window))
    }

    /// The sums over some vhosts, those that are there.
    pub fn counts_of(&self, vhosts: &[VhostName], window: Option<Window>) -> Option<Figures> {
        Figures::sum(vhosts.iter().filter_map(|vhost| self.vhost_counts(vhost, window).ok()))
    }

    /// What was counted of an exchange since the broker began, if anything.
    pub fn exchange_counts(
        &self,
        vhost: &VhostName,
        exchange: &ExchangeName,
    ) -> Result<Option<Figures>, VhostMissing> {
        let meter = self.vhost(vhost)?.counted_exchange(exchange);
        Ok(meter.map(|meter| self.core.stats.figures(&meter)))
    }

    /// How often statistics are noted. Milliseconds.
    pub fn statistics_interval_ms(&self) -> u64 {
        self.core.options.statistics_interval_ms
    }
}
