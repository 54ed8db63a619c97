//! Memory of this process that devices may be given.

#![expect(unsafe_code)] // owns the mapping of DMA memory and hands out raw pointers into it

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MmapAdvise, madvise};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory, VolatileSlice};

use crate::{DmaError, fork};

/// Size of a page of this process and of the IOMMU's smallest unit on x86, in bytes.
pub(crate) const PAGE: usize = 4096;
const HUGE_PAGE: usize = 2 << 20;

/// Shared memory behind a `memfd`, zeroed, page aligned, not inherited by `fork`.
///
/// It is backed by 2 MiB pages where the system has some to give and the length is a multiple of
/// 2 MiB; otherwise by ordinary pages. A device sees it once it has a [`Mapping`](crate::Mapping).
#[derive(Debug)]
pub struct DmaRegion {
    memory: ManuallyDrop<MmapRegion>,
    /// The process that has it mapped.
    generation: u32,
    base: NonNull<u8>,
    huge: bool,
}

// SAFETY: the region owns its mapping, which belongs to the process and not to a thread; it gives out
// raw pointers and volatile slices only, never references.
unsafe impl Send for DmaRegion {}
// SAFETY: as above.
unsafe impl Sync for DmaRegion {}

impl DmaRegion {
    /// Allocates `len` bytes, rounded up to pages.
    ///
    /// # Errors
    /// [`DmaError::Allocate`] when `len` is 0 or the memory cannot be had.
    pub fn new(len: usize) -> Result<Self, DmaError> {
        let fail = |reason| DmaError::Allocate { len_bytes: len as u64, reason };
        let len_pages = len
            .checked_next_multiple_of(PAGE)
            .filter(|len| *len > 0 && isize::try_from(*len).is_ok())
            .ok_or_else(|| fail(io::Error::from_raw_os_error(libc::EINVAL)))?;
        if len_pages.is_multiple_of(HUGE_PAGE)
            && let Ok(region) = Self::with_flags(len_pages, MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB)
        {
            return Ok(region);
        }
        Self::with_flags(len_pages, MFdFlags::empty()).map_err(fail)
    }

    fn with_flags(len: usize, flags: MFdFlags) -> io::Result<Self> {
        let fd = memfd_create(c"dmaring", MFdFlags::MFD_CLOEXEC | flags)?;
        let file = File::from(fd);
        file.set_len(len as u64)?;
        // MAP_POPULATE makes a lack of huge pages an error here rather than a SIGBUS later.
        let memory = MmapRegion::build(
            Some(FileOffset::new(file, 0)),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_POPULATE,
        )
        .map_err(|e| match e {
            vm_memory::mmap::MmapRegionError::Mmap(reason) => reason,
            other => io::Error::other(other),
        })?;
        let base = NonNull::new(memory.as_ptr()).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: exactly the mapping made above; the child of a fork must not share device memory.
        unsafe { madvise(base.cast(), len, MmapAdvise::MADV_DONTFORK) }?;
        let (memory, generation) = (ManuallyDrop::new(memory), fork::generation());
        Ok(Self { memory, generation, base, huge: flags.contains(MFdFlags::MFD_HUGETLB) })
    }

    /// Length in bytes, a multiple of the page size.
    #[expect(clippy::len_without_is_empty)] // never empty
    #[must_use]
    pub fn len(&self) -> usize {
        self.memory.size()
    }

    /// The first byte. Good for volatile or atomic accesses for as long as the region lives.
    #[must_use]
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.base
    }

    /// Whether huge pages are behind it.
    #[must_use]
    pub fn is_huge(&self) -> bool {
        self.huge
    }

    /// The descriptor of the memory, for handing it to another process.
    ///
    /// # Panics
    /// Never: a region always has one.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.memory.file_offset().expect("built over a memfd").file().as_fd()
    }

    /// `len` bytes from `offset`, for copies that a device's writes cannot turn into undefined
    /// behaviour.
    ///
    /// # Panics
    /// When the range is not inside the region, or in a child of the process that made it, where it is not
    /// mapped: bugs of the caller, never of a device.
    #[must_use]
    pub fn slice(&self, offset: usize, len: usize) -> VolatileSlice<'_> {
        assert!(self.generation == fork::current(), "device memory is not inherited by a child of fork");
        self.memory.get_slice(offset, len).expect("a range inside the region")
    }
}

impl Drop for DmaRegion {
    fn drop(&mut self) {
        // A child of fork does not have the mapping, and may have something else at its address by now.
        if self.generation == fork::current() {
            // SAFETY: dropped once, here, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_zeroed_page_multiples_and_shared() {
        let region = DmaRegion::new(5000).unwrap();
        assert_eq!(region.len(), 8192);
        let mut data = [1u8; 8192];
        region.slice(0, 8192).copy_to(&mut data[..]);
        assert!(data.iter().all(|b| *b == 0));
        region.slice(4090, 3).copy_from(&[7u8, 8, 9][..]);
        let mut back = [0u8; 3];
        nix::sys::uio::pread(region.fd(), &mut back, 4090).unwrap();
        assert_eq!(back, [7, 8, 9]);
    }

    #[test]
    fn huge_pages_are_used_when_there_are_any_and_never_required() {
        let region = DmaRegion::new(2 << 20).unwrap();
        assert_eq!(region.len(), 2 << 20);
        assert_eq!(region.as_ptr().as_ptr() as usize % PAGE, 0);
    }

    #[test]
    fn a_child_that_drops_a_region_keeps_what_it_has_at_its_address() {
        let region = DmaRegion::new(PAGE).unwrap();
        let address = region.as_ptr().as_ptr();
        // SAFETY: the child makes system calls and leaves by _exit.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let (access, flags) =
                (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE);
            // SAFETY: a mapping where the child has none.
            let own = unsafe { libc::mmap(address.cast(), PAGE, access, flags, -1, 0) };
            drop(region);
            // SAFETY: only asks whether the page is mapped.
            let kept = unsafe { libc::msync(own, PAGE, libc::MS_ASYNC) } == 0;
            // SAFETY: ends the child at once, running no destructors.
            unsafe { libc::_exit(i32::from(own != address.cast() || !kept)) };
        }
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(status, 0);
    }

    #[test]
    fn absurd_lengths_are_errors() {
        assert!(DmaRegion::new(0).is_err());
        assert!(DmaRegion::new(usize::MAX).is_err());
        assert!(DmaRegion::new(usize::MAX / 2 - 4096).is_err());
    }
}
