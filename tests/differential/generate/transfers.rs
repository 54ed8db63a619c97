//! Reads and writes, and what else an operation on the window can be.

use libc::{FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE};

use super::uses::Resource;
use super::{Area, Entry, Feature, Generator, Word, names};

/// Blocks of both sides, in bytes.
pub(super) const BLOCK: u64 = 512;
/// How often a place for an operation is looked for.
const TRIES: usize = 8;

/// A place on the device.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) off: Word,
    pub(super) len: u64,
    /// In the window, of what can be moved.
    pub(super) range: std::ops::Range<u64>,
}

impl Generator {
    fn half(&self) -> u64 {
        self.program.setup.half()
    }

    fn length(&mut self, most: u64) -> u64 {
        let blocks = self.dice.weighted(&[(60, 8), (25, 32), (10, 128), (5, u64::MAX)]).min(most / BLOCK).max(1);
        BLOCK * self.dice.within(1, blocks)
    }

    pub(super) fn place(&mut self, most: u64) -> Place {
        let half = self.half();
        let len = self.length(most.min(half));
        // Mostly close together, so that operations meet what others have left.
        let room = (half - len) / BLOCK;
        let near = self.dice.pick(&[16, 16, 64, u64::MAX]).min(room);
        let at = BLOCK * self.dice.below(near + 1);
        if self.has(Feature::Bounds) && self.dice.percent(12) {
            return self.place_at_end(len);
        }
        if self.dice.percent(70) {
            // The file position, which is 0 and stays it.
            let off = if at == 0 && self.dice.percent(30) { Word::Number(u64::MAX) } else { Word::Number(at) };
            return Place { off, len, range: at..at + len };
        }
        let from = len + at;
        Place { off: Word::End(-(from as i64)), len, range: 2 * half - from..2 * half - from + len }
    }

    /// At, past and across the end.
    fn place_at_end(&mut self, len: u64) -> Place {
        let end = 2 * self.half();
        let off = match self.dice.below(6) {
            0 => Word::End(0),
            1 => Word::End((BLOCK * self.dice.below(100)) as i64),
            2 => Word::End(self.dice.below(4096) as i64),
            _ => {
                let from = BLOCK * self.dice.within(1, len / BLOCK);
                return Place { off: Word::End(-(from as i64)), len, range: end - from..end };
            }
        };
        Place { off, len, range: end..end }
    }

    /// A range of memory, aligned.
    fn range(&mut self, area: Area, len: u64) -> Option<u64> {
        let areas = self.program.setup.areas();
        let (_, size) = areas.iter().find(|(known, _)| *known == area)?;
        let room = (*size as u64).checked_sub(len)?;
        let alignment = u64::from(self.limits.memory_alignment);
        let unit = if self.dice.percent(50) { 4096 } else { alignment };
        Some(self.dice.below(room / unit + 1) * unit)
    }

    /// One of the eight transfers.
    pub(super) fn transfer(&mut self) -> Entry {
        let fixed = if self.has(Feature::FixedVectors) { 8 } else { 0 };
        let opcode = self.dice.weighted(&[
            (20, names::READ),
            (20, names::WRITE),
            (12, names::READV),
            (12, names::WRITEV),
            (14, names::READ_FIXED),
            (14, names::WRITE_FIXED),
            (fixed, names::READV_FIXED),
            (fixed, names::WRITEV_FIXED),
        ]);
        for _ in 0..TRIES {
            if let Some(entry) = self.transfer_of(opcode) {
                return entry;
            }
        }
        self.plain_nop()
    }

