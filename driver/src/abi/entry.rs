//! Submission and completion entries.

#![expect(unsafe_code)] // owns the conversions to and from the io-uring crate's entry types

use std::mem::{offset_of, transmute};

use io_uring::{cqueue, squeue};

/// A submission entry: `struct io_uring_sqe` with the names of the members the device operations use.
///
/// 64 bytes, aligned to 8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[expect(missing_docs)] // the names are the header's
pub struct Sqe {
    pub opcode: u8,
    pub flags: u8,
    pub ioprio: u16,
    pub fd: i32,
    pub off: u64,
    pub addr: u64,
    pub len: u32,
    /// `rw_flags`, `fsync_flags`, `nop_flags`: by opcode.
    pub op_flags: u32,
    pub user_data: u64,
    pub buf_index: u16,
    pub personality: u16,
    /// `splice_fd_in`, `file_index`: by opcode.
    pub file_index: u32,
    /// `addr3`, `attr_ptr`: by opcode.
    pub addr3: u64,
    /// `attr_type_mask` of reads and writes (6.14); otherwise reserved.
    pub attr_type_mask: u64,
}

const _: () = assert!(size_of::<Sqe>() == 64 && align_of::<Sqe>() == 8);
const _: () = assert!(offset_of!(Sqe, user_data) == 32 && offset_of!(Sqe, addr3) == 48);

/// A completion entry: `struct io_uring_cqe`.
///
/// 16 bytes, aligned to 8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[expect(missing_docs)] // the names are the header's
pub struct Cqe {
    pub user_data: u64,
    pub res: i32,
    pub flags: u32,
}

const _: () = assert!(size_of::<Cqe>() == 16 && align_of::<Cqe>() == 8);

// The io-uring crate's entries are `repr(C)` wrappers of the same structures with private fields.
const _: () = assert!(size_of::<squeue::Entry>() == 64 && align_of::<squeue::Entry>() == 8);
const _: () = assert!(size_of::<cqueue::Entry>() == 16 && align_of::<cqueue::Entry>() == 8);
// The large ones are those with as many bytes more, of integers as well.
const _: () = assert!(size_of::<squeue::Entry128>() == 128 && align_of::<squeue::Entry128>() == 8);
const _: () = assert!(size_of::<cqueue::Entry32>() == 32 && align_of::<cqueue::Entry32>() == 8);

impl From<&squeue::Entry> for Sqe {
    #[inline]
    fn from(entry: &squeue::Entry) -> Self {
        // SAFETY: `squeue::Entry` is `#[repr(C)]` over `io_uring_sqe`: 64 initialised bytes (asserted
        // above), and every bit pattern is an `Sqe`.
        unsafe { (&raw const *entry).cast::<Self>().read() }
    }
}

/// Eight 64-bit words of an entry from word `FROM` on, word by word: what a builder has made of constants
/// stays constants, and the engine reads each word as it was written.
#[inline]
pub(crate) fn words<E: squeue::EntryMarker, const FROM: usize>(entry: &E) -> [u64; 8] {
    let first = (&raw const *entry).cast::<u64>();
    std::array::from_fn(|i| match FROM + i {
        // SAFETY: a word of the entry, which is initialised and aligned to 8 (asserted above of both types).
        n if 8 * n < size_of::<E>() => unsafe { first.add(n).read() },
        _ => 0,
    })
}

impl From<[u64; 8]> for Sqe {
    #[inline]
    fn from(words: [u64; 8]) -> Self {
        // SAFETY: same size (checked by transmute), and every bit pattern is an `Sqe`.
        unsafe { transmute::<[u64; 8], Self>(words) }
    }
}

impl From<Sqe> for squeue::Entry {
    #[inline]
    fn from(sqe: Sqe) -> Self {
        // SAFETY: same size (checked by transmute), integers only on both sides.
        unsafe { transmute::<Sqe, Self>(sqe) }
    }
}

impl From<Cqe> for cqueue::Entry {
    #[inline]
    fn from(cqe: Cqe) -> Self {
        // SAFETY: `cqueue::Entry` is `#[repr(C)]` over `io_uring_cqe`: integers only on both sides.
        unsafe { transmute::<Cqe, Self>(cqe) }
    }
}

#[cfg(test)]
mod tests {
    use io_uring::{opcode, types};

    use super::*;

    #[test]
    fn the_builders_of_the_io_uring_crate_arrive_field_by_field() {
        let entry = opcode::WriteFixed::new(types::Fixed(7), 0x1000 as *const u8, 512, 3)
            .offset(1 << 40)
            .rw_flags(2)
            .build()
            .user_data(0xfeed);
        let sqe = Sqe::from(&entry);
        let expected = Sqe {
            opcode: 5,
            flags: 1,
            fd: 7,
            off: 1 << 40,
            addr: 0x1000,
            len: 512,
            op_flags: 2,
            user_data: 0xfeed,
            buf_index: 3,
            ..Sqe::default()
        };
        assert_eq!(sqe, expected);
        assert_eq!(Sqe::from(&squeue::Entry::from(sqe)), sqe);
    }

    #[test]
    fn completions_keep_their_fields() {
        let entry = cqueue::Entry::from(Cqe { user_data: 9, res: -5, flags: 0x30001 });
        assert_eq!((entry.user_data(), entry.result(), entry.flags()), (9, -5, 0x30001));
    }
}
