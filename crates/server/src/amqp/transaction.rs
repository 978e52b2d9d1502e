//! tx.*: publishes and settlements of a channel that are kept until they are committed as one.

use super::channel::Mode;
use super::core::Core;
use super::reply::Fault;
use millpond_amqp_codec::{ReplyCode, tx};
use millpond_broker::{ChannelMode, Count, DeliveryId, Durability, Outcome, Route};
use millpond_model::Message;

/// What a channel has done since its last commit.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    publishes: Vec<(Message, Route, bool)>,
    settles: Vec<(u64, DeliveryId, Outcome)>,
    size_bytes: usize,
}

impl Transaction {
    /// Keeps a publish; the flag: mandatory.
    pub(crate) fn publish(&mut self, message: Message, route: Route, mandatory: bool) {
        self.size_bytes += message.size_bytes();
        self.publishes.push((message, route, mandatory));
    }

    /// Whether there is nothing to commit.
    pub(crate) fn is_empty(&self) -> bool {
        self.publishes.is_empty() && self.settles.is_empty()
    }

    /// What it keeps. Bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// How many publishes and settlements it keeps.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.publishes.len(), self.settles.len())
    }

    /// Keeps settlements.
    pub(crate) fn settle(&mut self, deliveries: &[(u64, DeliveryId)], outcome: Outcome) {
        self.settles.extend(deliveries.iter().map(|(tag, id)| (*tag, *id, outcome)));
    }

    /// Forgets the publishes and hands the settled deliveries back.
    pub(crate) fn roll_back(&mut self) -> impl Iterator<Item = (u64, DeliveryId)> + use<> {
        let settles = std::mem::take(self).settles;
        settles.into_iter().map(|(tag, id, _)| (tag, id))
    }
}

fn not_transactional() -> Fault {
    Fault::new(ReplyCode::PreconditionFailed, "channel is not transactional")
}

impl Core {
    pub(super) fn tx_select(&mut self, number: u16) -> Result<(), Fault> {
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        match channel.mode {
            Mode::Confirm(_) => {
                let text = "cannot switch from confirm to tx mode";
                return Err(Fault::new(ReplyCode::PreconditionFailed, text));
            }
            Mode::Plain => {
                channel.mode = Mode::Transaction(Box::default());
                channel.state.set_mode(ChannelMode::Transaction);
            }
            Mode::Transaction(_) => {}
        }
        self.reply(number, tx::SelectOk {});
        Ok(())
    }

    pub(super) fn tx_commit(&mut self, number: u16) -> Result<(), Fault> {
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        let Mode::Transaction(transaction) = &mut channel.mode else { return Err(not_transactional()) };
        let Transaction { publishes, settles, .. } = std::mem::take(&mut **transaction);
        channel.state.set_uncommitted(0, 0);
        let state = channel.state.clone();
        let mut routed = Vec::with_capacity(publishes.len());
        let mut cancels: Vec<(u32, Message)> = Vec::new();
        for (message, route, mandatory) in publishes {
            if route.is_unroutable() {
                state.count(if mandatory { Count::ReturnUnroutable } else { Count::DropUnroutable }, 1);
                if mandatory {
                    self.return_message(number, &message);
                }
            }
            if mandatory && route.only_cancels() {
                cancels.push((routed.len() as u32, message.clone()));
            }
            if !route.count_if_nowhere() {
                routed.push((message, route));
            }
        }
        let outcomes: Vec<_> = settles.iter().map(|(_, id, outcome)| (*id, *outcome)).collect();
        match self.session.transact(&mut routed, &outcomes, &[]) {
            Ok(Durability::Pending(token)) => self.out.barrier(token),
            Ok(Durability::Now) => {}
            Err(refused) => {
                // Nothing of it happened; closing the channel requeues what it had settled.
                if let Some(channel) = self.channels.get_mut(number) {
                    channel.unacked.put_back(settles.into_iter().map(|(tag, id, _)| (tag, id)));
                }
                return Err(refused.into());
            }
        }
        if !cancels.is_empty() {
            let missed = self.session.take_missed();
            for (_, message) in cancels.iter().filter(|(place, _)| missed.contains(place)) {
                self.return_message(number, message);
            }
        }
        self.reply(number, tx::CommitOk {});
        Ok(())
    }

    pub(super) fn tx_rollback(&mut self, number: u16) -> Result<(), Fault> {
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        let Mode::Transaction(transaction) = &mut channel.mode else { return Err(not_transactional()) };
        channel.unacked.put_back(transaction.roll_back());
        channel.state.set_uncommitted(0, 0);
        channel.state.set_unacked(channel.unacked.len());
        self.reply(number, tx::RollbackOk {});
        Ok(())
    }
}
