//! The pass down: a batch of entries, as much of it as goes by the straight line, the rest by the general
//! path, one doorbell, and what the program is told.

use super::decode::Refusal;
use super::{Engine, Outcome};
use crate::error::Error;
use crate::nvme::IoQueue;

impl Engine {
    /// Consumes up to `most` entries. Answers how many, a refused one that ended the batch included.
    #[inline]
    pub(crate) fn submit(&mut self, most: u32) -> Result<u32, Error> {
        self.check_ours()?;
        let start = self.sq_head;
        // A tail that a hostile program moved means no more than a full ring.
        let new = self.rings.sq_tail().wrapping_sub(start).min(self.rings.sq_entries()).min(most);
        let end = start.wrapping_add(new);
        let mut head = start;
        if self.straight
            && let Some(queue) = self.queues.get_mut(self.hot)
            && !queue.is_waiting()
        {
            head = queue.submit_line(&self.rings, head, end);
            if head == end {
                // The whole batch went straight through: one queue has something new.
                if new != 0 {
                    queue.publish();
                    self.sq_head = head;
                    self.rings.set_sq_head(head);
                    self.announce(true);
                }
                return Ok(new);
            }
        }
        Ok(self.submit_rest(start, head, end))
    }

    /// What the straight line has left of a batch. Answers how many entries of the batch were submitted.
    #[inline(never)]
    fn submit_rest(&mut self, start: u32, head: u32, end: u32) -> u32 {
        let (head, dropped) = if head == end { (head, 0) } else { self.submit_general(head, end) };
        if head != start {
            self.sq_head = head;
            self.rings.set_sq_head(head);
            self.publish();
        }
        head.wrapping_sub(start) - dropped
    }

    /// Rings the doorbells of a batch and tells the program what there is to wait for.
    #[inline]
    pub(super) fn publish(&mut self) {
        let mut busy = false;
        for queue in &mut self.queues {
            queue.publish();
            busy |= queue.is_busy();
        }
        self.announce(busy);
    }

    /// Tells the program whether there is something to wait for, and something to take.
    #[inline]
    fn announce(&mut self, busy: bool) {
        self.cq.set_flags(busy);
        if self.notifier.is_armed() {
            // A program that sleeps on the descriptor waits without us: a model is woken now.
            if busy {
                self.queues.iter().for_each(IoQueue::relax);
            }
            self.notifier.keep_ticking(busy);
            self.notifier.update(|| self.cq.has_any());
        }
    }

    /// Answers where it stopped, and how many of the entries were dropped.
    fn submit_general(&mut self, mut head: u32, end: u32) -> (u32, u32) {
        while head != end {
            let slot = self.rings.slot(head);
            head = head.wrapping_add(1);
            if let Some(nop) = slot.filter(|slot| slot.is_bare_nop()) {
                self.cq.post(nop.word::<4>(), 0, 0);
                continue;
            }
            let Some(slot) = slot else {
                // As the kernel: dropped, counted as that and not as submitted, and the batch ends.
                self.rings.set_sq_dropped(self.rings.sq_dropped().wrapping_add(1));
                return (head, 1);
            };
            let sqe = slot.copy();
            match self.take(&sqe) {
                Ok(Outcome::Issued) => {}
                Ok(Outcome::Done(res)) => self.cq.post(sqe.user_data, res, 0),
                Err(Refusal { errno, ends_batch }) => {
                    self.cq.post(sqe.user_data, -errno, 0);
                    if ends_batch {
                        return (head, 0);
                    }
                }
            }
            if self.straight
                && head != end
                && let Some(queue) = self.queues.get_mut(self.hot)
                && !queue.is_waiting()
            {
                head = queue.submit_line(&self.rings, head, end);
            }
        }
        (head, 0)
    }
}
