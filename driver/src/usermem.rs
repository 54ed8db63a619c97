//! The one place that reads and writes the program's memory for the engine.
//!
//! An SQE names memory by address, as with the kernel. Unlike the kernel, a library cannot find out
//! cheaply whether an address is good: whoever pushes an SQE promises it (`push` is unsafe), and that
//! promise is what every access here rests on. Addresses that cannot be right (null page, the kernel's
//! half, a range that wraps) are refused all the same, with `EFAULT`.

#![expect(unsafe_code)] // owns every access to memory that the program named in an SQE

use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use vm_memory::VolatileSlice;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::nvme::Segment;

/// End of user addresses on x86-64 with four-level page tables.
pub(crate) const USER_END: u64 = 1 << 47;
const NULL_PAGE: u64 = 4096;
const PAGE: u64 = 4096;

/// The right to access what the SQEs of one ring name.
#[derive(Debug)]
pub(crate) struct UserMemory {
    /// Every access asks the kernel whether the memory is there.
    strict: bool,
}

impl UserMemory {
    /// Memory that is accessed as the program named it; or, if `strict`, through the kernel, so that a bad
    /// address is an `EFAULT`.
    ///
    /// # Safety
    /// Every SQE that reaches the ring names memory that is valid, as its operation uses it, from
    /// submission to completion. The `unsafe fn push` of the ring passes this duty to the program. Of a
    /// strict one, that the memory stays as it is from the check to the completion.
    pub(crate) unsafe fn promised(strict: bool) -> Self {
        Self { strict }
    }

    /// Whether a device may read a range of the program's memory, or write to it.
    #[inline]
    pub(crate) fn is_usable(&self, address: u64, len: u64, write: bool) -> bool {
        self.plausible(address, len) && (!self.strict || populate(address, len, write))
    }

    /// A copy of what stands at `address`. `None` when that cannot be memory (`EFAULT`).
    pub(crate) fn read<T: FromBytes + IntoBytes>(&self, address: u64) -> Option<T> {
        let mut value = T::new_zeroed();
        self.read_bytes(address, value.as_mut_bytes())?;
        Some(value)
    }

    /// As [`read`](Self::read), of `count` values that follow each other.
    pub(crate) fn read_many<T: FromBytes + IntoBytes>(&self, address: u64, count: usize) -> Option<Vec<T>> {
        let values = (0..count).map(|i| self.read(address.checked_add((i * size_of::<T>()) as u64)?));
        values.collect()
    }

