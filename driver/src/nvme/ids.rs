//! Command identifiers, and what is in flight under them.
//!
//! A command identifier is a slot number in the low bits and a generation above them; the generation
//! changes with every use of the slot. A completion whose identifier is not exactly the one in flight
//! in its slot is *stale* (a duplicate, or an answer after a timeout): it is counted and dropped, and
//! the slot stays as it is.
//!
//! There is one slot fewer than the submission ring has entries, so the ring cannot be overrun: every
//! entry that the device has not fetched belongs to a command in flight (fetching is in order, and a
//! completion comes after the fetch), and one entry stays empty.

#![expect(unsafe_code)] // owns the masked look-ups of `Table`

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

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.items.iter()
    }
}

/// What a slot holds when nothing is in flight in it: no 16-bit identifier equals it.
const IDLE: u32 = u32::MAX;

/// One slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tracker {
    /// A transfer of the straight line: the SQE's user data. Otherwise the index of the request.
    pub(super) user_data: u64,
    /// A transfer of the straight line: its result on success. Otherwise negative.
    pub(super) res: i32,
    /// The identifier in flight, or [`IDLE`].
    pub(super) expected: u32,
}

impl Tracker {
    /// The user data of a transfer of the straight line.
    pub(super) fn straight(&self) -> Option<u64> {
        (self.res >= 0).then_some(self.user_data)
    }
}

/// The identifiers of one queue pair.
#[derive(Debug)]
pub(super) struct CommandIds {
    pub(super) trackers: Table<Tracker>,
    /// A stack of the identifiers that are free, each with its next generation.
    pub(super) free: Table<u16>,
    pub(super) free_len: u32,
    slots: u32,
}

impl CommandIds {
    /// Identifiers for a submission ring of `entries`.
    pub(super) fn new(entries: u32) -> Self {
        let slots = entries - 1;
        let mut free = Table::new(entries as usize, 0u16);
        for i in 0..slots {
            // The lowest slot is taken first.
            *free.at_mut(i) = (slots - 1 - i) as u16;
        }
        let idle = Tracker { user_data: 0, res: 0, expected: IDLE };
        Self { trackers: Table::new(entries as usize, idle), free, free_len: slots, slots }
    }

    /// How many commands are in flight.
    #[inline]
    pub(super) fn in_flight(&self) -> u32 {
        self.slots - self.free_len
    }

    /// Takes an identifier for a command whose completion means `res` under `user_data`.
    pub(super) fn take(&mut self, user_data: u64, res: i32) -> Option<u16> {
        self.free_len = self.free_len.checked_sub(1)?;
        let cid = *self.free.at(self.free_len);
        *self.trackers.at_mut(cid.into()) = Tracker { user_data, res, expected: cid.into() };
        Some(cid)
    }

    /// What was in flight under `cid`, whose slot is free again. `None` when it is stale.
    pub(super) fn give_back(&mut self, cid: u16) -> Option<Tracker> {
        let generation = self.generation_step();
        let tracker = self.trackers.at_mut(cid.into());
        if tracker.expected != u32::from(cid) {
            return None;
        }
        tracker.expected = IDLE;
        let done = *tracker;
        *self.free.at_mut(self.free_len) = cid.wrapping_add(generation);
        self.free_len += 1;
        Some(done)
    }

    /// What to add to an identifier for the slot's next use. A ring of 65,536 entries has no bits left
    /// for generations: its identifiers recur at once, but an idle slot still accepts nothing.
    #[inline]
    pub(super) fn generation_step(&self) -> u16 {
        (self.slots + 1) as u16
    }

    /// Marks a slot as idle; for the loop that does what [`give_back`](Self::give_back) does.
    #[inline]
    pub(super) fn idle(tracker: &mut Tracker) {
        tracker.expected = IDLE;
    }

    /// Identifiers in flight.
    pub(super) fn all_in_flight(&self) -> Vec<u16> {
        self.trackers.iter().filter(|t| t.expected != IDLE).map(|t| t.expected as u16).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_slot_fewer_than_entries() {
        let mut ids = CommandIds::new(4);
        let taken: Vec<u16> = std::iter::from_fn(|| ids.take(0, 0)).collect();
        assert_eq!(taken, [0, 1, 2]);
        assert_eq!(ids.in_flight(), 3);
        assert_eq!(ids.all_in_flight(), [0, 1, 2]);
    }

    #[test]
    fn a_stale_or_unknown_completion_changes_nothing() {
        let mut ids = CommandIds::new(4);
        let cid = ids.take(7, 1).unwrap();
        assert!(ids.give_back(cid + 4).is_none(), "another generation");
        assert!(ids.give_back(2).is_none(), "a slot never taken");
        assert!(ids.give_back(0xffff).is_none());
        assert_eq!(ids.give_back(cid).unwrap().user_data, 7);
        assert!(ids.give_back(cid).is_none(), "a duplicate");
        let again = ids.take(8, 1).unwrap();
        assert_eq!(again, cid + 4, "the same slot, the next generation");
        assert!(ids.give_back(cid).is_none(), "late answer to the first use");
        assert_eq!(ids.in_flight(), 1);
    }

    proptest! {
        #[test]
        fn identifiers_in_flight_are_distinct_and_never_lost(steps in prop::collection::vec((any::<bool>(), any::<u16>()), 1..400)) {
            let mut ids = CommandIds::new(8);
            let mut flying: Vec<u16> = Vec::new();
            for (take, pick) in steps {
                if take {
                    match ids.take(0, 0) {
                        Some(cid) => {
                            prop_assert!(flying.iter().all(|c| c % 8 != cid % 8));
                            flying.push(cid);
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
