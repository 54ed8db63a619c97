//! NOPs, and entries with something wrong in them.

use super::{Entry, Fd, Feature, Generator, Word, names};

impl Generator {
    /// A NOP that is carried out while it is submitted.
    pub(super) fn nop(&mut self) -> Entry {
        let entry = self.plain_nop();
        match self.dice.below(100) {
            0..70 => entry,
            70..80 => Entry { op_flags: names::NOP_INJECT_RESULT, len: self.dice.below(5000) as u32, ..entry },
            80..88 => {
                let errno = self.dice.pick(&[libc::EIO, libc::EINVAL, libc::ECANCELED, libc::ENOSPC]);
                Entry { op_flags: names::NOP_INJECT_RESULT, len: (-errno).cast_unsigned(), ..entry }
            }
            _ if self.has(Feature::NopFlags) => self.nop_with_flags(entry),
            _ => entry,
        }
    }

    fn nop_with_flags(&mut self, entry: Entry) -> Entry {
        match self.dice.below(5) {
            0 => Entry { op_flags: names::NOP_FILE, fd: self.dice.pick(&[Fd::Device, Fd::Number(9999)]), ..entry },
            1 => {
                let op_flags = names::NOP_FILE | names::NOP_FIXED_FILE;
                Entry { op_flags, fd: Fd::Number(self.dice.pick(&[0, 0, 77])), ..entry }
            }
            2 | 3 => {
                let buf_index = self.dice.pick(&[0, 1, 2, 99]);
                Entry { op_flags: names::NOP_FIXED_BUFFER, buf_index, ..entry }
            }
            _ if self.has(Feature::Malformed) => Entry { op_flags: self.dice.pick(&[1 << 5, 1 << 31]), ..entry },
            _ => entry,
        }
    }

    /// An entry that is refused, while it is prepared or when it is issued.
    pub(super) fn malformed(&mut self) -> Entry {
        let entry = match self.dice.below(4) {
            0 => self.plain_nop(),
            1 => self.fsync(),
            _ => self.transfer(),
        };
        let is_transfer = names::is_transfer(entry.opcode);
        match self.dice.below(20) {
            0 => Entry { opcode: self.dice.pick(&[63, 64, 200, 255]), ..entry },
            1 => Entry { flags: entry.flags | 1 << 7, ..entry },
            2 => Entry { ioprio: self.dice.pick(&[1, 7, 0x8000, 0xffff]), ..entry },
            3 => Entry { personality: 7, ..entry },
            4 => Entry {
                flags: entry.flags | names::FIXED_FILE,
                fd: Fd::Number(self.dice.pick(&[-1, 9, 5000])),
                ..entry
            },
            5 => {
                Entry { flags: entry.flags & !names::FIXED_FILE, fd: Fd::Number(self.dice.pick(&[-1, 9999])), ..entry }
            }
            6 if !is_transfer => Entry { op_flags: 1 << 20, ..entry },
            6..8 => {
                // HIPRI; ATOMIC, DONTCACHE, and one that is not known.
                let flag = self.dice.pick(&[1 << 0, 1 << 6, 1 << 7, 1 << 30]);
                Entry { op_flags: if self.limits.nvme && flag == 1 << 6 { 1 << 30 } else { flag }, ..entry }
            }
            8 if is_transfer && self.has(Feature::Attributes) => {
                Entry { attr_type_mask: self.dice.pick(&[1, 2, 3]), ..entry }
            }
            9 if !matches!(entry.opcode, names::READ | names::READV) => {
                Entry { flags: entry.flags | names::BUFFER_SELECT, ..entry }
            }
            10 => Entry { off: Word::Number(self.dice.pick(&[u64::MAX - 1, 1 << 63, i64::MAX as u64])), ..entry },
            11 if is_transfer && self.has(Feature::BadBuffers) => {
                Entry { buf_index: self.dice.pick(&[2, 4, 999]), ..entry }
            }
            _ if is_transfer => self.misplaced(entry),
            _ => Entry { file_index: 1, ..entry },
        }
    }

    /// A transfer with a wrong place or memory.
    fn misplaced(&mut self, entry: Entry) -> Entry {
        let skew = self.dice.pick(&[1, 3, 256, 511]);
        match (self.dice.below(4), &entry.off, &entry.addr) {
            (0, Word::Number(at), _) if *at < 1 << 40 => Entry { off: Word::Number(at + skew), ..entry },
            (0, Word::End(at), _) if *at <= -512 => Entry { off: Word::End(at + skew as i64), ..entry },
            (1, _, Word::Memory(..)) => Entry { len: entry.len - self.dice.pick(&[1, 3, 511]), ..entry },
            // A multiple of 4 would be right on a device that asks for dwords only.
            (2, _, Word::Memory(area, at)) if self.limits.nvme => {
                let (area, at) = (*area, at + self.dice.pick(&[1, 2, 3]));
                Entry { addr: Word::Memory(area, at), len: entry.len.min(512), ..entry }
            }
            _ if names::is_registered(entry.opcode) && !self.has(Feature::BadBuffers) => {
                Entry { personality: 7, ..entry }
            }
            // From 262,145 iovecs on, those of a registered buffer are more than the kernel's allocator gives.
            (_, _, Word::Iovecs(_)) => Entry { len: self.dice.pick(&[1025, 1 << 18]), ..entry },
            _ => Entry { addr: Word::Number(self.dice.pick(&[0, 512, 1 << 63])), ..entry },
        }
    }
}