    /// Writes values at `address`. `None` when that cannot be memory (`EFAULT`).
    pub(crate) fn write<T: IntoBytes + Immutable>(&self, address: u64, values: &[T]) -> Option<()> {
        let bytes = values.as_bytes();
        if !self.plausible(address, bytes.len() as u64) {
            return None;
        }
        if self.strict {
            let there = [RemoteIoVec { base: address as usize, len: bytes.len() }];
            let here = [std::io::IoSlice::new(bytes)];
            return (process_vm_writev(Pid::this(), &here, &there).ok()? == bytes.len()).then_some(());
        }
        // SAFETY: as many bytes at `address` are writable, by the program's promise; `bytes` are our own.
        unsafe { (address as *mut u8).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Some(())
    }

    fn read_bytes(&self, address: u64, to: &mut [u8]) -> Option<()> {
        if !self.plausible(address, to.len() as u64) {
            return None;
        }
        if self.strict {
            let there = [RemoteIoVec { base: address as usize, len: to.len() }];
            let len = to.len();
            let here = &mut [std::io::IoSliceMut::new(to)];
            return (process_vm_readv(Pid::this(), here, &there).ok()? == len).then_some(());
        }
        // SAFETY: as many bytes at `address` are readable, by the program's promise; `to` is our own.
        unsafe { (address as *const u8).copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
        Some(())
    }

    /// The index of a ring of buffers that the program has published.
    pub(crate) fn read_u16(&self, address: u64) -> Option<u16> {
        if self.strict || !address.is_multiple_of(2) {
            return self.read(address);
        }
        if !self.plausible(address, 2) {
            return None;
        }
        // SAFETY: aligned, and by the program's promise there for as long as the ring is registered; the
        // program accesses it as an atomic as well.
        let index = unsafe { AtomicU16::from_ptr(address as *mut u16) };
        // Pairs with the Release of the program: the entries below it are complete.
        Some(index.load(Ordering::Acquire))
    }

    /// Whether a range can be memory of a program at all.
    pub(crate) fn plausible(&self, address: u64, len: u64) -> bool {
        len == 0 || (address >= NULL_PAGE && address.checked_add(len).is_some_and(|end| end <= USER_END))
    }

    /// Whether a range is in the program's half of the address space (`access_ok`).
    pub(crate) fn addressable(&self, address: u64, len: u64) -> bool {
        address.checked_add(len).is_some_and(|end| end <= USER_END)
    }

    /// Copies `count` `struct iovec` into `segments`. `None` when they cannot be memory (`EFAULT`).
    pub(crate) fn read_iovecs(&self, address: u64, count: u32, segments: &mut Vec<Segment>) -> Option<()> {
        segments.clear();
        if !self.plausible(address, 16 * u64::from(count)) {
            return None;
        }
        for i in 0..u64::from(count) {
            let [address, len] = self.read::<[u64; 2]>(address + 16 * i)?;
            segments.push(Segment { address, len, delta: None });
        }
        Some(())
    }

    /// Copies from the program's memory.
    pub(crate) fn copy_in(&self, address: u64, to: &VolatileSlice<'_>) {
        // SAFETY: as many bytes at `address` are readable until the completion, by the program's promise.
        let from = unsafe { VolatileSlice::new(address as *mut u8, to.len()) };
        from.copy_to_volatile_slice(to.offset(0).expect("the whole slice"));
    }

    /// Copies into the program's memory.
    pub(crate) fn copy_out(&self, from: &VolatileSlice<'_>, address: u64) {
        // SAFETY: as many bytes at `address` are writable until the completion, by the program's promise.
        let to = unsafe { VolatileSlice::new(address as *mut u8, from.len()) };
        from.copy_to_volatile_slice(to);
    }
}

/// Brings the pages of a range in, to be written or to be read. False when they are not there, or not for
/// that (`MADV_POPULATE_WRITE`, `MADV_POPULATE_READ`, 5.14).
fn populate(address: u64, len: u64, write: bool) -> bool {
    if len == 0 {
        return true;
    }
    let start = address & !(PAGE - 1);
    let Some(first) = NonNull::new(start as *mut libc::c_void) else { return false };
    let advice = if write { MmapAdvise::MADV_POPULATE_WRITE } else { MmapAdvise::MADV_POPULATE_READ };
    // SAFETY: populating changes no contents of any memory.
    unsafe { madvise(first, (address + len - start) as usize, advice) }.is_ok()
}

/// Memory that the engine has brought for the program to write: a ring of buffers.
#[derive(Debug)]
pub(crate) struct OwnMemory {
    start: NonNull<libc::c_void>,
    len: NonZeroUsize,
}

// SAFETY: the mapping is this value's alone and has no ties to a thread.
unsafe impl Send for OwnMemory {}

impl OwnMemory {
    /// Zeroed memory of at least `len` bytes, page aligned.
    pub(crate) fn new(len: usize) -> std::io::Result<Self> {
        let len = NonZeroUsize::new(len.next_multiple_of(PAGE as usize)).ok_or(std::io::ErrorKind::InvalidInput)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { mmap_anonymous(None, len, access, MapFlags::MAP_PRIVATE) }?;
        Ok(Self { start, len })
    }

    pub(crate) fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }
}

impl Drop for OwnMemory {
    fn drop(&mut self) {
        // SAFETY: made by `new`, unmapped once; the program was told that it goes with the group.
        let _ = unsafe { munmap(self.start, self.len.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cannot_be_right_are_refused() {
        // SAFETY: nothing is accessed.
        let memory = unsafe { UserMemory::promised(false) };
        assert!(!memory.plausible(0, 1));
        assert!(!memory.plausible(u64::MAX, 1));
        assert!(!memory.plausible(USER_END - 1, 2));
        assert!(memory.plausible(USER_END - 1, 1));
        assert!(memory.plausible(0, 0));
        assert!(memory.read_iovecs(8, 1, &mut Vec::new()).is_none());
    }

    #[test]
    fn a_strict_one_finds_memory_that_is_not_there() {
        // SAFETY: nothing is accessed but through the kernel.
        let memory = unsafe { UserMemory::promised(true) };
        let own = OwnMemory::new(4096).unwrap();
        memory.write(own.address(), &[7u64, 8]).unwrap();
        assert_eq!(memory.read::<[u64; 2]>(own.address()), Some([7, 8]));
        assert!(memory.is_usable(own.address() + 4000, 96, true));
        let gone = own.address();
        drop(own);
        assert!(!memory.is_usable(gone, 1, false) && !memory.is_usable(gone, 1, true));
        assert_eq!(memory.read::<u64>(gone), None);
        assert_eq!(memory.write(gone, &[1u8]), None);
        let code = (populate as *const ()) as u64;
        assert!(memory.is_usable(code, 8, false) && !memory.is_usable(code, 8, true));
    }

    #[test]
    fn iovecs_are_copied() {
        // SAFETY: only the iovecs below are accessed.
        let memory = unsafe { UserMemory::promised(false) };
        let iovecs = [
            libc::iovec { iov_base: 0x1000 as *mut _, iov_len: 5 },
            libc::iovec { iov_base: 0x2000 as *mut _, iov_len: 0 },
        ];
        let mut segments = Vec::new();
        memory.read_iovecs(iovecs.as_ptr() as u64, 2, &mut segments).unwrap();
        assert_eq!(segments.iter().map(|s| (s.address, s.len)).collect::<Vec<_>>(), [(0x1000, 5), (0x2000, 0)]);
    }
}
