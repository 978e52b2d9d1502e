//! What tests ask the holders.

use super::{Consumer, Holders, Role, block};

impl Holders {
    /// What is wrong in here, if anything.
    pub(in super::super) fn check(&self, unacked: u64) -> Result<(), String> {
        let held: u64 = self.slots.iter().flatten().map(|holder| holder.unacked).sum();
        if held != unacked {
            return Err(format!("holders have {held} unacked, pages {unacked}"));
        }
        for (slot, holder) in self.slots.iter().enumerate() {
            let Some(holder) = holder else { continue };
            let Role::Consumer(consumer) = &holder.role else {
                if holder.unacked == 0 {
                    return Err(format!("slot {slot} holds nothing and is kept"));
                }
                continue;
            };
            let at = self.level_position(consumer.terms.priority).map_err(|_| "no level".to_string())?;
            let times = self.levels[at].round.iter().filter(|s| **s == slot as u32).count();
            let wanted = usize::from(consumer.credit(holder.unacked) != 0);
            if times != wanted || consumer.in_round != (wanted == 1) {
                return Err(format!("{:?} is {times} times in its round, wanted {wanted}", consumer.key));
            }
            self.check_blocks(slot as u32, consumer)?;
        }
        if self.levels.iter().take(self.top).any(|level| !level.round.is_empty()) {
            return Err("a level above the top has consumers in its round".into());
        }
        Ok(())
    }

    fn check_blocks(&self, slot: u32, consumer: &Consumer) -> Result<(), String> {
        let key = consumer.key;
        let paced = consumer.pace.as_ref().is_some_and(|p| self.paced.contains(&(p.next_ms(), slot)));
        if paced != (consumer.blocks & block::PACED != 0) {
            return Err(format!("{key:?} waits for its pace: {paced}, its blocks say otherwise"));
        }
        if let Some(single) = &self.single
            && (single.active() == Some(key)) == (consumer.blocks & block::STANDBY != 0)
        {
            return Err(format!("{key:?} stands by and is active, or neither"));
        }
        Ok(())
    }
}
