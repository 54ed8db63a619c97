//! What `io_uring_setup` takes and answers, and the layout of the ring memory.

use super::flags::{
    IORING_SETUP_ATTACH_WQ, IORING_SETUP_CLAMP, IORING_SETUP_COOP_TASKRUN, IORING_SETUP_CQE_MIXED, IORING_SETUP_CQE32,
    IORING_SETUP_CQSIZE, IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_HYBRID_IOPOLL, IORING_SETUP_IOPOLL,
    IORING_SETUP_NO_MMAP, IORING_SETUP_NO_SQARRAY, IORING_SETUP_REGISTERED_FD_ONLY, IORING_SETUP_SINGLE_ISSUER,
    IORING_SETUP_SQ_AFF, IORING_SETUP_SQE128, IORING_SETUP_SQPOLL, IORING_SETUP_TASKRUN_FLAG,
};
use super::op::{IORING_MAX_CQ_ENTRIES, IORING_MAX_ENTRIES};

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

/// Features of a ring on devices (`IORING_FEAT_*`), of those that kernel 6.18 has: `SINGLE_MMAP`, `NODROP`,
/// `SUBMIT_STABLE`, `RW_CUR_POS`, `EXT_ARG`, `RSRC_TAGS`, `CQE_SKIP`, `LINKED_FILE`, `REG_REG_RING`,
/// `MIN_TIMEOUT`, `NO_IOWAIT`. Not those of forwarded operations, of credentials, of polling threads, and of
/// protection information.
pub const FEATURES: u32 = 0b1111 | 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 15 | 1 << 17;

/// All set-up flags of kernel 6.18.
pub(crate) const SETUP_FLAGS: u32 = (IORING_SETUP_CQE_MIXED << 1) - 1;

/// Of those, the ones that rings on devices do not serve: a polling thread, its processor, and shared workers.
pub const UNSERVED_SETUP_FLAGS: u32 = IORING_SETUP_SQPOLL | IORING_SETUP_SQ_AFF | IORING_SETUP_ATTACH_WQ;

/// Checks set-up flags as kernel 6.18 does (`io_uring_sanitise_params`). Every refusal is an `EINVAL`.
///
/// # Errors
/// What is wrong with them.
pub fn check_setup_flags(flags: u32) -> Result<(), &'static str> {
    let has = |flag| flags & flag != 0;
    if flags & !SETUP_FLAGS != 0 {
        return Err("there are set-up flags that kernel 6.18 does not know");
    }
    if has(IORING_SETUP_REGISTERED_FD_ONLY) && !has(IORING_SETUP_NO_MMAP) {
        return Err("REGISTERED_FD_ONLY needs NO_MMAP");
    }
    if has(IORING_SETUP_SQPOLL)
        && has(IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_DEFER_TASKRUN)
    {
        return Err("SQPOLL goes with none of COOP_TASKRUN, TASKRUN_FLAG, DEFER_TASKRUN");
    }
    if has(IORING_SETUP_TASKRUN_FLAG) && !has(IORING_SETUP_COOP_TASKRUN | IORING_SETUP_DEFER_TASKRUN) {
        return Err("TASKRUN_FLAG needs COOP_TASKRUN or DEFER_TASKRUN");
    }
    if has(IORING_SETUP_HYBRID_IOPOLL) && !has(IORING_SETUP_IOPOLL) {
        return Err("HYBRID_IOPOLL needs IOPOLL");
    }
    if has(IORING_SETUP_DEFER_TASKRUN) && !has(IORING_SETUP_SINGLE_ISSUER) {
        return Err("DEFER_TASKRUN needs SINGLE_ISSUER");
    }
    if has(IORING_SETUP_CQE32) && has(IORING_SETUP_CQE_MIXED) {
        return Err("completion entries are either of 32 bytes or of both lengths");
    }
    Ok(())
}

impl Params {
    /// Sizes and offsets for a ring of `entries`, as the kernel would answer them.
    ///
    /// `cq_entries` counts if `flags` hold `CQSIZE`.
    ///
    /// # Errors
    /// `EINVAL`, as the kernel: flags that do not go together, 0 entries, too many without `CLAMP`, a
    /// completion ring smaller than the submission ring. `EOVERFLOW`: no place for an entry of 32 bytes
    /// (`CQE_MIXED`).
    pub fn layout(entries: u32, cq_entries: u32, flags: u32) -> Result<Self, i32> {
        check_setup_flags(flags).map_err(|_| libc::EINVAL)?;
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
        if flags & IORING_SETUP_CQE_MIXED != 0 && cq_entries < 2 {
            return Err(libc::EOVERFLOW);
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
        Ok(Self { sq_entries, cq_entries, flags, features: FEATURES, sq_off, cq_off, ..Self::default() })
    }

    /// As the 30 words in memory.
    pub(crate) fn words(&self) -> [u32; 30] {
        let halves = |wide: u64| [wide as u32, (wide >> 32) as u32];
        let mut words = [0; 30];
        words[..7].copy_from_slice(&[
            self.sq_entries,
            self.cq_entries,
            self.flags,
            self.sq_thread_cpu,
            self.sq_thread_idle,
            self.features,
            self.wq_fd,
        ]);
        let (sq, cq) = (&self.sq_off, &self.cq_off);
        words[10..18].copy_from_slice(&[
            sq.head,
            sq.tail,
            sq.ring_mask,
            sq.ring_entries,
            sq.flags,
            sq.dropped,
            sq.array,
            0,
        ]);
        words[18..20].copy_from_slice(&halves(sq.user_addr));
        words[20..28].copy_from_slice(&[
            cq.head,
            cq.tail,
            cq.ring_mask,
            cq.ring_entries,
            cq.overflow,
            cq.cqes,
            cq.flags,
            0,
        ]);
        words[28..].copy_from_slice(&halves(cq.user_addr));
        words
    }

    /// What a program asks for in such words: sizes, flags, addresses.
    pub(crate) fn of_words(words: &[u32; 30]) -> Self {
        let wide = |at: usize| u64::from(words[at]) | u64::from(words[at + 1]) << 32;
        Self {
            sq_entries: words[0],
            cq_entries: words[1],
            flags: words[2],
            sq_off: SqRingOffsets { user_addr: wide(18), ..SqRingOffsets::default() },
            cq_off: CqRingOffsets { user_addr: wide(28), ..CqRingOffsets::default() },
            ..Self::default()
        }
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
