//! Command identifiers, and what is in flight under them.
//!
//! A command identifier is a slot number in the low bits and a generation above them; the generation
//! changes with every use of the slot. A completion whose identifier is not exactly the one in flight
//! in its slot is *stale* (a duplicate, or an answer after a timeout): it is counted and dropped, and
//! the slot stays as it is.
//!
//! There are as many slots as the submission ring has entries. A command takes the slot of its place in
//! the ring when nothing is in flight there, as nearly always; otherwise the next idle one. At most one
//! fewer than there are slots may be in flight, so the ring cannot be overrun: every entry that the
//! device has not fetched belongs to a command in flight (fetching is in order, and a completion comes
//! after the fetch), and one entry stays empty.

#![expect(unsafe_code)] // owns the masked look-ups of `Table`

use std::ops::Range;

/// A power of two of `T`, looked up by masked index: no bounds check, no panic.
#[derive(Debug)]
pub(crate) struct Table<T> {
    items: Box<[T]>,
    /// One less than the length.
    mask: usize,
}

impl<T: Clone> Table<T> {
    /// `len` copies of `item`.
    ///
    /// # Panics
    /// When `len` is not a power of two.
    pub(crate) fn new(len: usize, item: T) -> Self {
        assert!(len.is_power_of_two(), "tables are indexed by mask");
        Self { items: vec![item; len].into_boxed_slice(), mask: len - 1 }
    }
}

impl<T> Table<T> {
    /// The item at `index` modulo the length.
    #[inline]
    pub(crate) fn at(&self, index: u32) -> &T {
        let masked = index as usize & self.mask;
        // SAFETY: the mask is less than the length (`new`), and neither ever changes.
        unsafe { self.items.get_unchecked(masked) }
    }

    /// The item at `index` modulo the length.
    #[inline]
    pub(crate) fn at_mut(&mut self, index: u32) -> &mut T {
        let masked = index as usize & self.mask;
        // SAFETY: as in `at`.
        unsafe { self.items.get_unchecked_mut(masked) }
    }

    /// The items from `index` modulo the length on, to the end of the table, at most `most`.
    #[inline]
    pub(crate) fn run_mut(&mut self, index: u32, most: u32) -> &mut [T] {
        let start = index as usize & self.mask;
        let end = (start + most as usize).min(self.items.len());
        // SAFETY: `start` is at most the mask, and so below the length; `end` is at least `start`.
        unsafe { self.items.get_unchecked_mut(Range { start, end }) }
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.items.iter()
    }
}

/// Stands above the identifier in the tag of a transfer of the straight line, as the phase tag does in the
/// last word of its completion.
pub(super) const STRAIGHT: u32 = 1 << 16;
/// Stands above the identifier of a transfer of the straight line that another one follows in its chain.
pub(super) const LINKED: u32 = 1 << 18;
/// Stands above the identifier of a command of the general path. The tag of an idle slot is just the
/// identifier of its next use.
const GENERAL: u32 = 1 << 17;

/// One slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tracker {
    /// A transfer of the straight line: the SQE's user data. Otherwise the index of the request.
    pub(super) user_data: u64,
    /// A transfer of the straight line: its result on success.
    pub(super) res: u32,
    /// The identifier, and what it is for. That of a transfer of the straight line is the last word of
    /// the completion with status 0, with 1 for the phase tag, as in no other tag.
    tag: u32,
}

impl Tracker {
    /// The identifier of the next use if the slot is idle, otherwise a number beyond 16 bits.
    #[inline]
    pub(super) fn next_cid(&self) -> u32 {
        self.tag
    }

    /// A transfer of the straight line takes the idle slot. `cid` is that of [`next_cid`](Self::next_cid),
    /// `TAG` is [`STRAIGHT`] or [`LINKED`].
    #[inline]
    pub(super) fn begin<const TAG: u32>(&mut self, cid: u32, user_data: u64, res: u32) {
        *self = Self { user_data, res, tag: TAG | cid };
    }

    /// Whether `word`, the last one of a completion with 1 for the phase tag, says that the transfer of the
    /// straight line that is in flight here has succeeded.
    #[inline]
    pub(super) fn succeeded(&self, word: u32) -> bool {
        self.tag == word
    }

