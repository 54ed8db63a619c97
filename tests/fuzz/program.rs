//! The program that is fuzzed with: what it has, and the entries that it makes of that.
//!
//! Half of the entries make sense; the others are changed afterwards, or are random bytes. What an entry may
//! write to is read from its final bytes and told to the arena, what may come of it to the ledger.

use super::arena::Arena;
use super::ledger::{FIRST, Ledger};
use crate::support::buffer_ring::{INC, buf_reg};
use crate::support::calls::fields;
use crate::support::fields::Fields;
use crate::support::pattern::Random;

/// Flags of entries.
pub(super) const FIXED_FILE: u8 = 1;
const DRAIN: u8 = 2;
const LINK: u8 = 4;
const HARDLINK: u8 = 8;
const SELECT: u8 = 32;
const SKIP: u8 = 64;

/// `IORING_TIMEOUT_MULTISHOT`.
const MULTISHOT: u32 = 64;

/// Registered buffers: as many stretches of the arena; one more is a hole.
pub(super) const FIXED_BUFFERS: u64 = 4;
/// Groups of provided buffers: classic, a ring, a ring that is used up piece by piece; one more is not there.
const GROUPS: u64 = 4;
/// Buffers of a ring of buffers.
const GROUP_ENTRIES: u32 = 8;

/// The 128 bytes of the largest entry.
pub(super) type Bytes = [u8; 128];

#[derive(Debug)]
pub(super) struct Program<'a> {
    pub(super) random: Random,
    pub(super) arena: &'a mut Arena,
    pub(super) ledger: Ledger,
    /// Bytes and block size of the device.
    pub(super) size: u64,
    pub(super) block: u64,
    /// Timeouts may last until they are cancelled.
    pub(super) endless: bool,
    /// Entries may ask for no completion.
    pub(super) silent: bool,
    /// Descriptors that stand for the device, and of rings.
    pub(super) files: Vec<i32>,
    times: Vec<u64>,
    forever: u64,
    vectors: Vec<(u64, u32)>,
    descriptors: u64,
    groups: Vec<(u64, u16)>,
}

impl<'a> Program<'a> {
    pub(super) fn new(random: Random, arena: &'a mut Arena, files: Vec<i32>) -> Self {
        arena.open();
        let mut this = Self {
            random,
            arena,
            ledger: Ledger::default(),
            size: 1 << 20,
            block: 512,
            endless: false,
            silent: false,
            files,
            times: Vec::new(),
            forever: 0,
            vectors: Vec::new(),
            descriptors: 0,
            groups: Vec::new(),
        };
        this.make_tables();
        this.arena.seal();
        this
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.random.below(end)
    }

