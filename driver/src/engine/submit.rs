//! The pass down: a batch of entries, as much of it as goes by the straight line, the rest by the general
//! path, one doorbell, and what the program is told.

#![expect(unsafe_code)] // walks runs of both rings, which it has made of the same length

use std::io;

use super::decode::Refusal;
use super::{Engine, Outcome};
use crate::nvme::IoQueue;

impl Engine {
    /// Consumes what has been pushed. Answers how many entries, a refused one that ended the batch
    /// included.
    #[inline]
    pub(crate) fn submit(&mut self) -> io::Result<usize> {
        self.check_ours()?;
        let submitted = self.consume();
        self.announce();
        Ok(submitted as usize)
    }

    /// As [`submit`](Self::submit), but does not tell the program what there is to wait for.
    #[inline(always)] // as `submit_and_wait`
    pub(super) fn consume(&mut self) -> u32 {
        let start = self.sq_head;
        // A tail that a hostile program moved means no more than a full ring.
        let new = self.rings.sq_tail().wrapping_sub(start).min(self.rings.sq_entries());
        let end = start.wrapping_add(new);
        if new == 0 {
            return 0;
        }
        let mut head = start;
        if self.straight
            && let Some(queue) = hot_queue(&mut self.queues, self.hot)
        {
            if new == 1 && queue.submit_one(&self.rings, head) {
                head = end;
            } else {
                head = queue.submit_line(&self.rings, head, end);
            }
            if head == end {
                // The whole batch went straight through: one queue has something new.
                queue.publish_batch(new);
                self.sq_head = end;
                self.rings.set_sq_head(end);
                return new;
            }
        }
        self.consume_rest(start, head, end)
    }

    /// What the straight line has left of a batch. Answers how many entries of the batch were submitted.
    #[inline(never)]
    fn consume_rest(&mut self, start: u32, head: u32, end: u32) -> u32 {
        let (head, dropped) = self.submit_general(head, end);
        self.sq_head = head;
        self.rings.set_sq_head(head);
        self.queues.iter_mut().for_each(IoQueue::publish);
        head.wrapping_sub(start) - dropped
    }

    /// Tells the program whether there is something to wait for, and something to take.
    #[inline]
    pub(super) fn announce(&mut self) {
        let busy = self.is_busy();
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
            let slot = if self.straight {
                head = self.submit_nops(head, end);
                if head == end {
                    break;
                }
                Some(self.rings.plain_slot(head))
            } else {
                self.at = head;
                self.rings.slot(head)
            };
            head = head.wrapping_add(1);
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
                && let Some(queue) = hot_queue(&mut self.queues, self.hot)
            {
                head = queue.submit_line(&self.rings, head, end);
            }
        }
        (head, 0)
    }

    /// Completes the entries from `head` on that do nothing, while there is room. Answers where it stopped.
    #[inline]
    fn submit_nops(&mut self, head: u32, end: u32) -> u32 {
        let room = self.cq.run();
        let sqes = self.rings.sqe_run(head, end.wrapping_sub(head).min(room.len()));
        let mut done = 0;
        while done < sqes.len() as usize {
            // SAFETY: below the length.
            let sqe = unsafe { sqes.at(done) };
            if !sqe.is_bare_nop() {
                break;
            }
            // SAFETY: there are no more entries than room.
            unsafe { room.write(done, sqe.word::<4>(), 0) };
            done += 1;
        }
        if done != 0 {
            self.cq.commit(done as u32);
        }
        head.wrapping_add(done as u32)
    }
}

/// The queue whose straight line is to be tried, if any: the only one, or that of the hot file.
#[inline(always)] // as `consume`
fn hot_queue(queues: &mut [IoQueue], hot: usize) -> Option<&mut IoQueue> {
    let queue = match queues {
        [queue] => queue,
        queues => queues.get_mut(hot)?,
    };
    (!queue.is_waiting()).then_some(queue)
}