    /// As [`succeeded`](Self::succeeded), of a transfer that another one follows in its chain.
    #[inline]
    pub(super) fn succeeded_linked(&self, word: u32) -> bool {
        // Of other tags that differ so, bit 18 of the word is of a status.
        self.tag == word ^ (STRAIGHT | LINKED) && self.is_linked()
    }

    /// The slot is idle; `step` is [`CommandIds::generation_step`].
    #[inline]
    pub(super) fn end(&mut self, step: u16) {
        self.tag = u32::from((self.tag as u16).wrapping_add(step));
    }

    /// The user data and the result on success of a transfer of the straight line in flight.
    pub(super) fn straight(&self) -> Option<(u64, i32)> {
        (self.tag & (STRAIGHT | LINKED) != 0).then_some((self.user_data, self.res.cast_signed()))
    }

    /// Whether it is a transfer of the straight line in flight that another one follows in its chain.
    pub(super) fn is_linked(&self) -> bool {
        self.tag & LINKED != 0
    }

    fn is_idle(&self) -> bool {
        self.tag <= u16::MAX.into()
    }
}

/// The identifiers of one queue pair.
#[derive(Debug)]
pub(super) struct CommandIds {
    pub(super) trackers: Table<Tracker>,
    in_flight: u32,
    most: u32,
}

impl CommandIds {
    /// Identifiers for a submission ring of `entries`, a power of two.
    pub(super) fn new(entries: u32) -> Self {
        let mut trackers = Table::new(entries as usize, Tracker { user_data: 0, res: 0, tag: 0 });
        for slot in 0..entries {
            trackers.at_mut(slot).tag = slot;
        }
        Self { trackers, in_flight: 0, most: entries - 1 }
    }

    /// How many commands are in flight.
    #[inline]
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// How many more may be.
    #[inline]
    pub(super) fn room(&self) -> u32 {
        self.most - self.in_flight
    }

    /// The straight line has begun so many, within [`room`](Self::room).
    #[inline]
    pub(super) fn begun(&mut self, commands: u32) {
        self.in_flight += commands;
    }

    /// The straight line has ended so many that were in flight.
    #[inline]
    pub(super) fn ended(&mut self, commands: u32) {
        self.in_flight -= commands;
    }

    /// Takes an identifier for a command of `request` that will stand at `position` of the ring.
    pub(super) fn take(&mut self, position: u32, request: u32) -> Option<u16> {
        if self.room() == 0 {
            return None;
        }
        let mut slot = position;
        while !self.trackers.at(slot).is_idle() {
            slot = slot.wrapping_add(1);
        }
        let tracker = self.trackers.at_mut(slot);
        let cid = tracker.next_cid();
        *tracker = Tracker { user_data: request.into(), res: 0, tag: GENERAL | cid };
        self.in_flight += 1;
        Some(cid as u16)
    }

    /// What was in flight under `cid`, whose slot is free again. `None` when it is stale.
    pub(super) fn give_back(&mut self, cid: u16) -> Option<Tracker> {
        let step = self.generation_step();
        let tracker = self.trackers.at_mut(cid.into());
        if tracker.is_idle() || tracker.tag as u16 != cid {
            return None;
        }
        let done = *tracker;
        tracker.end(step);
        self.in_flight -= 1;
        Some(done)
    }

    /// What to add to an identifier for the slot's next use. A ring of 65,536 entries has no bits left
    /// for generations: its identifiers recur at once, but an idle slot still accepts nothing.
    #[inline]
    pub(super) fn generation_step(&self) -> u16 {
        (self.most + 1) as u16
    }

