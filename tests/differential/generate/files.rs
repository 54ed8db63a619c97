//! Which file an entry names, and FILES_UPDATE.

use super::uses::Resource;
use super::{Entry, Fd, Feature, Generator, Unit, Word, names};

impl Generator {
    /// A file for an operation: mostly fixed file 0.
    pub(super) fn draw_file(&mut self, wanted: &mut Vec<(Resource, bool)>) -> (u8, Fd) {
        if !self.has(Feature::Files) {
            return (names::FIXED_FILE, Fd::Number(0));
        }
        // An update that looks for free slots looks at this one.
        self.uses.note(Resource::File(0), false);
        match self.dice.below(100) {
            0..80 => (names::FIXED_FILE, Fd::Number(0)),
            80..90 => (0, Fd::Device),
            _ => {
                let slot = self.dice.within(1, 3) as u32;
                if !self.uses.allows(&[(Resource::File(slot), false)]) {
                    return (names::FIXED_FILE, Fd::Number(0));
                }
                wanted.push((Resource::File(slot), false));
                self.uses.note(Resource::File(slot), false);
                (names::FIXED_FILE, Fd::Number(slot as i32))
            }
        }
    }

    pub(super) fn files_unit(&mut self) -> Unit {
        if self.dice.percent(15) {
            return Unit { entries: vec![self.allocation()] };
        }
        let first = self.dice.within(1, 3) as u32;
        let count = self.dice.within(1, u64::from(4 - first)) as u32;
        let wanted: Vec<_> = (first..first + count).map(|slot| (Resource::File(slot), true)).collect();
        if !self.uses.take(&wanted) {
            return Unit { entries: vec![self.plain_nop()] };
        }
        let fds: Vec<Fd> = (0..count)
            .map(|_| self.dice.weighted(&[(5, Fd::Device), (3, Fd::Number(-1)), (1, Fd::Number(-2))]))
            .collect();
        let mut entry = Entry {
            opcode: names::FILES_UPDATE,
            off: Word::Number(first.into()),
            addr: Word::Fds(fds),
            len: count,
            user_data: self.name(),
            ..Entry::default()
        };
        if self.has(Feature::Malformed) && self.dice.percent(10) {
            match self.dice.below(3) {
                0 => entry.off = Word::Number(100),
                1 => entry.len = 0,
                _ => entry.op_flags = 1,
            }
        }
        Unit { entries: vec![entry] }
    }

    /// FILES_UPDATE that takes the first slots that are free (`IORING_FILE_INDEX_ALLOC`).
    fn allocation(&mut self) -> Entry {
        let slots: Vec<_> = (0..4).map(|slot| (Resource::File(slot), true)).collect();
        let user_data = self.name();
        if !self.uses.take(&slots) {
            return Entry { opcode: names::NOP, user_data, ..Entry::default() };
        }
        let count = self.dice.within(1, 3) as u32;
        let fds = vec![Fd::Device; count as usize];
        let (off, addr) = (Word::Number(0xffff_ffff), Word::Fds(fds));
        Entry { opcode: names::FILES_UPDATE, off, addr, len: count, user_data, ..Entry::default() }
    }
}
