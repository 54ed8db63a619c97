//! Chains of the straight line: transfers of which each begins when the one before it has succeeded.
//!
//! A chain goes this way when all of it stands in one batch, every member could go by the straight line but for
//! `IOSQE_IO_LINK`, and its first one can begin. The others wait as copies. Like the kernel, which looks up file
//! and buffer of a member when its turn comes, this looks at everything else of an entry then; a member that
//! the straight line does not take then is given back to the engine, with those behind it.
//!
//! Pairs have loops of their own, down and up; of a longer chain each member that is not the last goes by
//! [`follow`](IoQueue::follow).

#![expect(unsafe_code)] // walks runs, which it has made of the same length

use super::super::ids::{LINKED, STRAIGHT, Table, Tracker};
use super::super::queue::{IoQueue, Sink};
use super::super::rings::SlotRun;
use super::{LINK_BIT, LineTarget, Words, make};
use crate::abi::entry::Sqe;
use crate::abi::rings::RingView;
use crate::abi::slots::{SqeRun, SqeSlot};
use crate::mark::{FOUND, mark};

/// No member.
const NONE: u32 = u32::MAX;

/// A member that has not begun: the words of its entry that are not 0, and the member behind it.
#[derive(Clone, Copy, Debug)]
struct Member {
    words: [u64; 6],
    next: u32,
}

impl Member {
    const NONE: Self = Self { words: [0; 6], next: NONE };

    /// Of an entry that is prepared without an error, whatever happens when its turn comes: it has no flags of
    /// the operation, no personality, no file index and no attributes. Bits of `mask` may differ from what
    /// `line` serves.
    #[inline(always)] // into the loop of pairs
    fn of(entry: SqeSlot, line: &LineTarget, mask: u64) -> Option<Self> {
        let first = entry.word::<0>();
        let (len, buffer) = (entry.word::<3>(), entry.word::<5>());
        if line.differs(first) & !mask != 0 || len >> 32 | buffer >> 16 | entry.word::<7>() != 0 {
            return None;
        }
        let words = [first, entry.word::<1>(), entry.word::<2>(), len, entry.word::<4>(), buffer];
        Some(Self { words, next: NONE })
    }

    fn user_data(&self) -> u64 {
        self.words[4]
    }

    fn sqe(&self) -> Sqe {
        let [a, b, c, d, e, f] = self.words;
        Sqe::from([a, b, c, d, e, f, 0, 0])
    }
}

impl Words for &Member {
    #[inline(always)] // into `make`
    fn word<const N: usize>(self) -> u64 {
        if N < 6 { self.words[N] } else { 0 }
    }
}

/// Members of chains that have not begun.
#[derive(Debug)]
pub(in crate::nvme) struct Links {
    /// The next ones, by slot of the transfer in flight before them.
    next: Table<Member>,
    /// Those behind them.
    later: Vec<Member>,
    /// The first of those places that are free, each of which knows the next.
    free: u32,
}

impl Links {
    /// For a submission ring of `entries`, a power of two.
    pub(in crate::nvme) fn new(entries: u32) -> Self {
        Self { next: Table::new(entries as usize, Member::NONE), later: Vec::new(), free: NONE }
    }

    fn insert(&mut self, member: Member) -> u32 {
        match self.later.get_mut(self.free as usize) {
            Some(place) => {
                let index = self.free;
                self.free = place.next;
                *place = member;
                index
            }
            None => {
                self.later.push(member);
                self.later.len() as u32 - 1
            }
        }
    }

    /// Puts a member behind `first` and those behind that, of which `last` is the last. Answers where it is.
    fn append(&mut self, first: &mut Member, last: u32, member: Member) -> u32 {
        let index = self.insert(member);
        self.later.get_mut(last as usize).unwrap_or(first).next = index;
        index
    }

    fn remove(&mut self, index: u32) -> Option<Member> {
        let place = self.later.get_mut(index as usize)?;
        let member = *place;
        place.next = self.free;
        self.free = index;
        Some(member)
    }

    /// Shows a member and all behind it, which are forgotten.
    fn end(&mut self, first: Member, mut show: impl FnMut(&Member)) {
        let mut next = Some(first);
        while let Some(member) = next {
            show(&member);
            next = self.remove(member.next);
        }
    }
}

impl IoQueue {
    /// Begins the chains from `head` to `end` of a [plain](RingView::is_plain) ring, up to the first that is not
    /// to be begun here, or another entry. Answers where it stopped.
    #[inline]
    pub(super) fn submit_chains(&mut self, rings: &RingView, head: u32, end: u32) -> u32 {
        let after = self.submit_pairs(rings, head, end);
        if after == head { self.submit_chain(rings, head, end) } else { after }
    }

    /// Begins the pairs from `head` on that stand side by side. Answers where it stopped.
    #[inline]
    fn submit_pairs(&mut self, rings: &RingView, head: u32, end: u32) -> u32 {
        let sqes = rings.sqe_run(head, end.wrapping_sub(head));
        let slots = self.grant.sq.run((sqes.len() / 2).min(self.ids.room()));
        let made = self.submit_pair_run(sqes, slots);
        self.ids.begun(made);
        self.grant.sq.advance(made);
        head.wrapping_add(2 * made)
    }

