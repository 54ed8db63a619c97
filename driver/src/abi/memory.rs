//! The memory of the rings: brought by the ring, by the kernel, or by the program.

#![expect(unsafe_code)] // owns the mappings

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use super::cells::Cells;
use super::flags::{
    IORING_SETUP_CQE_MIXED, IORING_SETUP_CQE32, IORING_SETUP_NO_MMAP, IORING_SETUP_NO_SQARRAY, IORING_SETUP_SQE128,
};
use super::params::Params;
use super::rings::RingView;
use crate::sync::{AtomicU32, Ordering};

/// The mappings behind a ring: both rings in one, the submission entries in the other.
#[derive(Debug)]
pub(crate) struct RingMemory {
    rings: Map,
    sqes: Map,
    view: RingView,
}

// SAFETY: ring memory is shared by design: indices are atomics, and entries are handed from one side to
// the other by Release and Acquire on them.
unsafe impl Send for RingMemory {}
#[derive(Debug)]
struct Map {
    base: NonNull<libc::c_void>,
    len: NonZeroUsize,
    /// It is the program's, and stays.
    borrowed: bool,
}

const PAGE: u64 = 4096;

impl Map {
    fn anonymous(len: usize) -> io::Result<Self> {
        let len = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { mmap_anonymous(None, len, access, MapFlags::MAP_PRIVATE | MapFlags::MAP_POPULATE) }?;
        Ok(Self { base, len, borrowed: false })
    }

    fn file(fd: BorrowedFd<'_>, offset: i64, len: usize) -> io::Result<Self> {
        let len = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: as above.
        let base = unsafe { mmap(None, len, access, MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE, fd, offset) }?;
        Ok(Self { base, len, borrowed: false })
    }

    /// Memory of the program's at a page (`NO_MMAP`).
    fn of_program(address: u64, len: usize) -> io::Result<Self> {
        let refused = |errno| io::Error::from_raw_os_error(errno);
        let base = NonNull::new(address as *mut libc::c_void).ok_or(refused(libc::EFAULT))?;
        let len = NonZeroUsize::new(len).ok_or(refused(libc::EINVAL))?;
        // As `io_create_region` and `io_pin_pages` look at it.
        let end = address.checked_add((len.get() as u64).next_multiple_of(PAGE)).ok_or(refused(libc::EOVERFLOW))?;
        match () {
            () if !address.is_multiple_of(PAGE) => Err(refused(libc::EINVAL)),
            () if end > crate::usermem::USER_END => Err(refused(libc::EFAULT)),
            () => Ok(Self { base, len, borrowed: true }),
        }
    }

    fn at<T>(&self, offset: u32, count: usize) -> io::Result<NonNull<T>> {
        let at = offset as usize;
        let inside = at + count * size_of::<T>() <= self.len.get() && at.is_multiple_of(align_of::<T>());
        if !inside {
            return Err(io::Error::other("ring offsets outside the ring memory"));
        }
        // SAFETY: checked to lie inside the mapping.
        Ok(unsafe { self.base.byte_add(at) }.cast())
    }

    fn index(&self, offset: u32) -> io::Result<NonNull<AtomicU32>> {
        self.indices(offset, 1)
    }

    #[cfg(not(all(test, loom)))]
    fn indices(&self, offset: u32, count: u32) -> io::Result<NonNull<AtomicU32>> {
        self.at(offset, count as usize)
    }

    /// An atomic of a model is longer than a word, so it stands elsewhere, for as long as the process lives.
    #[cfg(all(test, loom))]
    fn indices(&self, offset: u32, count: u32) -> io::Result<NonNull<AtomicU32>> {
        self.at::<u32>(offset, count as usize)?;
        let words = Vec::leak((0..count).map(|_| AtomicU32::new(0)).collect());
        Ok(NonNull::from(words).cast())
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if self.borrowed {
            return;
        }
        // SAFETY: made by `anonymous` or `file`, unmapped once; views are not used after their memory.
        let _ = unsafe { munmap(self.base, self.len.get()) };
    }
}

/// `IORING_OFF_SQ_RING` and `IORING_OFF_SQES`: offsets that select what to map.
const OFF_SQ_RING: i64 = 0;
const OFF_SQES: i64 = 0x1000_0000;

