//! Registers of a device, mapped into this process.

#![expect(unsafe_code)] // owns mappings of device registers and every cold access to them

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};

use crate::fork;

/// One mapped stretch of a BAR. Unmapped when dropped.
#[derive(Debug)]
pub struct MmioWindow {
    /// Where in the BAR the stretch begins.
    bar_offset: u64,
    base: NonNull<c_void>,
    len: usize,
    /// The process that has it mapped.
    generation: u32,
}

// SAFETY: the mapping belongs to the process, not to a thread; accesses are single volatile loads and
// stores of device registers, whose order among threads is the device driver's business.
unsafe impl Send for MmioWindow {}
// SAFETY: as above.
unsafe impl Sync for MmioWindow {}

impl MmioWindow {
    /// Maps `len` bytes of `fd` from `file_offset`, which stand at `bar_offset` of the BAR.
    ///
    /// # Errors
    /// What `mmap` answers.
    pub fn map(fd: impl AsFd, file_offset: i64, bar_offset: u64, len: NonZeroUsize) -> nix::Result<Self> {
        // SAFETY: a new shared mapping at an address the kernel chooses cannot alias memory of this
        // program.
        let base = unsafe {
            mmap(None, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, fd, file_offset)
        }?;
        let window = Self { bar_offset, base, len: len.get(), generation: fork::generation() };
        // SAFETY: exactly the mapping made above. A child of `fork` must not reach our doorbells.
        unsafe { madvise(base, len.get(), MmapAdvise::MADV_DONTFORK) }?;
        Ok(window)
    }

    fn pointer<T>(&self, bar_offset: u64) -> Option<NonNull<T>> {
        if self.generation != fork::current() {
            return None;
        }
        let at = usize::try_from(bar_offset.checked_sub(self.bar_offset)?).ok()?;
        let inside = at.checked_add(size_of::<T>())? <= self.len && at.is_multiple_of(size_of::<T>());
        // SAFETY: `at` and the size of T lie within the mapping, which lives as long as `self`.
        inside.then(|| unsafe { self.base.byte_add(at) }.cast())
    }
}

impl Drop for MmioWindow {
    fn drop(&mut self) {
        // A child of fork does not have the mapping, and may have something else at its address by now.
        if self.generation != fork::current() {
            return;
        }
        // SAFETY: the mapping was made in `map` and is unmapped once; whoever holds a pointer into it
        // keeps the `Transport` (and so this window) alive.
        if let Err(errno) = unsafe { munmap(self.base, self.len) } {
            tracing::error!(%errno, "cannot unmap device registers");
        }
    }
}

/// The registers of a BAR: one or more mapped stretches.
#[derive(Debug)]
pub struct Mmio {
    windows: Vec<MmioWindow>,
}

impl Mmio {
    /// The registers reachable through `windows`.
    #[must_use]
    pub fn new(windows: Vec<MmioWindow>) -> Self {
        Self { windows }
    }

    /// A pointer to the `T` at `offset`, or `None` when it is not mapped or not aligned to its size.
    /// It is good for volatile accesses for as long as `self` lives.
    #[must_use]
    pub fn pointer<T>(&self, offset: u64) -> Option<NonNull<T>> {
        self.windows.iter().find_map(|w| w.pointer(offset))
    }

    /// Reads the 32-bit register at `offset`.
    #[must_use]
    pub fn read32(&self, offset: u64) -> Option<u32> {
        // SAFETY: `pointer` checked range and alignment against a mapping that lives as long as `self`.
        self.pointer::<u32>(offset).map(|p| unsafe { p.read_volatile() })
    }

    /// Writes the 32-bit register at `offset`. `None` when it is not mapped.
    pub fn write32(&self, offset: u64, value: u32) -> Option<()> {
        // SAFETY: as in `read32`.
        self.pointer::<u32>(offset).map(|p| unsafe { p.write_volatile(value) })
    }
}
