//! Timeouts.

use super::{Entry, Feature, Generator, Unit, Word, names};

/// Far more than a program takes.
const LONG: Word = Word::Time(3600, 0);
const ZERO: Word = Word::Time(0, 0);

impl Generator {
    pub(super) fn timeout_unit(&mut self, first: bool) -> Unit {
        // The first entry after a drained one waits for all before it, too (`drain_active`), also when it is to
        // remove a timeout: they would wait for each other.
        let parks = !self.drains;
        let entry = match self.dice.below(100) {
            0..35 => self.expiring(),
            35..55 if parks => self.parked_timeout(),
            55..70 if parks && first => self.counting(),
            70..92 => self.removal(),
            _ if self.has(Feature::Malformed) => self.bad_timeout(),
            _ => self.expiring(),
        };
        Unit { entries: vec![entry] }
    }

    fn timeout(&mut self, addr: Word) -> Entry {
        Entry { opcode: names::TIMEOUT, addr, len: 1, user_data: self.name(), ..Entry::default() }
    }

    /// One that fires at once.
    fn expiring(&mut self) -> Entry {
        let entry = self.timeout(ZERO);
        match self.dice.below(6) {
            0 => Entry { op_flags: names::TIMEOUT_ETIME_SUCCESS, ..entry },
            1 => Entry { op_flags: names::TIMEOUT_ABS, addr: Word::Time(0, 1), ..entry },
            2 => Entry { op_flags: self.dice.pick(&[names::TIMEOUT_BOOTTIME, names::TIMEOUT_REALTIME]), ..entry },
            3 => {
                let off = Word::Number(self.dice.within(1, 4));
                Entry { op_flags: names::TIMEOUT_MULTISHOT, off, ..entry }
            }
            _ => entry,
        }
    }

    /// One that waits until it is removed.
    fn parked_timeout(&mut self) -> Entry {
        let mut entry = self.timeout(LONG);
        self.parked.push(entry.user_data);
        if self.dice.percent(20) {
            entry.op_flags = self.dice.pick(&[
                names::TIMEOUT_BOOTTIME,
                names::TIMEOUT_REALTIME,
                names::TIMEOUT_MULTISHOT,
                names::TIMEOUT_ETIME_SUCCESS,
            ]);
        }
        entry
    }

    /// One that counts completions. What it counts is certain only when nothing is in flight.
    fn counting(&mut self) -> Entry {
        let mut entry = self.timeout(LONG);
        self.parked.push(entry.user_data);
        entry.off = Word::Number(self.dice.within(1, 12));
        entry
    }

    /// A timeout that waits, or none.
    pub(super) fn target(&mut self) -> u64 {
        if self.parked.is_empty() || self.dice.percent(10) {
            return 1 << 40;
        }
        let at = self.dice.below(self.parked.len() as u64) as usize;
        self.parked.swap_remove(at)
    }

    fn removal(&mut self) -> Entry {
        let target = self.target();
        let entry = Entry {
            opcode: names::TIMEOUT_REMOVE,
            addr: Word::Number(target),
            user_data: self.name(),
            ..Entry::default()
        };
        if self.dice.percent(60) || target == 1 << 40 {
            return entry;
        }
        let off = if self.dice.percent(50) {
            ZERO
        } else {
            self.parked.push(target);
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
            3 => Entry { addr: self.dice.pick(&[1, 2]).into_time(), ..entry },
            4 => Entry { addr: Word::Number(512), ..entry },
            _ => Entry { buf_index: 1, ..entry },
        }
    }
}

trait IntoTime {
    fn into_time(self) -> Word;
}

impl IntoTime for u64 {
    /// Times that cannot be.
    fn into_time(self) -> Word {
        if self == 1 { Word::Time(-1, 0) } else { Word::Time(3600, -5) }
    }
}
