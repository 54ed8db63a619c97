//! Chains.

use super::{ASYNC, Entry, Feature, Generator, HARDLINK, LINK, NOP, SKIP, Unit, Word, names};

impl Generator {
    pub(super) fn chain(&mut self, room: usize) -> Unit {
        let len = self.dice.within(2, 6.min(room as u64)) as usize;
        let mut entries: Vec<Entry> = Vec::new();
        let link = if self.has(Feature::HardLinks) && self.dice.percent(35) { HARDLINK } else { LINK };
        while entries.len() < len {
            let mut entry = self.operation();
            entry.flags |= link;
            if self.has(Feature::HardLinks) && self.dice.percent(8) {
                entry.flags ^= LINK | HARDLINK;
            }
            entries.push(entry);
            if self.has(Feature::LinkTimeouts) && entries.len() < len && self.dice.percent(12) {
                let limit = self.link_timeout(link);
                entries.push(limit);
            }
        }
        let skips = self.has(Feature::Skips) && !self.drains && self.dice.percent(25);
        let last = entries.len() - 1;
        entries[last].flags &= !(LINK | HARDLINK);
        if skips {
            for entry in &mut entries[..last] {
                if self.dice.percent(40) {
                    entry.flags |= SKIP;
                }
            }
            if entries[last].opcode == names::LINK_TIMEOUT {
                entries[last] = Entry { opcode: NOP, user_data: entries[last].user_data, ..Entry::default() };
            }
        }
        Unit { entries }
    }

    /// A limit for the entry before it that is never reached.
    fn link_timeout(&mut self, link: u8) -> Entry {
        let time = Word::Time(3600, 0);
        let flags = link & !ASYNC;
        Entry { opcode: names::LINK_TIMEOUT, flags, addr: time, len: 1, user_data: self.name(), ..Entry::default() }
    }
}