    /// Identifiers in flight.
    pub(super) fn all_in_flight(&self) -> Vec<u16> {
        self.trackers.iter().filter(|t| !t.is_idle()).map(|t| t.tag as u16).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_fewer_in_flight_than_entries() {
        let mut ids = CommandIds::new(4);
        let taken: Vec<u16> = (0..9).map_while(|i| ids.take(i, 0)).collect();
        assert_eq!(taken, [0, 1, 2]);
        assert_eq!((ids.in_flight(), ids.room()), (3, 0));
        assert_eq!(ids.all_in_flight(), [0, 1, 2]);
    }

    #[test]
    fn a_slot_still_in_flight_when_its_place_comes_round_is_passed_over() {
        let mut ids = CommandIds::new(4);
        let slow = ids.take(0, 0).unwrap();
        let next = ids.take(1, 1).unwrap();
        ids.give_back(next).unwrap();
        assert_eq!(ids.take(4, 2), Some(next + 4), "the place of the slow one");
        assert_eq!(ids.give_back(slow).unwrap().user_data, 0);
    }

    #[test]
    fn a_stale_or_unknown_completion_changes_nothing() {
        let mut ids = CommandIds::new(4);
        let cid = ids.take(0, 7).unwrap();
        assert!(ids.give_back(cid + 4).is_none(), "another generation");
        assert!(ids.give_back(2).is_none(), "a slot never taken");
        assert!(ids.give_back(0xffff).is_none());
        assert_eq!(ids.give_back(cid).unwrap().user_data, 7);
        assert!(ids.give_back(cid).is_none(), "a duplicate");
        assert!(ids.give_back(cid + 4).is_none(), "the next use, before it");
        let again = ids.take(0, 8).unwrap();
        assert_eq!(again, cid + 4, "the same slot, the next generation");
        assert!(ids.give_back(cid).is_none(), "late answer to the first use");
        assert_eq!(ids.in_flight(), 1);
    }

    #[test]
    fn only_success_of_the_straight_line_in_flight_is_recognised() {
        let mut ids = CommandIds::new(4);
        let tracker = ids.trackers.at_mut(1);
        let succeeds = |tracker: &Tracker| {
            // Bit 16 of the word is the phase tag; 17 and above are status, more, and DNR.
            let status = [0, 1, 2, 3, 5, 7, 1 << 13, 1 << 14, 0x7fff];
            let words = (0..=0xffff).flat_map(|cid| status.map(|status| cid | 1 << 16 | status << 17));
            let linked = words.clone().filter(|word| tracker.succeeded_linked(*word)).collect::<Vec<u32>>();
            (words.filter(|word| tracker.succeeded(*word)).collect::<Vec<u32>>(), linked)
        };
        let nothing = || (Vec::new(), Vec::new());
        assert_eq!(succeeds(tracker), nothing(), "idle");
        tracker.begin::<LINKED>(5, 9, 512);
        assert_eq!(succeeds(tracker), (vec![], vec![5 | 1 << 16]));
        assert_eq!((tracker.straight(), tracker.is_linked()), (Some((9, 512)), true));
        tracker.begin::<STRAIGHT>(5, 9, 512);
        assert_eq!(succeeds(tracker), (vec![5 | 1 << 16], vec![]));
        assert_eq!((tracker.straight(), tracker.is_linked()), (Some((9, 512)), false));
        ids.begun(1);
        assert_eq!(ids.give_back(5).unwrap().straight(), Some((9, 512)));
        let cid = ids.take(1, 3).unwrap();
        assert_eq!(cid, 9);
        assert_eq!(succeeds(ids.trackers.at(1)), nothing(), "a request");
        assert_eq!(ids.trackers.at(1).straight(), None);
    }

    proptest! {
        #[test]
        fn identifiers_in_flight_are_distinct_and_never_lost(
            steps in prop::collection::vec((any::<bool>(), any::<u16>()), 1..400),
        ) {
            let mut ids = CommandIds::new(8);
            let mut flying: Vec<u16> = Vec::new();
            let mut position = 0;
            for (take, pick) in steps {
                if take {
                    match ids.take(position, 0) {
                        Some(cid) => {
                            prop_assert!(flying.iter().all(|c| c % 8 != cid % 8));
                            flying.push(cid);
                            position += 1;
                        }
                        None => prop_assert_eq!(flying.len(), 7),
                    }
                } else {
                    let known = flying.iter().position(|c| *c == pick % 64);
                    let answer = ids.give_back(pick % 64);
                    prop_assert_eq!(answer.is_some(), known.is_some());
                    if let Some(i) = known {
                        flying.swap_remove(i);
                    }
                }
                prop_assert_eq!(ids.in_flight() as usize, flying.len());
            }
        }
    }
}