    /// Makes commands of the first entries of pairs, of which there are no fewer than slots.
    #[inline]
    fn submit_pair_run(&mut self, sqes: SqeRun, slots: SlotRun) -> u32 {
        let (line, fixed, tail) = (self.line, &self.fixed, self.grant.sq.tail());
        let trackers = self.ids.trackers.run_mut(tail, slots.len());
        let mut made = 0;
        for (tracker, place) in trackers.iter_mut().zip(self.links.next.run_mut(tail, slots.len())) {
            // SAFETY: there are no more trackers than slots, and twice as many entries.
            let (first, second) = unsafe { (sqes.at(2 * made), sqes.at(2 * made + 1)) };
            let Some(member) = Member::of(second, &line, 0) else { break };
            // SAFETY: as above.
            if !unsafe { make::<_, _, LINKED>(&line, fixed, tracker, first, slots, made) } {
                break;
            }
            *place = member;
            made += 1;
        }
        made as u32
    }

    /// Begins the chain at `head`. Answers where the next entry stands: at `head` if it is not to be begun here.
    fn submit_chain(&mut self, rings: &RingView, head: u32, end: u32) -> u32 {
        let (mut at, mut following, mut last) = (head.wrapping_add(1), None, NONE);
        loop {
            // One that is open at the end of its batch is closed by the engine.
            let member = if at == end { None } else { Member::of(rings.plain_slot(at), &self.line, LINK_BIT) };
            let Some(member) = member.filter(|_| self.ids.room() != 0) else {
                following.into_iter().for_each(|first| self.links.end(first, |_| {}));
                return head;
            };
            at = at.wrapping_add(1);
            match &mut following {
                None => following = Some(member),
                Some(first) => last = self.links.append(first, last, member),
            }
            if member.words[0] & LINK_BIT == 0 {
                break;
            }
        }
        let Some(following) = following else { return head };
        let slot = self.grant.sq.tail();
        if !self.submit_entry::<_, LINKED>(rings.plain_slot(head)) {
            self.links.end(following, |_| {});
            return head;
        }
        *self.links.next.at_mut(slot) = following;
        at
    }

    /// Whether the next completion is of a transfer that has succeeded and that another one follows.
    #[inline]
    pub(super) fn next_is_linked(&self) -> bool {
        // SAFETY: a run of one entry.
        let word = unsafe { self.grant.cq.run(1).word(0) };
        word.is_some_and(|word| self.ids.trackers.at(word).succeeded_linked(word))
    }

    /// Takes the completions that stand next of transfers that have succeeded and that one more transfer
    /// follows, and begins that. Answers how many.
    #[inline(never)] // away from those that nothing follows
    pub(super) fn follow_run(&mut self, sink: &mut Sink) -> u32 {
        let room = sink.run();
        let run = self.grant.cq.run(room.len());
        let most = if self.is_waiting() { 0 } else { run.len() as u32 };
        let slots = self.grant.sq.run(most);
        let (line, fixed, tail) = (self.line, &self.fixed, self.grant.sq.tail());
        let step = self.ids.generation_step();
        let trackers = &mut self.ids.trackers;
        let mut done = 0;
        while done < slots.len() {
            // SAFETY: below the length of the slots, which are no more than completions and room.
            let Some(word) = (unsafe { run.word(done as usize) }) else { break };
            let (user_data, res, member) = {
                let tracker = trackers.at(word);
                (tracker.user_data, tracker.res, self.links.next.at(word))
            };
            if !trackers.at(word).succeeded_linked(word) || member.next != NONE {
                break;
            }
            let tracker = trackers.at_mut(tail.wrapping_add(done));
            // SAFETY: as above.
            if !unsafe { make::<_, _, STRAIGHT>(&line, fixed, tracker, member, slots, done as usize) } {
                break;
            }
            trackers.at_mut(word).end(step);
            // SAFETY: as above.
            unsafe { room.write(done as usize, user_data, res) };
            done += 1;
        }
        if done != 0 {
            // As many have begun as have ended.
            self.grant.sq.advance(done);
            self.grant.cq.advance(done);
            sink.commit(done);
        }
        done
    }

    /// As [`follow_run`](Self::follow_run) of the only transfer in flight, with the doorbells. Answers whether
    /// it was one.
    #[inline(never)] // as `follow_run`
    pub(super) fn follow_one(&mut self, sink: &mut Sink) -> bool {
        let followed = self.follow_run(sink) != 0;
        if followed {
            mark::<FOUND>();
            self.give_back_entries();
            self.publish();
        }
        followed
    }

    /// A transfer of the straight line has ended, which was in flight under `cid`: the next member of its chain
    /// begins, or all fail, if it has any.
    pub(in crate::nvme) fn follow(&mut self, ended: Tracker, cid: u16, succeeded: bool, sink: &mut Sink) {
        if !ended.is_linked() {
            return;
        }
        let member = *self.links.next.at(cid.into());
        if !succeeded {
            self.links.end(member, |member| sink.post(member.user_data(), -libc::ECANCELED, 0));
            return;
        }
        let slot = self.grant.sq.tail();
        let begun = match member.next {
            _ if self.is_waiting() || self.ids.room() == 0 => false,
            NONE => self.submit_entry::<_, STRAIGHT>(&member),
            _ => self.submit_entry::<_, LINKED>(&member),
        };
        if !begun {
            self.links.end(member, |member| sink.give_back(member.sqe()));
        } else if let Some(next) = self.links.remove(member.next) {
            *self.links.next.at_mut(slot) = next;
        }
    }
}
