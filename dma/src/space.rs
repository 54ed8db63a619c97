//! The address space of one function: which memory it sees where.

#![expect(unsafe_code)] // owns the pairing of memory and its mapping for a device

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::region::PAGE;
use crate::{Direction, DmaError, DmaRegion, Iova, IovaAllocator, Transport, fork};

/// The I/O virtual addresses of one function. Shared by everything that maps memory for it.
#[derive(Debug)]
pub struct AddressSpace {
    transport: Arc<dyn Transport>,
    iovas: Mutex<IovaAllocator>,
    /// The process whose memory is mapped.
    generation: u32,
}

/// Memory with a place in an address space. Dropping it takes the memory away from the device first
/// and lets go of the memory afterwards.
#[derive(Debug)]
pub struct Mapping {
    space: Arc<AddressSpace>,
    iova: Iova,
    address: u64,
    len: usize,
    /// Kept alive until the mapping is gone; `None` for memory that the program owns.
    region: Option<Arc<DmaRegion>>,
}

impl AddressSpace {
    /// The address space of the function behind `transport`.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>) -> Arc<Self> {
        let iovas = IovaAllocator::new(&transport.iova_ranges(), transport.granule());
        Arc::new(Self { transport, iovas: Mutex::new(iovas), generation: fork::generation() })
    }

    /// The function this is the address space of.
    #[must_use]
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    /// Shows a region to the device.
    ///
    /// # Errors
    /// As [`Transport::map`], and when no addresses are left.
    pub fn map(self: &Arc<Self>, region: Arc<DmaRegion>, direction: Direction) -> Result<Mapping, DmaError> {
        let (address, len) = (region.as_ptr(), region.len());
        // SAFETY: the mapping keeps the region alive until after it is unmapped, and regions are only
        // ever touched by volatile or atomic accesses.
        let mut mapping = unsafe { self.map_raw(address, len, direction) }?;
        mapping.region = Some(region);
        Ok(mapping)
    }

    /// Shows memory of the program to the device; the range is widened to whole pages.
    ///
    /// # Safety
    /// The memory stays mapped in this process until the [`Mapping`] is dropped, and the program does
    /// not rely on its contents while the device may write it.
    ///
    /// # Errors
    /// As [`map`](Self::map).
    pub unsafe fn map_user(
        self: &Arc<Self>,
        address: NonNull<u8>,
        len: usize,
        direction: Direction,
    ) -> Result<Mapping, DmaError> {
        let start = address.addr().get() & !(PAGE - 1);
        let invalid = || DmaError::Map {
            address: address.addr().get() as u64,
            len_bytes: len as u64,
            reason: std::io::Error::from_raw_os_error(libc::EFAULT),
        };
        let end = address.addr().get().checked_add(len).and_then(|end| end.checked_next_multiple_of(PAGE));
        let pages = end.map(|end| end - start).filter(|pages| *pages > 0).ok_or_else(invalid)?;
        let first = std::num::NonZero::new(start).map(|start| address.with_addr(start)).ok_or_else(invalid)?;
        // SAFETY: the caller's promise covers the range; the pages around it are only made visible, the
        // device is never told to touch them.
        unsafe { self.map_raw(first, pages, direction) }
    }

    /// # Safety
    /// As [`Transport::map`], for as long as the returned mapping lives.
    unsafe fn map_raw(
        self: &Arc<Self>,
        address: NonNull<u8>,
        len: usize,
        direction: Direction,
    ) -> Result<Mapping, DmaError> {
        // Large mappings at a multiple of 2 MiB let the IOMMU use large pages.
        let align = if len >= 2 << 20 { 2 << 20 } else { PAGE as u64 };
        let iova = self.iovas().alloc(len as u64, align)?;
        // SAFETY: passed on from the caller.
        if let Err(error) = unsafe { self.transport.map(iova, address, len, direction) } {
            self.iovas().free(iova, len as u64);
            return Err(error);
        }
        Ok(Mapping { space: Arc::clone(self), iova, address: address.addr().get() as u64, len, region: None })
    }

    fn iovas(&self) -> MutexGuard<'_, IovaAllocator> {
        // A panic while the lock is held leaves the allocator consistent: it has no half-done states.
        self.iovas.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Mapping {
    /// Where the device sees the first byte.
    #[must_use]
    pub fn iova(&self) -> Iova {
        self.iova
    }

    /// Address of the first byte in this process.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Length in bytes.
    #[expect(clippy::len_without_is_empty)] // never empty
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// What to add (wrapping) to an address of this process to get the device's.
    #[must_use]
    pub fn delta(&self) -> u64 {
        self.iova.get().wrapping_sub(self.address)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // In a child of fork the mapping is still the parent's.
        if self.space.generation != fork::current() {
            return;
        }
        match self.space.transport.unmap(self.iova, self.len) {
            Ok(()) => self.space.iovas().free(self.iova, self.len as u64),
            Err(error) => {
                // The device may still reach the memory: neither the address nor the memory is reused.
                tracing::error!(%error, "leaking DMA memory that could not be unmapped");
                std::mem::forget(self.region.take());
            }
        }
    }
}