    pub(super) fn one_in(&mut self, count: u64) -> bool {
        self.random.below(count) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random.below(choices.len() as u64) as usize]
    }

    pub(super) fn word(&mut self) -> u64 {
        self.random.below(u64::MAX)
    }

    fn make_tables(&mut self) {
        for nanos in [0, 1, 1000, 100_000, 1_000_000, 2_000_000] {
            let time = self.arena.table(&fields::<16>(&[&0i64.to_ne_bytes(), &i64::to_ne_bytes(nanos)]));
            self.times.push(time);
        }
        for bad in [[-1, 0], [0, -1]] {
            let time = self.arena.table(&bad.map(i64::to_ne_bytes).concat());
            self.times.push(time);
        }
        self.forever = self.arena.table(&[3600i64, 0].map(i64::to_ne_bytes).concat());
        for _ in 0..12 {
            let count = self.pick(&[1, 1, 2, 3, 8, 40]);
            let mut bytes = Vec::new();
            for _ in 0..count {
                let (address, len) = self.buffer();
                let len = if self.one_in(20) { self.pick(&[0, u64::MAX, 1 << 40, 3]) } else { len };
                let address = if self.one_in(20) { self.bad_address() } else { address };
                bytes.extend([address, len].map(u64::to_ne_bytes).concat());
            }
            let vector = self.arena.table(&bytes);
            self.vectors.push((vector, count));
        }
        let descriptors: Vec<u8> =
            (0..16).map(|_| self.descriptor()).collect::<Vec<i32>>().into_iter().flat_map(i32::to_ne_bytes).collect();
        self.descriptors = self.arena.table(&descriptors);
    }

    /// A descriptor, as often as not of something that can be used.
    pub(super) fn descriptor(&mut self) -> i32 {
        let files = self.files.clone();
        if self.one_in(2) { self.pick(&files) } else { self.pick(&[-1, -2, 0, 1, i32::MAX, i32::MIN, 1000]) }
    }

    /// A range of buffers, mostly aligned as a device wants it and not long.
    pub(super) fn buffer(&mut self) -> (u64, u64) {
        let number = self.below(8);
        let (first, room) = self.arena.stretch(number);
        let len = match self.below(8) {
            0 => self.below(room) + 1,
            1 => 0,
            2 => 4 * (self.below(1024) + 1),
            _ => 512 * (self.below(32) + 1),
        };
        let at = match self.below(4) {
            0 => self.below(room),
            1 => room.saturating_sub(len),
            2 => 512 * self.below(64),
            _ => 4096 * self.below(8),
        };
        (first + at, len)
    }

    /// An address that nothing can be done with; in the tables, something can be read.
    pub(super) fn bad_address(&mut self) -> u64 {
        let number = self.below(8);
        match self.below(8) {
            0 => 0,
            1 => 8,
            2 => self.arena.guard(number),
            3 => self.arena.guard(number) - 4,
            4 => u64::MAX - self.random.below(8192),
            5 => (1 << 47) - self.random.below(8192),
            6 => self.arena.tables().0 + self.arena.tables().1 - 8,
            _ => self.word() | 1 << 60,
        }
    }

    pub(super) fn time(&mut self) -> u64 {
        if self.endless && self.one_in(6) {
            return self.forever;
        }
        let times = self.times.clone();
        self.pick(&times)
    }

    pub(super) fn vector(&mut self) -> (u64, u32) {
        let vectors = self.vectors.clone();
        self.pick(&vectors)
    }

    /// Address of 16 descriptors.
    pub(super) fn descriptors(&self) -> u64 {
        self.descriptors
    }

    /// The argument that registers a ring of buffers as group `number`; it has buffers already.
    pub(super) fn new_group(&mut self, number: u16) -> [u8; 40] {
        let mut bytes = vec![0; 16 * GROUP_ENTRIES as usize];
        for slot in bytes.chunks_mut(16) {
            let (address, len) = self.buffer();
            let len = len as u32;
            self.arena.name(address, len.into());
            slot[..8].copy_from_slice(&address.to_ne_bytes());
            slot[8..12].copy_from_slice(&len.to_ne_bytes());
            let id = self.below(1 << 16) as u16;
            slot[12..14].copy_from_slice(&id.to_ne_bytes());
        }
        bytes[14..16].copy_from_slice(&(GROUP_ENTRIES as u16).to_ne_bytes());
        let ring = self.arena.ring(&bytes);
        self.groups.push((ring, GROUP_ENTRIES as u16));
        let flags = if self.one_in(2) { INC } else { 0 };
        buf_reg(ring, GROUP_ENTRIES, number, flags)
    }

    /// Gives buffers back, or does as if.
    pub(super) fn refill(&mut self) {
        let Some(last) = self.groups.len().checked_sub(1) else { return };
        let group = self.below(last as u64 + 1) as usize;
        let more = self.below(4) as u16;
        let (ring, tail) = &mut self.groups[group];
        *tail = tail.wrapping_add(more);
        let (ring, tail) = (*ring, *tail);
        self.arena.put_in_ring(ring + 14, &tail.to_ne_bytes());
    }

    /// An entry, noted.
    pub(super) fn entry(&mut self) -> Bytes {
        let mut bytes = match self.below(10) {
            0 => self.noise(),
            1..=4 => {
                let mut bytes = self.sensible();
                self.spoil(&mut bytes);
                bytes
            }
            _ => self.sensible(),
        };
        let user_data = self.ledger.fresh();
        bytes[32..40].copy_from_slice(&user_data.to_ne_bytes());
        self.tame(&mut bytes);
        self.note(&bytes);
        bytes
    }

    /// Random bytes, with an opcode that mostly exists.
    fn noise(&mut self) -> Bytes {
        let mut bytes = [0; 128];
        bytes.chunks_mut(8).for_each(|word| word.copy_from_slice(&self.random.below(u64::MAX).to_ne_bytes()));
        bytes[0] = if self.one_in(8) { bytes[0] } else { bytes[0] % 63 };
        if self.one_in(2) {
            bytes[1] &= FIXED_FILE | LINK;
            bytes[2..4].fill(0);
            bytes[4..8].fill(0);
            bytes[40..64].fill(0);
        }
        bytes
    }

    /// Changes a field or two.
    fn spoil(&mut self, bytes: &mut Bytes) {
        for _ in 0..=self.below(2) {
            let value = self.word();
            match self.below(10) {
                0 => bytes[0] = value as u8 % 64,
                1 => bytes[1] ^= 1 << (value % 8),
                2 => bytes[2 + value as usize % 2] = (value >> 8) as u8,
                3 => {
                    let fd = self.descriptor();
                    bytes[4..8].copy_from_slice(&fd.to_ne_bytes());
                }
                4 => {
                    let size = self.size;
                    let off = self.pick(&[size, size - 512, u64::MAX, u64::MAX - 511, 1 << 63, 1, value]);
                    bytes[8..16].copy_from_slice(&off.to_ne_bytes());
                }
                5 => {
                    let address = self.bad_address();
                    bytes[16..24].copy_from_slice(&address.to_ne_bytes());
                }
                6 => {
                    let len = self.pick(&[0, 1, 3, 1024, 1025, 1 << 20, 1 << 31, u32::MAX]);
                    bytes[24..28].copy_from_slice(&len.to_ne_bytes());
                }
                7 => bytes[28 + value as usize % 4] ^= 1 << (value >> 8 & 7),
                8 => bytes[40 + value as usize % 8] = (value >> 8) as u8,
                _ => bytes[48 + value as usize % 16] = (value >> 8) as u8,
            }
        }
    }

    /// What would last until somebody cancels it, or come without end, only where that is wanted; silence as
    /// well.
    fn tame(&mut self, bytes: &mut Bytes) {
        if !self.silent {
            bytes[1] &= !SKIP;
        }
        if !self.endless && bytes[0] == 11 && bytes[28] & MULTISHOT as u8 != 0 {
            let count = 1 + u64::from(bytes[8] % 4);
            bytes[8..16].copy_from_slice(&count.to_ne_bytes());
        }
    }

    /// Tells the arena and the ledger what may come of an entry.
    fn note(&mut self, bytes: &Bytes) {
        let [off, addr, third, user_data] = words(&bytes[8..40]);
        let (len, op_flags) = (u64::from(third as u32), (third >> 32) as u32);
        let fd = i32::from_ne_bytes(bytes[4..8].try_into().expect("four bytes"));
        let (mut most, mut free) = (1, false);
        match bytes[0] {
            0 => free = op_flags & 1 != 0,
            1 | 60 => self.name_vector(addr, len),
            4 | 22 => self.arena.name(addr, len),
            11 if op_flags & MULTISHOT != 0 => most = u32::MAX,
            20 => self.arena.name(addr, 4 * len),
            31 => self.arena.name(addr, len.saturating_mul(u64::from(fd.cast_unsigned()))),
            // Its completion on another ring, or a second one on this.
            40 => self.ledger.expect(off, 0, 2, true),
            46 => {
                let [data, lens] = words(&bytes[72..88]);
                if matches!(off as u32 & 0xff, 0x81 | 0x83) {
                    self.name_vector(data, lens >> 32);
                } else {
                    self.arena.name(data, lens >> 32);
                }
                // The status of the device.
                free = true;
            }
            _ => {}
        }
        let least = u32::from(bytes[1] & SKIP == 0);
        self.ledger.expect(user_data, least, most, free);
    }

    fn name_vector(&mut self, address: u64, count: u64) {
        for (first, len) in self.arena.pairs(address, count.min(1024)) {
            self.arena.name(first, len);
        }
    }

    /// An entry that a program could mean.
    fn sensible(&mut self) -> Bytes {
        let transfers: [u8; 12] = [4, 5, 4, 5, 4, 5, 22, 23, 1, 2, 60, 61];
        let others: [u8; 16] = [0, 0, 3, 8, 11, 11, 12, 14, 15, 17, 20, 24, 31, 32, 40, 46];
        let opcode = if self.one_in(3) { self.pick(&others) } else { self.pick(&transfers) };
        let (address, len) = self.buffer();
        let mut entry = Fields { opcode, flags: self.flags(), addr: address, len: len as u32, ..Fields::default() };
        entry.off = self.below(self.size / self.block) * self.block;
        if matches!(opcode, 1 | 2 | 3 | 4 | 5 | 8 | 17 | 22 | 23 | 24 | 46 | 60 | 61) {
            self.name_file(&mut entry);
        } else {
            entry.off = 0;
        }
        match opcode {
            4 | 5 | 60 | 61 => {
                let buffer = self.below(FIXED_BUFFERS);
                entry.buf_index = buffer as u16;
                if opcode < 60 {
                    let (first, room) = self.arena.stretch(buffer);
                    entry.len = (512 * (self.below(16) + 1)) as u32;
                    let at = self.below((room - u64::from(entry.len)) / 512 + 1) * 512;
                    entry.addr = first + at + if self.one_in(4) { 4 * self.below(128) } else { 0 };
                    if entry.addr + u64::from(entry.len) > first + room {
                        entry.addr = first;
                    }
                } else {
                    (entry.addr, entry.len) = self.vector();
                }
            }
            1 | 2 => (entry.addr, entry.len) = self.vector(),
            22 if self.one_in(3) => {
                (entry.addr, entry.flags) = (0, entry.flags | SELECT);
                entry.buf_index = self.below(GROUPS) as u16;
            }
            _ => self.complete(&mut entry),
        }
        let mut bytes = [0; 128];
        bytes[..64].copy_from_slice(&entry.bytes());
        if opcode == 46 && entry.off == 0xc048_4e80 {
            self.command(&mut bytes);
        }
        bytes
    }

    fn flags(&mut self) -> u8 {
        match self.below(16) {
            0 => DRAIN,
            1..=3 => LINK,
            4 => HARDLINK,
            5 => SKIP,
            6 => 16,
            _ => 0,
        }
    }

    fn name_file(&mut self, entry: &mut Fields) {
        if self.one_in(5) {
            entry.fd = self.files[0];
        } else {
            entry.flags |= FIXED_FILE;
        }
    }

    /// The operations that move no data.
    fn complete(&mut self, entry: &mut Fields) {
        match entry.opcode {
            0 => (entry.addr, entry.len) = (0, 0),
            3 | 8 => (entry.addr, entry.len, entry.off) = (0, if entry.opcode == 3 { 0 } else { 4096 }, 0),
            11 | 15 => {
                (entry.addr, entry.len) = (self.time(), 1);
                if entry.opcode == 11 {
                    entry.off = self.pick(&[0, 0, 1, 2, 5]);
                }
                entry.op_flags = self.pick(&[0, 0, 0, 1, 4, 8, 32, MULTISHOT]);
            }
            12 => {
                (entry.addr, entry.len) = (FIRST + self.below(64), 0);
                entry.op_flags = self.pick(&[0, 0, 2, 16, 3]);
                entry.off = if entry.op_flags == 0 { 0 } else { self.time() };
            }
            14 => {
                (entry.addr, entry.len) = (FIRST + self.below(64), 0);
                entry.op_flags = self.pick(&[0, 1, 2, 4, 16, 32]);
            }
            // KEEP_SIZE with PUNCH_HOLE or ZERO_RANGE; the length stands in `addr`.
            17 => (entry.addr, entry.len) = (4096, self.pick(&[3, 17, 16, 0])),
            20 => {
                (entry.addr, entry.len) = (self.descriptors, self.below(5) as u32 + 1);
                entry.off = self.pick(&[0, 1, 2, u64::from(u32::MAX)]);
            }
            31 => {
                let count = self.below(8) + 1;
                entry.fd = count as i32;
                let (first, room) = self.arena.stretch(entry.addr >> 16);
                (entry.addr, entry.len) = (first, (room / count).min(4096) as u32 & !511);
                entry.buf_index = 0;
                entry.off = self.below(100);
            }
            32 => (entry.addr, entry.len, entry.fd) = (0, 0, 1 + self.below(4) as i32),
            40 => {
                let files = self.files.clone();
                entry.fd = self.pick(&files);
                (entry.addr, entry.len) = (self.below(2), 0);
                entry.off = self.ledger.fresh();
                entry.file_index = self.pick(&[0, 0, 1, u32::MAX]);
            }
            46 => {
                entry.len = 0;
                if self.one_in(2) {
                    entry.off = 0xc048_4e80;
                } else {
                    (entry.off, entry.addr, entry.addr3) = (0x1200, self.block * self.below(64), 4096);
                }
            }
            _ => {}
        }
    }

    /// An NVMe read or write.
    fn command(&mut self, bytes: &mut Bytes) {
        let (address, len) = self.buffer();
        let len = len.min(32768) / self.block * self.block;
        let first = self.below(self.size / self.block);
        bytes[48..].fill(0);
        bytes[48] = self.pick(&[0, 1, 2, 2, 2, 5, 8]);
        bytes[52..56].copy_from_slice(&1u32.to_ne_bytes());
        bytes[72..80].copy_from_slice(&address.to_ne_bytes());
        bytes[84..88].copy_from_slice(&(len as u32).to_ne_bytes());
        bytes[88..92].copy_from_slice(&(first as u32).to_ne_bytes());
        let blocks = (len / self.block).saturating_sub(1) as u32;
        bytes[96..100].copy_from_slice(&blocks.to_ne_bytes());
    }
}

/// 64-bit words.
fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    std::array::from_fn(|i| u64::from_ne_bytes(bytes[8 * i..8 * i + 8].try_into().expect("eight bytes")))
}
