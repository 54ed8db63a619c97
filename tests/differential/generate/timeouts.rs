//! Timeouts.

use super::uses::Resource;
use super::{Entry, Feature, Generator, HARDLINK, LINK, Unit, Word, names};

/// Far more than a program takes.
pub(super) const LONG: Word = Word::Time(3600, 0);
pub(super) const ZERO: Word = Word::Time(0, 0);
/// User data of nothing.
const NOBODY: u64 = 1 << 40;

impl Generator {
    pub(super) fn timeout_unit(&mut self, room: usize, first: bool) -> Unit {
        // The first entry after a drained one waits for all before it, too (`drain_active`), also when it is to
        // remove a timeout: they would wait for each other.
        let parks = !self.drains;
        let removes = !self.parked.is_empty() && self.dice.percent(40);
        let entry = match self.dice.below(100) {
            _ if removes => self.removal(),
            0..30 => self.expiring(),
            30..50 if parks => self.parked_timeout(),
            50..68 if parks && first => self.counting(),
            68..80 => self.removal(),
            80..92 if parks && room >= 2 => return self.limited_timeout(),
            92.. if self.has(Feature::Malformed) => self.bad_timeout(),
            _ => self.expiring(),
        };
        let mut entries = vec![entry];
        if room >= 2 && self.has(Feature::Links) && self.dice.percent(20) {
            // What follows a timeout runs when it has counted, or, linked hard, in any case.
            let hard = self.has(Feature::HardLinks) && self.dice.percent(50);
            entries[0].flags |= if hard { HARDLINK } else { LINK };
            entries.push(self.plain_nop());
        }
        Unit { entries }
    }

    pub(super) fn timeout(&mut self, addr: Word) -> Entry {
        Entry { opcode: names::TIMEOUT, addr, len: 1, user_data: self.name(), ..Entry::default() }
    }

    /// One that fires at once.
    pub(super) fn expiring(&mut self) -> Entry {
        if self.counting {
            return self.plain_nop();
        }
        // A cancellation might find it before it fires.
        if !self.uses.take(&[(Resource::Workers, false)]) {
            return self.plain_nop();
        }
        let entry = self.timeout(ZERO);
        match self.dice.below(6) {
            0 => Entry { op_flags: names::TIMEOUT_ETIME_SUCCESS, ..entry },
            1 => Entry { op_flags: names::TIMEOUT_ABS, addr: Word::Time(0, 1), ..entry },
            2 => Entry { op_flags: self.dice.pick(&[names::TIMEOUT_BOOTTIME, names::TIMEOUT_REALTIME]), ..entry },
            // It ends when a completion finds no room in the ring.
            3 if !self.program.setup.is_tight() => {
                let off = Word::Number(self.dice.within(1, 4));
                Entry { op_flags: names::TIMEOUT_MULTISHOT, off, ..entry }
            }
            _ => entry,
        }
    }

    /// One that waits until it is removed.
    fn parked_timeout(&mut self) -> Entry {
        let mut entry = self.timeout(LONG);
        if !self.parked.is_empty() && self.dice.percent(20) {
            // A name may be that of several.
            entry.user_data = self.dice.pick(&self.parked.clone());
            self.lasting.push(entry.user_data);
        }
        self.parked.push(entry.user_data);
        if self.dice.percent(20) {
            entry.op_flags = self.dice.pick(&[
                names::TIMEOUT_BOOTTIME,
                names::TIMEOUT_REALTIME,
                names::TIMEOUT_MULTISHOT,
                names::TIMEOUT_ETIME_SUCCESS,
            ]);
        }
        if entry.op_flags == names::TIMEOUT_MULTISHOT {
            // With a time of 0 it would fire until the ring is full, or for ever if that is emptied in time.
            self.lasting.push(entry.user_data);
        }
        entry
    }

    /// One that counts completions. What it counts is certain only when nothing is in flight, and as long as no
    /// other fires: the kernel takes timeouts that have fired off the number of completions before it has posted
    /// theirs (`cq_timeouts`), and a number that went back ends every count (`io_flush_timeouts`).
    fn counting(&mut self) -> Entry {
        self.counting = true;
        let mut entry = self.timeout(LONG);
        self.parked.push(entry.user_data);
        self.counts.push(entry.user_data);
        entry.off = Word::Number(self.dice.within(1, 12));
        entry
    }

    /// A timeout that waits, with a limit that is reached, or that can be set anew.
    fn limited_timeout(&mut self) -> Unit {
        if !self.has(Feature::LinkTimeouts) || !self.has(Feature::Links) {
            return Unit { entries: vec![self.expiring()] };
        }
        let mut head = self.timeout(LONG);
        head.flags |= LINK;
        let (opcode, user_data) = (names::LINK_TIMEOUT, self.name());
        let reached = self.dice.percent(50) && self.uses.take(&[(Resource::Workers, false)]);
        if !reached {
            self.parked.push(head.user_data);
            self.limits_that_wait.push(user_data);
        }
        let addr = if reached { ZERO } else { LONG };
        Unit { entries: vec![head, Entry { opcode, addr, len: 1, user_data, ..Entry::default() }] }
    }

    /// A timeout that waits, or none.
    pub(super) fn target(&mut self) -> u64 {
        if self.parked.is_empty() || self.dice.percent(10) {
            return NOBODY;
        }
        let at = self.dice.below(self.parked.len() as u64) as usize;
        if !self.at_rest && self.counts.contains(&self.parked[at]) {
            // Transfers in flight may have ended it, or not.
            return NOBODY;
        }
        self.parked.swap_remove(at)
    }

    fn removal(&mut self) -> Entry {
        let (opcode, user_data) = (names::TIMEOUT_REMOVE, self.name());
        let entry = Entry { opcode, user_data, ..Entry::default() };
        if self.dice.percent(60)
            && let Some(limit) = self.limits_that_wait.pop()
        {
            // What ends its head at the same time would race with it.
            let fires = self.at_rest && self.dice.percent(60) && self.uses.take(&[(Resource::Workers, false)]);
            if fires {
                self.parked.retain(|name| *name != limit - 1);
            }
            let off = if fires { 0 } else { 3600 };
            let op_flags = names::TIMEOUT_UPDATE | names::LINK_TIMEOUT_UPDATE;
            return Entry { op_flags, addr: Word::Number(limit), off: Word::Time(off, 0), ..entry };
        }
        let target = self.target();
        let entry = Entry { addr: Word::Number(target), ..entry };
        if self.dice.percent(40) || self.lasting.contains(&target) {
            return entry;
        }
        let fires = self.dice.percent(50) && !self.counting && self.uses.take(&[(Resource::Workers, false)]);
        let off = if fires {
            ZERO
        } else {
            self.parked.extend((target != NOBODY).then_some(target));
            LONG
        };
        Entry { op_flags: names::TIMEOUT_UPDATE, off, ..entry }
    }

    fn bad_timeout(&mut self) -> Entry {
        let entry = self.timeout(LONG);
        match self.dice.below(6) {
            0 => Entry { len: self.dice.pick(&[0, 2]), ..entry },
            1 => Entry { op_flags: 1 << self.dice.within(8, 20), ..entry },
            2 => Entry { op_flags: names::TIMEOUT_BOOTTIME | names::TIMEOUT_REALTIME, ..entry },
            3 if self.dice.percent(50) => Entry { addr: Word::Time(-1, 0), ..entry },
            3 => Entry { addr: Word::Time(3600, -5), ..entry },
            4 => Entry { addr: Word::Number(512), ..entry },
            _ => Entry { buf_index: 1, ..entry },
        }
    }
}
