//! The way to one PCI function.

#![expect(unsafe_code)] // owns the contract between drivers and transports

use std::fmt::Debug;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use crate::{DmaError, Iova, IovaRange};

/// What a device may do with mapped memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Only read it (data of a write command, a list of pages).
    ToDevice,
    /// Read and write it.
    Both,
}

/// A PCI function: its registers, its view of memory, its interrupts.
///
/// Every method is cold. The data path takes [`doorbell`](Self::doorbell) pointers out once.
///
/// # Safety
/// Drivers rely on it: what [`doorbell`](Self::doorbell) answers is good for aligned volatile stores by any
/// thread for as long as the transport lives, and once [`unmap`](Self::unmap) has returned `Ok`, the
/// function does not reach that memory.
pub unsafe trait Transport: Send + Sync + Debug {
    /// The function's name as a user opens it, such as `pci:0000:00:04.0`.
    fn name(&self) -> String;

    /// Reads `data.len()` bytes of configuration space (PCI Local Bus 3.0, section 6.1).
    ///
    /// # Errors
    /// When the device or its transport is gone.
    fn read_config(&self, offset: u64, data: &mut [u8]) -> Result<(), DmaError>;

    /// Writes `data` into configuration space.
    ///
    /// # Errors
    /// When the device or its transport is gone.
    fn write_config(&self, offset: u64, data: &[u8]) -> Result<(), DmaError>;

    /// Reads a 32-bit register of BAR 0. All-ones when the device is gone.
    fn read32(&self, offset: u64) -> u32;

    /// Writes a 32-bit register of BAR 0.
    fn write32(&self, offset: u64, value: u32);

    /// The 32-bit register at `offset` of BAR 0 as a pointer for volatile stores, good for as long as
    /// the transport lives. `None` when that part of the BAR is not mapped.
    fn doorbell(&self, offset: u64) -> Option<NonNull<u32>>;

    /// The I/O virtual addresses the function may be given.
    fn iova_ranges(&self) -> Vec<IovaRange>;

    /// The smallest unit of memory that can be mapped, in bytes (a power of two).
    fn granule(&self) -> u64;

    /// Makes `len` bytes at `address` visible to the function at `iova`; all three are multiples of
    /// [`granule`](Self::granule).
    ///
    /// # Safety
    /// The range is memory of this process that nobody else frees or reuses before
    /// [`unmap`](Self::unmap), and nothing but atomics or volatile copies touches it while the device
    /// may write it.
    ///
    /// # Errors
    /// [`DmaError::LockedMemory`], [`DmaError::TooManyMappings`] or [`DmaError::Map`].
    unsafe fn map(&self, iova: Iova, address: NonNull<u8>, len: usize, direction: Direction) -> Result<(), DmaError>;

    /// Takes back exactly what was mapped.
    ///
    /// # Errors
    /// [`DmaError::Unmap`] when the transport removed another length.
    fn unmap(&self, iova: Iova, len: usize) -> Result<(), DmaError>;

    /// How many MSI-X vectors the function has; 0 when it has none.
    fn vectors(&self) -> u16;

    /// Connects vectors `start..` to event descriptors; `None` leaves a vector silent.
    ///
    /// # Errors
    /// [`DmaError::InterruptRemapping`] or [`DmaError::Vfio`].
    fn set_vectors(&self, start: u16, events: &[Option<BorrowedFd<'_>>]) -> Result<(), DmaError>;

    /// Resets the function (a Function Level Reset where it has one). Every register, the command
    /// register of configuration space included, has its reset value afterwards, except that bus
    /// mastering and memory space are enabled again.
    ///
    /// # Errors
    /// When the function cannot be reset or does not come back.
    fn reset(&self) -> Result<(), DmaError>;

    /// Whether the device works only as often as [`relax`](Self::relax) is called: a transport without
    /// hardware behind it. Default: false.
    fn needs_relax(&self) -> bool {
        false
    }

    /// Called by a thread that has found nothing to do and will look again. A transport without hardware
    /// behind it may work here.
    fn relax(&self) {
        std::hint::spin_loop();
    }

    /// Takes the function's right to reach memory away (bus mastering), for one that neither stops nor
    /// resets.
    ///
    /// # Errors
    /// When the device or its transport is gone.
    fn cut_off(&self) -> Result<(), DmaError>;

    /// True once the kernel asks for the function back (it is being removed) or reports a fatal error
    /// of the bus.
    fn removal_requested(&self) -> bool;
}
