//! The memory that a fuzzed program has, and whether anybody wrote where nobody said so.
//!
//! ```text
//!   guard | buffers | guard | … | buffers | guard | tables | guard | rings | guard | arguments | guard
//! ```
//! Guards cannot be accessed. Buffers hold bytes that no address and no length could be; what an entry names
//! is noted ([`Arena::name`]), and after a round everything else must be as it was. Tables (times, vectors,
//! descriptors) are read-only during a round, so what an entry names through them is known when it is made.
//! Rings of buffers and arguments of calls are written by the engine as well.

#![expect(unsafe_code)] // owns the mapping

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect};

pub(super) const PAGE: usize = 4096;
/// Stretches of buffers, and the pages of each.
const STRETCHES: usize = 8;
const STRETCH: usize = 16 * PAGE;
const TABLES: usize = 64 * PAGE;
const RINGS: usize = 8 * PAGE;
const ARGUMENTS: usize = 8 * PAGE;
/// Where the parts begin, behind the first guard.
const TABLES_AT: usize = PAGE + STRETCHES * (STRETCH + PAGE);
const RINGS_AT: usize = TABLES_AT + TABLES + PAGE;
const ARGUMENTS_AT: usize = RINGS_AT + RINGS + PAGE;
const LEN: usize = ARGUMENTS_AT + ARGUMENTS + PAGE;

/// The memory of one process that fuzzes; rounds use it one after the other.
#[derive(Debug)]
pub(super) struct Arena {
    start: NonNull<u8>,
    /// What a stretch of buffers holds when nobody has written to it.
    fresh: Vec<u8>,
    /// Ranges that may have been written to: offset and length.
    named: Vec<(usize, usize)>,
    /// Bytes of the tables, of the rings and of the arguments that are taken.
    used: [usize; 3],
}

impl Arena {
    /// Maps the memory, for as long as the process lives.
    pub(super) fn new() -> Self {
        let len = NonZeroUsize::new(LEN).expect("not 0");
        // SAFETY: a new mapping at an address of the kernel's choice, never unmapped.
        let start = unsafe { mmap_anonymous(None, len, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE) };
        let start = start.expect("memory for a fuzzed program").cast();
        let this = Self { start, fresh: fresh(), named: Vec::new(), used: [0; 3] };
        for stretch in 0..STRETCHES {
            this.protect(stretch_at(stretch), STRETCH, true);
            this.put(stretch_at(stretch), &this.fresh);
        }
        this.protect(RINGS_AT, RINGS, true);
        this.protect(ARGUMENTS_AT, ARGUMENTS, true);
        this
    }

    fn protect(&self, at: usize, len: usize, writable: bool) {
        let writes = if writable { ProtFlags::PROT_WRITE } else { ProtFlags::empty() };
        // SAFETY: a whole part of the arena, as all callers name it; references to it do not exist.
        let done = unsafe { mprotect(self.start.add(at).cast(), len, ProtFlags::PROT_READ | writes) };
        done.expect("protecting memory of the arena");
    }

    fn address(&self, at: usize) -> u64 {
        self.start.as_ptr() as u64 + at as u64
    }

    /// Offset of an address inside the arena.
    fn offset(&self, address: u64) -> Option<usize> {
        let at = address.checked_sub(self.start.as_ptr() as u64)?;
        usize::try_from(at).ok().filter(|at| *at < LEN)
    }

