//! Cancellations.

use super::uses::Resource;
use super::{Entry, Feature, Generator, Unit, Word, names};

/// A wide cancellation that finds nothing on workers.
const OF_TIMEOUTS: u64 = 3;

impl Generator {
    pub(super) fn cancel_unit(&mut self) -> Unit {
        let entry = Entry { opcode: names::ASYNC_CANCEL, user_data: self.name(), ..Entry::default() };
        let certain = !self.counting || self.at_rest;
        let wide = certain && self.issues_in_order() && self.uses.allows(&[(Resource::Workers, true)]);
        let drawn = self.dice.below(100);
        let entry = match drawn {
            0..40 => {
                let op_flags = self.dice.pick(&[0, names::CANCEL_USERDATA, names::CANCEL_ALL]);
                Entry { addr: Word::Number(self.target()), op_flags, ..entry }
            }
            40..85 if wide => {
                self.uses.note(Resource::Workers, true);
                self.wide_cancel(entry)
            }
            85..92 if self.has(Feature::Malformed) => match self.dice.below(4) {
                0 => Entry { op_flags: 1 << self.dice.within(6, 20), ..entry },
                1 => Entry { off: Word::Number(1), ..entry },
                2 => Entry { flags: names::FIXED_FILE, ..entry },
                _ => Entry { op_flags: names::CANCEL_ANY | names::CANCEL_FD, ..entry },
            },
            _ => Entry { addr: Word::Number(1 << 41), ..entry },
        };
        Unit { entries: vec![entry] }
    }

    /// One that matches by something other than a name.
    fn wide_cancel(&mut self, entry: Entry) -> Entry {
        let all = if self.dice.percent(60) { names::CANCEL_ALL } else { 0 };
        let drawn = if self.uses.worked() { OF_TIMEOUTS } else { self.dice.below(5) };
        match drawn {
            0 => {
                self.parked.clear();
                Entry { op_flags: names::CANCEL_ANY | names::CANCEL_ALL, ..entry }
            }
            1 | 2 => {
                let fixed = self.dice.percent(50);
                let op_flags = names::CANCEL_FD | all | if fixed { names::CANCEL_FD_FIXED } else { 0 };
                let fd = if fixed { super::Fd::Number(0) } else { super::Fd::Device };
                Entry { op_flags, fd, ..entry }
            }
            OF_TIMEOUTS => {
                self.parked.clear();
                let len = names::TIMEOUT.into();
                Entry { op_flags: names::CANCEL_OP | names::CANCEL_ALL, len, ..entry }
            }
            _ => Entry { op_flags: names::CANCEL_OP | all, len: names::READ.into(), ..entry },
        }
    }
}