    fn transfer_of(&mut self, opcode: u8) -> Option<Entry> {
        let writes = names::is_write(opcode);
        let registered = names::is_registered(opcode);
        let index = self.dice.pick(&[0, 0, 1, 3]);
        let most = if registered { u64::from(self.program.setup.buffers[usize::from(index)]) } else { u64::MAX };
        let place = self.place(most);
        let area = match writes {
            _ if registered => Area::Fixed(index),
            true if self.dice.percent(70) => Area::Source,
            _ if self.dice.percent(15) && place.len <= u64::from(self.program.setup.buffers[0]) => Area::Fixed(0),
            _ => Area::Target,
        };
        let at = self.range(area, place.len)?;
        let mut wanted = vec![(Resource::Data(place.range.clone()), writes)];
        wanted.push((Resource::Memory(area, at..at + place.len), !writes));
        let (flags, fd) = self.draw_file(&mut wanted);
        if !self.uses.take(&wanted) {
            return None;
        }
        let mut entry = Entry { opcode, flags, fd, off: place.off.clone(), user_data: self.name(), ..Entry::default() };
        let vectored = matches!(opcode, names::READV | names::WRITEV | names::READV_FIXED | names::WRITEV_FIXED);
        if vectored {
            let iovecs = self.pieces(area, at, place.len);
            entry.len = iovecs.len() as u32;
            entry.addr = Word::Iovecs(iovecs);
        } else {
            entry.addr = Self::memory(area, at);
            entry.len = place.len as u32;
        }
        if registered {
            entry.buf_index = index;
        }
        if self.dice.percent(10) {
            // DSYNC, SYNC, NOWAIT, APPEND: accepted.
            entry.op_flags = self.dice.pick(&[1 << 1, 1 << 2, 1 << 4, 1 << 1 | 1 << 2]);
        }
        Some(entry)
    }

    /// Cuts memory into segments, in any order.
    fn pieces(&mut self, area: Area, at: u64, len: u64) -> Vec<(Word, u64)> {
        let alignment = u64::from(self.limits.memory_alignment).max(BLOCK);
        let count = self.dice.within(1, 5).min(len / alignment).max(1);
        let mut cuts: Vec<u64> = (1..count).map(|_| alignment * self.dice.below(len / alignment + 1)).collect();
        cuts.extend([0, len]);
        cuts.sort_unstable();
        cuts.dedup();
        let mut pieces: Vec<(Word, u64)> =
            cuts.windows(2).map(|cut| (Self::memory(area, at + cut[0]), cut[1] - cut[0])).collect();
        if self.dice.percent(40) {
            pieces.reverse();
        }
        pieces
    }

    pub(super) fn fsync(&mut self) -> Entry {
        let (flags, fd) = self.draw_file(&mut Vec::new());
        self.uses.note(Resource::Workers, false);
        let op_flags = self.dice.pick(&[0, 0, 1]);
        Entry { opcode: names::FSYNC, flags, fd, op_flags, user_data: self.name(), ..Entry::default() }
    }

    pub(super) fn advice(&mut self) -> Entry {
        let (flags, fd) = self.draw_file(&mut Vec::new());
        self.uses.note(Resource::Workers, false);
        let opcode = self.dice.pick(&[names::FADVISE, names::SYNC_FILE_RANGE]);
        let op_flags = if opcode == names::FADVISE { self.dice.below(6) } else { self.dice.below(8) } as u32;
        let fills_cache = opcode == names::FADVISE && op_flags == libc::POSIX_FADV_WILLNEED.cast_unsigned();
        let op_flags = if fills_cache && !self.cached { 0 } else { op_flags };
        let off = Word::Number(BLOCK * self.dice.below(64));
        let len = self.dice.below(65536) as u32;
        Entry { opcode, flags, fd, off, len, op_flags, user_data: self.name(), ..Entry::default() }
    }

    pub(super) fn fallocate(&mut self) -> Entry {
        for _ in 0..TRIES {
            let place = self.place(u64::MAX);
            if !matches!(place.off, Word::Number(0..=0x7fff_ffff) | Word::End(..0)) {
                continue;
            }
            let mode = self.dice.pick(&[
                FALLOC_FL_ZERO_RANGE,
                FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
            ]);
            let mut wanted = vec![(Resource::Data(place.range.clone()), true)];
            let (flags, fd) = self.draw_file(&mut wanted);
            if self.uses.take(&wanted) {
                self.uses.note(Resource::Workers, false);
                let (opcode, off, addr) = (names::FALLOCATE, place.off, Word::Number(place.len));
                let len = mode.cast_unsigned();
                return Entry { opcode, flags, fd, off, addr, len, user_data: self.name(), ..Entry::default() };
            }
        }
        self.plain_nop()
    }
}