impl RingMemory {
    /// Memory laid out as `params` says, with masks and sizes filled in as the kernel does: new, or the
    /// program's, which promised it (`RingBuilder::ring_memory`).
    pub(crate) fn new(params: &Params) -> io::Result<Self> {
        let (rings, sqes) = (params.rings_len(), params.sqes_len());
        let memory = if params.flags & IORING_SETUP_NO_MMAP != 0 {
            let rings = Map::of_program(params.cq_off.user_addr, rings)?;
            Self::build(params, rings, Map::of_program(params.sq_off.user_addr, sqes)?)?
        } else {
            Self::build(params, Map::anonymous(rings)?, Map::anonymous(sqes)?)?
        };
        for (offset, value) in [
            (params.sq_off.ring_mask, params.sq_entries - 1),
            (params.sq_off.ring_entries, params.sq_entries),
            (params.cq_off.ring_mask, params.cq_entries - 1),
            (params.cq_off.ring_entries, params.cq_entries),
        ] {
            memory.word(offset)?.store(value, Ordering::Relaxed);
        }
        Ok(memory)
    }

    /// The memory of a kernel ring.
    pub(crate) fn of_kernel(ring: BorrowedFd<'_>, params: &Params) -> io::Result<Self> {
        if params.flags & IORING_SETUP_NO_MMAP != 0 {
            let rings = Map::of_program(params.cq_off.user_addr, params.rings_len())?;
            return Self::build(params, rings, Map::of_program(params.sq_off.user_addr, params.sqes_len())?);
        }
        let rings = Map::file(ring, OFF_SQ_RING, params.rings_len())?;
        Self::build(params, rings, Map::file(ring, OFF_SQES, params.sqes_len())?)
    }

    fn build(params: &Params, rings: Map, sqes: Map) -> io::Result<Self> {
        let no_array = params.flags & IORING_SETUP_NO_SQARRAY != 0;
        let array = if no_array { None } else { Some(rings.indices(params.sq_off.array, params.sq_entries)?) };
        let sqe_shift = u8::from(params.flags & IORING_SETUP_SQE128 != 0);
        let cqe32 = params.flags & IORING_SETUP_CQE32 != 0;
        let view = RingView {
            sq_head: rings.index(params.sq_off.head)?,
            sq_tail: rings.index(params.sq_off.tail)?,
            sq_flags: rings.index(params.sq_off.flags)?,
            sq_dropped: rings.index(params.sq_off.dropped)?,
            cq_head: rings.index(params.cq_off.head)?,
            cq_tail: rings.index(params.cq_off.tail)?,
            cq_overflow: rings.index(params.cq_off.overflow)?,
            cq_flags: rings.index(params.cq_off.flags)?,
            array,
            sqes: sqes.at(0, (params.sq_entries as usize) << sqe_shift)?,
            cqes: rings.at(params.cq_off.cqes, (params.cq_entries as usize) << u8::from(cqe32))?,
            sq_mask: params.sq_entries - 1,
            cq_mask: params.cq_entries - 1,
            sqe_shift,
            cqe32,
            mixed: params.flags & IORING_SETUP_CQE_MIXED != 0,
            cells: Cells::new(params),
        };
        if let Some(array) = array {
            // As the io-uring crate does: entry i of the array names submission entry i.
            for i in 0..params.sq_entries {
                // SAFETY: `rings.at` checked room for `sq_entries` words.
                unsafe { array.add(i as usize).as_ref() }.store(i, Ordering::Relaxed);
            }
        }
        Ok(Self { rings, sqes, view })
    }

    pub(super) fn word(&self, offset: u32) -> io::Result<&atomic::AtomicU32> {
        // SAFETY: inside the mapping, which lives as long as `self`; only ever accessed as an atomic.
        self.rings.at::<atomic::AtomicU32>(offset, 1).map(|p| unsafe { p.as_ref() })
    }

    /// Good for as long as `self` lives.
    pub(crate) fn view(&self) -> RingView {
        self.view
    }

    /// Where both rings are, and the submission entries, with their lengths in bytes.
    pub(crate) fn parts(&self) -> [(NonNull<u8>, usize); 2] {
        [&self.rings, &self.sqes].map(|map| (map.base.cast(), map.len.get()))
    }

    /// Bytes of all mappings.
    pub(crate) fn len_bytes(&self) -> usize {
        self.rings.len.get() + self.sqes.len.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_sizes_stand_in_memory_as_the_kernel_writes_them() {
        let params = Params::layout(8, 0, 0).unwrap();
        let memory = RingMemory::new(&params).unwrap();
        let read = |offset| memory.word(offset).unwrap().load(Ordering::Relaxed);
        assert_eq!([read(16), read(20), read(24), read(28)], [7, 15, 8, 16]);
        assert_eq!([read(0), read(4), read(8), read(12)], [0; 4]);
        assert!(!memory.view().is_plain());
        assert!(memory.word(1 << 20).is_err());
    }
}