    fn put(&self, at: usize, bytes: &[u8]) {
        // SAFETY: writable parts of the arena, as all callers name them; `bytes` are elsewhere.
        unsafe { self.start.add(at).as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    fn get(&self, at: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        // SAFETY: readable parts of the arena, as all callers name them.
        unsafe { self.start.add(at).as_ptr().copy_to_nonoverlapping(bytes.as_mut_ptr(), len) };
        bytes
    }

    /// First address and bytes of a stretch of buffers.
    pub(super) fn stretch(&self, number: u64) -> (u64, u64) {
        (self.address(stretch_at(number as usize % STRETCHES)), STRETCH as u64)
    }

    /// An address that cannot be accessed, beside those that can.
    pub(super) fn guard(&self, number: u64) -> u64 {
        self.address(stretch_at(number as usize % STRETCHES) + STRETCH)
    }

    /// A new round: tables can be made.
    pub(super) fn open(&mut self) {
        self.named.clear();
        self.used = [0; 3];
        self.protect(TABLES_AT, TABLES, true);
    }

    /// The tables are complete.
    pub(super) fn seal(&self) {
        self.protect(TABLES_AT, TABLES, false);
    }

    fn take(&mut self, part: usize, (at, room): (usize, usize), bytes: &[u8], align: usize) -> u64 {
        let mut into = self.used[part].next_multiple_of(align);
        // From the beginning again: older contents are not needed any more.
        if into + bytes.len() > room {
            assert!(part != 0, "room for the tables of a round");
            into = 0;
        }
        self.used[part] = into + bytes.len();
        self.put(at + into, bytes);
        self.address(at + into)
    }

    /// Puts a table; answers its address.
    pub(super) fn table(&mut self, bytes: &[u8]) -> u64 {
        self.take(0, (TABLES_AT, TABLES), bytes, 16)
    }

    /// First address and bytes of all tables.
    pub(super) fn tables(&self) -> (u64, u64) {
        (self.address(TABLES_AT), TABLES as u64)
    }

    /// Zeroed pages for a ring of buffers.
    pub(super) fn ring(&mut self, bytes: &[u8]) -> u64 {
        self.take(1, (RINGS_AT, RINGS), bytes, PAGE)
    }

    /// Writes into memory that [`ring`](Self::ring) has given out.
    pub(super) fn put_in_ring(&self, address: u64, bytes: &[u8]) {
        let at = self.offset(address).filter(|at| (RINGS_AT..=RINGS_AT + RINGS - bytes.len()).contains(at));
        self.put(at.expect("an address of a ring"), bytes);
    }

    /// Puts the argument of a call; answers its address.
    pub(super) fn argument(&mut self, bytes: &[u8]) -> u64 {
        self.take(2, (ARGUMENTS_AT, ARGUMENTS), bytes, 16)
    }

    /// The pairs of words that stand in the tables at `address`, at most `count`.
    pub(super) fn pairs(&self, address: u64, count: u64) -> Vec<(u64, u64)> {
        let Some(at) = self.offset(address).filter(|at| (TABLES_AT..TABLES_AT + TABLES).contains(at)) else {
            return Vec::new();
        };
        let len = (TABLES_AT + TABLES - at).min(16 * count as usize) / 16 * 16;
        let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
        self.get(at, len).chunks(16).map(|pair| (word(&pair[..8]), word(&pair[8..]))).collect()
    }

    /// From now on a range may be written to.
    pub(super) fn name(&mut self, address: u64, len: u64) {
        let start = self.start.as_ptr() as u64;
        let (first, end) = (address.max(start), address.saturating_add(len).min(start + TABLES_AT as u64));
        if first < end {
            self.named.push(((first - start) as usize, (end - first) as usize));
        }
    }

    /// Gives everything that may have been written to its old contents. Fails when something else differs.
    pub(super) fn check(&mut self) -> Result<(), String> {
        for (at, len) in std::mem::take(&mut self.named) {
            for stretch in 0..STRETCHES {
                let (first, last) = (stretch_at(stretch), stretch_at(stretch) + STRETCH);
                let (from, to) = (at.max(first), (at + len).min(last));
                if from < to {
                    self.put(from, &self.fresh[from - first..to - first]);
                }
            }
        }
        for stretch in 0..STRETCHES {
            let now = self.get(stretch_at(stretch), STRETCH);
            if let Some(at) = (0..STRETCH).find(|at| now[*at] != self.fresh[*at]) {
                self.put(stretch_at(stretch), &self.fresh);
                let end = (at + 16).min(STRETCH);
                return Err(format!(
                    "memory that no entry has named was written to: {:#x} (stretch {stretch}, byte {at:#x}) holds {:02x?}",
                    self.address(stretch_at(stretch) + at),
                    &now[at..end],
                ));
            }
        }
        Ok(())
    }
}

fn stretch_at(number: usize) -> usize {
    PAGE + number * (STRETCH + PAGE)
}

/// Bytes of which each is above 0x80: in no eight of them is there an address of a program.
fn fresh() -> Vec<u8> {
    let mut bytes = crate::support::pattern::bytes(0xf0_0d, 0, STRETCH);
    bytes.iter_mut().for_each(|byte| *byte |= 0x80);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_beside_what_was_named_is_found() {
        let mut arena = Arena::new();
        arena.open();
        let (first, len) = arena.stretch(3);
        arena.name(first + 100, 50);
        arena.put(arena.offset(first + 100).unwrap(), &[0; 50]);
        assert_eq!(arena.check(), Ok(()));
        arena.name(first + 100, 50);
        arena.put(arena.offset(first + 150).unwrap(), &[0]);
        assert!(arena.check().unwrap_err().contains("stretch 3, byte 0x96"));
        assert_eq!(arena.check(), Ok(()), "put right");
        arena.name(first + len - 1, 1 << 40);
        arena.name(0, u64::MAX);
        arena.put(arena.offset(first + len - 1).unwrap(), &[0]);
        assert_eq!(arena.check(), Ok(()));
    }

    #[test]
    fn vectors_are_read_from_the_tables_only() {
        let mut arena = Arena::new();
        arena.open();
        let at = arena.table(&[7u64, 8, 9, 10].map(u64::to_ne_bytes).concat());
        assert_eq!(arena.pairs(at, 2), [(7, 8), (9, 10)]);
        assert_eq!(arena.pairs(arena.stretch(0).0, 2), []);
        assert_eq!(arena.pairs(8, 2), []);
    }
}
