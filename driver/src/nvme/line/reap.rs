//! From completion to CQE.

#![expect(unsafe_code)] // walks runs, which it has made of the same length

use super::super::queue::{IoQueue, Sink};
use crate::mark::{FOUND, mark};
use crate::usermem::UserMemory;

/// What a look for the completion of the only command in flight has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Nothing,
    /// It has succeeded, and nothing is in flight any more.
    Taken,
    /// It has succeeded, and the next one of its chain is in flight.
    Followed,
    /// It is one for [`IoQueue::reap`].
    Other,
}

impl IoQueue {
    /// Whether one command is in flight, and nothing else.
    #[inline]
    pub(crate) fn is_at_one(&self) -> bool {
        self.ids.in_flight() == 1 && !self.is_waiting()
    }

    /// Takes the completion of the only command in flight if it has come and is plain. As
    /// [`reap`](Self::reap), with nothing done twice.
    #[inline(always)] // as `submit_one`
    pub(crate) fn reap_one(&mut self, sink: &mut Sink) -> Look {
        let run = self.grant.cq.run(1);
        // SAFETY: a run of one entry.
        let Some(word) = (unsafe { run.word(0) }) else { return Look::Nothing };
        let step = self.ids.generation_step();
        let tracker = self.ids.trackers.at_mut(word);
        let Some(room) = sink.slot() else { return Look::Other };
        if !tracker.succeeded(word) {
            return if self.follow_one(sink) { Look::Followed } else { Look::Other };
        }
        // SAFETY: room for one.
        unsafe { room.write(0, tracker.user_data, tracker.res) };
        tracker.end(step);
        self.ids.ended(1);
        self.grant.cq.advance(1);
        sink.commit(1);
        self.give_back_entries();
        Look::Taken
    }

    /// Takes every completion that the device has written, posts what is finished to `sink`, and gives
    /// the entries back with one doorbell. Answers how many there were of commands in flight: a device that
    /// sends nothing but stale ones has not moved. It does not keep us here either: of those, no more are
    /// taken at once than the ring holds.
    #[inline(never)]
    pub(crate) fn reap(&mut self, sink: &mut Sink, user: &UserMemory) -> u32 {
        let (mut taken, mut stale) = (0, 0);
        let before = self.grant.sq.tail();
        loop {
            let (done, more) = self.reap_run(sink);
            taken += done;
            if !more {
                break;
            }
            if done == 0 {
                let followed = if self.next_is_linked() { self.follow_run(sink) } else { 0 };
                if followed != 0 {
                    taken += followed;
                    continue;
                }
                let Some(completion) = self.grant.cq.pop() else { break };
                if self.finish(completion, sink, user) {
                    taken += 1;
                } else {
                    stale += 1;
                    if stale == self.grant.cq.entries() {
                        break;
                    }
                }
            }
        }
        if taken + stale != 0 {
            mark::<FOUND>();
            self.give_back_entries();
            // Members of chains have begun.
            if self.grant.sq.tail() != before {
                self.publish();
            }
        }
        taken
    }

    #[inline]
    pub(super) fn give_back_entries(&mut self) {
        self.grant.cq.publish();
        self.stats.cq_doorbells += 1;
    }

    /// Takes the completions of successful transfers of the straight line that stand next, as far as both
    /// rings go without a wrap. Answers how many, and whether there may be more.
    #[inline]
    fn reap_run(&mut self, sink: &mut Sink) -> (u32, bool) {
        let room = sink.run();
        let run = self.grant.cq.run(room.len());
        let step = self.ids.generation_step();
        let mut done = 0;
        let more = loop {
            if done == run.len() {
                break true;
            }
            // SAFETY: below the length; the ring is `self.grant`'s.
            let Some(word) = (unsafe { run.word(done) }) else { break false };
            let tracker = self.ids.trackers.at_mut(word);
            if !tracker.succeeded(word) {
                break true;
            }
            // SAFETY: the run is no longer than the room.
            unsafe { room.write(done, tracker.user_data, tracker.res) };
            tracker.end(step);
            done += 1;
        };
        let done = done as u32;
        if done != 0 {
            self.ids.ended(done);
            self.grant.cq.advance(done);
            sink.commit(done);
        }
        (done, more)
    }
}
