//! What `io_uring_setup` takes and answers, and the layout of the ring memory.

use super::op::{
    IORING_MAX_CQ_ENTRIES, IORING_MAX_ENTRIES, IORING_SETUP_CLAMP, IORING_SETUP_CQE32, IORING_SETUP_CQSIZE,
    IORING_SETUP_NO_SQARRAY, IORING_SETUP_SQE128,
};

/// `struct io_sqring_offsets`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[expect(missing_docs)] // the names are the header's
pub struct SqRingOffsets {
    pub head: u32,
    pub tail: u32,
    pub ring_mask: u32,
    pub ring_entries: u32,
    pub flags: u32,
    pub dropped: u32,
    pub array: u32,
    pub resv1: u32,
    pub user_addr: u64,
}

/// `struct io_cqring_offsets`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[expect(missing_docs)] // the names are the header's
pub struct CqRingOffsets {
    pub head: u32,
    pub tail: u32,
    pub ring_mask: u32,
    pub ring_entries: u32,
    pub overflow: u32,
    pub cqes: u32,
    pub flags: u32,
    pub resv1: u32,
    pub user_addr: u64,
}

/// `struct io_uring_params`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[expect(missing_docs)] // the names are the header's
pub struct Params {
    pub sq_entries: u32,
    pub cq_entries: u32,
    pub flags: u32,
    pub sq_thread_cpu: u32,
    pub sq_thread_idle: u32,
    pub features: u32,
    pub wq_fd: u32,
    pub resv: [u32; 3],
    pub sq_off: SqRingOffsets,
    pub cq_off: CqRingOffsets,
}

const _: () = assert!(size_of::<Params>() == 120);

/// Where the completion entries begin, in `struct io_rings` of the kernel.
const CQES: u32 = 64;

/// Where the memory of the completion entries ends. For large ones the kernel doubles all of it, with what
/// stands before them (`rings_size`).
const fn cqes_end(flags: u32, cq_entries: u32) -> u32 {
    (CQES + 16 * cq_entries) << (flags & IORING_SETUP_CQE32 != 0) as u32
}

impl Params {
    /// Sizes and offsets for a ring of `entries`, as the kernel would answer them.
    ///
    /// `flags` may hold `CQSIZE` (then `cq_entries` counts), `CLAMP`, `SQE128`, `CQE32` and `NO_SQARRAY`.
    ///
    /// # Errors
    /// `EINVAL`, as the kernel: 0 entries, too many without `CLAMP`, a completion ring smaller than
    /// the submission ring.
    pub fn layout(entries: u32, cq_entries: u32, flags: u32) -> Result<Self, i32> {
        let clamp = |n: u32, most: u32| match n {
            0 => Err(libc::EINVAL),
            n if n <= most => Ok(n),
            _ if flags & IORING_SETUP_CLAMP != 0 => Ok(most),
            _ => Err(libc::EINVAL),
        };
        let sq_entries = clamp(entries, IORING_MAX_ENTRIES)?.next_power_of_two();
        let cq_entries = if flags & IORING_SETUP_CQSIZE != 0 {
            clamp(cq_entries, IORING_MAX_CQ_ENTRIES)?.next_power_of_two()
        } else {
            2 * sq_entries
        };
        if cq_entries < sq_entries {
            return Err(libc::EINVAL);
        }
        let array = if flags & IORING_SETUP_NO_SQARRAY != 0 { 0 } else { cqes_end(flags, cq_entries) };
        let sq_off = SqRingOffsets {
            head: 0,
            tail: 4,
            ring_mask: 16,
            ring_entries: 24,
            dropped: 32,
            flags: 36,
            array,
            ..SqRingOffsets::default()
        };
        let cq_off = CqRingOffsets {
            head: 8,
            tail: 12,
            ring_mask: 20,
            ring_entries: 28,
            overflow: 44,
            cqes: CQES,
            flags: 40,
            ..CqRingOffsets::default()
        };
        Ok(Self { sq_entries, cq_entries, flags, sq_off, cq_off, ..Self::default() })
    }

    /// Bytes of the memory that holds both rings.
    #[must_use]
    pub fn rings_len(&self) -> usize {
        let cqes = cqes_end(self.flags, self.cq_entries) as usize;
        let array = if self.flags & IORING_SETUP_NO_SQARRAY != 0 {
            0
        } else {
            self.sq_off.array as usize + 4 * self.sq_entries as usize
        };
        cqes.max(array)
    }

    /// Bytes of the submission entries.
    #[must_use]
    pub fn sqes_len(&self) -> usize {
        let bytes = if self.flags & IORING_SETUP_SQE128 != 0 { 128 } else { 64 };
        bytes * self.sq_entries as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::sys;

    /// The kernel is the oracle of the layout.
    #[test]
    fn offsets_are_the_kernels() {
        for (entries, cq, flags) in [
            (8, 0, 0),
            (5, 0, 0),
            (1, 0, IORING_SETUP_NO_SQARRAY),
            (256, 0, IORING_SETUP_NO_SQARRAY),
            (100, 4096, IORING_SETUP_CQSIZE),
            (40_000, 0, IORING_SETUP_CLAMP),
            (8, 0, IORING_SETUP_SQE128),
            (8, 0, IORING_SETUP_CQE32),
            (8, 0, IORING_SETUP_CQE32 | IORING_SETUP_SQE128 | IORING_SETUP_NO_SQARRAY),
            (100, 4096, IORING_SETUP_CQSIZE | IORING_SETUP_CQE32),
            (40_000, 70_000, IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE),
        ] {
            let mut theirs = Params { flags, cq_entries: cq, ..Params::default() };
            let fd = match sys::setup(entries, &mut theirs) {
                Ok(fd) => fd,
                Err(error) => panic!("io_uring_setup({entries}) on this kernel: {error}"),
            };
            drop(fd);
            let ours = Params::layout(entries, cq, flags).unwrap();
            assert_eq!((ours.sq_entries, ours.cq_entries), (theirs.sq_entries, theirs.cq_entries));
            assert_eq!((ours.sq_off, ours.cq_off), (theirs.sq_off, theirs.cq_off), "{entries} {cq} {flags:#x}");
        }
    }

    #[test]
    fn bad_sizes_get_the_kernels_errno() {
        for (entries, cq, flags) in [
            (0, 0, 0),
            (40_000, 0, 0),
            (8, 4, IORING_SETUP_CQSIZE),
            (8, 0, IORING_SETUP_CQSIZE),
            (0, 0, IORING_SETUP_CLAMP),
        ] {
            let mut theirs = Params { flags, cq_entries: cq, ..Params::default() };
            let errno = sys::setup(entries, &mut theirs).unwrap_err().raw_os_error();
            assert_eq!(Params::layout(entries, cq, flags).unwrap_err(), errno.unwrap(), "{entries} {cq} {flags:#x}");
        }
    }
}
