//! Chains of the straight line: transfers of which each begins when the one before it has succeeded.
//!
//! A chain goes this way when all of it stands in one batch, every member could go by the straight line but for
//! `IOSQE_IO_LINK`, and its first one can begin. The others wait as copies. Like the kernel, which looks up file
//! and buffer of a member when its turn comes, this looks at everything else of an entry then; a member that
//! the straight line does not take then is given back to the engine, with those behind it.

use super::super::ids::{LINKED, STRAIGHT, Table};
use super::super::queue::{IoQueue, Sink};
use super::{LINK_BIT, Words};
use crate::abi::rings::RingView;

/// An entry, copied.
pub(crate) type Copied = [u64; 8];

impl Words for &Copied {
    #[inline(always)] // into `make`
    fn word<const N: usize>(self) -> u64 {
        self[N]
    }
}

/// No member.
const NONE: u32 = u32::MAX;

/// A member that has not begun, and the one behind it.
#[derive(Clone, Copy, Debug)]
struct Member {
    entry: Copied,
    next: u32,
}

/// Members of chains that have not begun.
#[derive(Debug)]
pub(in crate::nvme) struct Links {
    members: Vec<Member>,
    /// The first of those that are free, each of which knows the next.
    free: u32,
    /// Behind which transfer in flight, by slot of its identifier.
    behind: Table<u32>,
}

impl Links {
    /// For a submission ring of `entries`, a power of two.
    pub(in crate::nvme) fn new(entries: u32) -> Self {
        Self { members: Vec::new(), free: NONE, behind: Table::new(entries as usize, NONE) }
    }

    #[inline]
    fn insert(&mut self, entry: Copied) -> u32 {
        let member = Member { entry, next: NONE };
        match self.members.get_mut(self.free as usize) {
            Some(place) => {
                let index = self.free;
                self.free = place.next;
                *place = member;
                index
            }
            None => {
                self.members.push(member);
                self.members.len() as u32 - 1
            }
        }
    }

    /// Frees a member. Answers it.
    #[inline]
    fn remove(&mut self, index: u32) -> Member {
        let place = &mut self.members[index as usize];
        let member = *place;
        place.next = self.free;
        self.free = index;
        member
    }

    /// Frees a member and all behind it, and shows each.
    fn remove_all(&mut self, first: u32, mut show: impl FnMut(Copied)) {
        let mut next = first;
        while next != NONE {
            let member = self.remove(next);
            show(member.entry);
            next = member.next;
        }
    }
}

/// Whether an entry is prepared without an error, whatever happens when its turn comes: no flags of the
/// operation, no personality, no file index, no attributes.
#[inline]
fn is_plain(entry: &Copied) -> bool {
    entry[3] >> 32 | entry[5] >> 16 | entry[7] == 0
}

impl IoQueue {
    /// Takes what stands from `head` to `end` of a [plain](RingView::is_plain) ring as far as it is chains and
    /// plain entries. Answers where it stopped. The doorbell is rung by [`publish`](IoQueue::publish).
    #[inline(never)] // away from batches without chains
    pub(crate) fn submit_chains(&mut self, rings: &RingView, mut head: u32, end: u32) -> u32 {
        loop {
            let after = self.submit_chain(rings, head, end);
            if after == head || after == end {
                return after;
            }
            head = after;
            if self.line.is_for(rings, head) {
                head = self.submit_line(rings, head, end);
                if head == end {
                    return head;
                }
            }
        }
    }

    /// Begins the chain at `head`. Answers where the next entry stands: at `head` if it is not to be begun here.
    #[inline]
    fn submit_chain(&mut self, rings: &RingView, head: u32, end: u32) -> u32 {
        let first = rings.plain_slot(head);
        let word = first.word::<0>();
        if word & LINK_BIT == 0 || !self.line.serves(word, LINK_BIT) || self.ids.room() == 0 {
            return head;
        }
        let (mut at, mut following, mut last) = (head.wrapping_add(1), NONE, NONE);
        loop {
            // One that is open at the end of its batch is closed by the engine.
            let entry = if at == end { None } else { Some(rings.plain_slot(at).words()) };
            let Some(entry) = entry.filter(|e| self.line.serves(e[0], LINK_BIT) && is_plain(e)) else {
                self.links.remove_all(following, |_| {});
                return head;
            };
            let index = self.links.insert(entry);
            match self.links.members.get_mut(last as usize) {
                Some(member) => member.next = index,
                None => following = index,
            }
            last = index;
            at = at.wrapping_add(1);
            if entry[0] & LINK_BIT == 0 {
                break;
            }
        }
        let slot = self.grant.sq.tail();
        if !self.submit_entry::<_, LINKED>(first) {
            self.links.remove_all(following, |_| {});
            return head;
        }
        *self.links.behind.at_mut(slot) = following;
        at
    }

    /// What stood before the members behind `slot` has ended: they begin, or fail.
    pub(in crate::nvme) fn follow(&mut self, slot: u32, succeeded: bool, sink: &mut Sink) {
        let first = std::mem::replace(self.links.behind.at_mut(slot), NONE);
        if !succeeded {
            self.links.remove_all(first, |entry| sink.post(entry[4], -libc::ECANCELED, 0));
            return;
        }
        let Member { entry, next } = self.links.members[first as usize];
        let slot = self.grant.sq.tail();
        let begun = match next {
            _ if self.is_waiting() || self.ids.room() == 0 => false,
            NONE => self.submit_entry::<_, STRAIGHT>(&entry),
            _ => self.submit_entry::<_, LINKED>(&entry),
        };
        if begun {
            *self.links.behind.at_mut(slot) = next;
            self.links.remove(first);
        } else {
            self.links.remove_all(first, |entry| sink.give_back(entry));
        }
    }
}
