//! A PCI function held through VFIO.

#![expect(unsafe_code)] // owns the device descriptor and the calls on it

use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_FLAG_CAPS, VFIO_REGION_INFO_FLAG_MMAP, vfio_device_info,
    vfio_region_info, vfio_region_info_cap_sparse_mmap,
};

use super::container::Container;
use super::group::Group;
use super::ioctl::{self, Answer};
use super::irq::Msix;
use super::removal::Removal;
use crate::mmio::{Mmio, MmioWindow};
use crate::pci::PciAddress;
use crate::sysfs::Sysfs;
use crate::{Direction, DmaError, Iova, IovaRange, Transport, fork};

/// Command register (PCI Local Bus 3.0, section 6.2.2): memory space, bus master, INTx disable.
const COMMAND: u64 = 0x04;
const MEMORY_SPACE: u16 = 1 << 1;
const BUS_MASTER: u16 = 1 << 2;
const INTX_DISABLE: u16 = 1 << 10;

/// Offset and size of a region inside the device descriptor.
#[derive(Clone, Copy, Debug)]
struct Region {
    offset: u64,
    size: u64,
}

/// A PCI function bound to `vfio-pci`, opened, with memory space and bus mastering enabled.
///
/// Dropping it stops bus mastering, frees the interrupts and lets go, in this order: registers,
/// device, group, container. The kernel resets the function on the last close.
#[derive(Debug)]
pub struct VfioDevice {
    address: PciAddress,
    bar: Mmio,
    config: Region,
    msix: Msix,
    resettable: bool,
    /// The process that opened the device; in a child of `fork` nothing is touched.
    generation: u32,
    /// Raised by the kernel: the function is wanted back, or its bus reported a fatal error.
    removal: Option<Removal>,
    device: File,
    // Field order is drop order: the group leaves the container last.
    _group: Group,
    container: Container,
}

impl VfioDevice {
    /// Opens the function at `address`.
    ///
    /// # Errors
    /// [`DmaError::NotBound`], [`DmaError::GroupNotViable`], [`DmaError::Busy`], [`DmaError::Open`]
    /// (permission), [`DmaError::Sysfs`] (no such function, no IOMMU), and what the calls answer.
    pub fn open(address: PciAddress) -> Result<Self, DmaError> {
        let sysfs = Sysfs::new();
        let group = Group::open(&sysfs, address)?;
        let container = Container::new(&group)?;
        let device = group.device(&sysfs)?;
        let mut info = vfio_device_info { argsz: size_of::<vfio_device_info>() as u32, ..Default::default() };
        // SAFETY: the structure outlives the call and has the size it says.
        unsafe { ioctl::device_get_info(device.as_raw_fd(), &raw mut info) }
            .map_err(|e| DmaError::Vfio { call: "VFIO_DEVICE_GET_INFO", reason: e.into() })?;
        if info.flags & VFIO_DEVICE_FLAGS_PCI == 0 {
            return Err(DmaError::Unsupported { address, what: "not a PCI function".into() });
        }
        let (config, _) = region(&device, VFIO_PCI_CONFIG_REGION_INDEX)?;
        let bar = map_bar(address, &device)?;
        let removal = Removal::watch(&device);
        let msix = Msix::new(&device)?;
        let resettable = info.flags & VFIO_DEVICE_FLAGS_RESET != 0;
        let this = Self {
            address,
            bar,
            config,
            msix,
            resettable,
            generation: fork::generation(),
            removal,
            device,
            _group: group,
            container,
        };
        // VFIO leaves bus mastering off (drivers/vfio/pci: vfio_pci_core_enable).
        this.set_command(MEMORY_SPACE | BUS_MASTER | INTX_DISABLE, 0)?;
        Ok(this)
    }

    /// The function's address.
    #[must_use]
    pub fn address(&self) -> PciAddress {
        self.address
    }

    fn set_command(&self, set: u16, clear: u16) -> Result<(), DmaError> {
        let mut bytes = [0; 2];
        self.read_config(COMMAND, &mut bytes)?;
        let command = (u16::from_le_bytes(bytes) | set) & !clear;
        self.write_config(COMMAND, &command.to_le_bytes())
    }
}

fn region(device: &File, index: u32) -> Result<(Region, Answer), DmaError> {
    let mut fixed = [0u8; size_of::<vfio_region_info>()];
    fixed[offset_of!(vfio_region_info, index)..][..4].copy_from_slice(&index.to_ne_bytes());
    // SAFETY: the type differs from the declared one only in being the start of the same bytes.
    let call = |fd, bytes: *mut u8| unsafe { ioctl::device_get_region_info(fd, bytes.cast()) };
    let answer = Answer::ask(device.as_fd(), &fixed, call)
        .map_err(|reason| DmaError::Vfio { call: "VFIO_DEVICE_GET_REGION_INFO", reason })?;
    let wide = |at| answer.u64(at).unwrap_or(0);
    let found =
        Region { offset: wide(offset_of!(vfio_region_info, offset)), size: wide(offset_of!(vfio_region_info, size)) };
    Ok((found, answer))
}

/// Maps what the kernel allows of BAR 0: all of it, or the stretches of its sparse list.
fn map_bar(address: PciAddress, device: &File) -> Result<Mmio, DmaError> {
    let (bar, answer) = region(device, VFIO_PCI_BAR0_REGION_INDEX)?;
    let flags = answer.u32(offset_of!(vfio_region_info, flags)).unwrap_or(0);
    if bar.size == 0 || flags & VFIO_REGION_INFO_FLAG_MMAP == 0 {
        return Err(DmaError::Unsupported { address, what: "BAR 0 cannot be mapped".into() });
    }
    let mut stretches = vec![(0, bar.size)];
    let first = answer.u32(offset_of!(vfio_region_info, cap_offset)).unwrap_or(0);
    if flags & VFIO_REGION_INFO_FLAG_CAPS != 0
        && let Some(at) = answer.capability(first, VFIO_REGION_INFO_CAP_SPARSE_MMAP)
    {
        let count = answer.u32(at + offset_of!(vfio_region_info_cap_sparse_mmap, nr_areas)).unwrap_or(0);
        let list = at + offset_of!(vfio_region_info_cap_sparse_mmap, areas);
        stretches = (0..count as usize)
            .map_while(|i| Some((answer.u64(list + 16 * i)?, answer.u64(list + 16 * i + 8)?)))
            .collect();
    }
    let map = |(offset, len): (u64, u64)| {
        let len = usize::try_from(len).ok().and_then(NonZeroUsize::new)?;
        let at = i64::try_from(bar.offset.checked_add(offset)?).ok()?;
        Some(MmioWindow::map(device, at, offset, len))
    };
    let windows: nix::Result<Vec<_>> = stretches.into_iter().filter_map(map).collect();
    windows.map(Mmio::new).map_err(|e| DmaError::Vfio { call: "mapping BAR 0", reason: e.into() })
}

// SAFETY: doorbells lie in mappings that go with `self` (`MmioWindow`); the IOMMU keeps the function from what
// is not mapped.
unsafe impl Transport for VfioDevice {
    fn name(&self) -> String {
        format!("pci:{}", self.address)
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) -> Result<(), DmaError> {
        let failed = |reason| DmaError::Vfio { call: "reading configuration space", reason };
        if offset.saturating_add(data.len() as u64) > self.config.size {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        }
        self.device.read_exact_at(data, self.config.offset + offset).map_err(failed)
    }

    fn write_config(&self, offset: u64, data: &[u8]) -> Result<(), DmaError> {
        let failed = |reason| DmaError::Vfio { call: "writing configuration space", reason };
        if offset.saturating_add(data.len() as u64) > self.config.size {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        }
        self.device.write_all_at(data, self.config.offset + offset).map_err(failed)
    }

    fn read32(&self, offset: u64) -> u32 {
        self.bar.read32(offset).unwrap_or(u32::MAX)
    }

    fn write32(&self, offset: u64, value: u32) {
        if self.bar.write32(offset, value).is_none() {
            tracing::error!(offset, "a register that is not mapped was written");
        }
    }

    fn doorbell(&self, offset: u64) -> Option<NonNull<u32>> {
        self.bar.pointer(offset)
    }

    fn iova_ranges(&self) -> Vec<IovaRange> {
        self.container.ranges().to_vec()
    }

    fn granule(&self) -> u64 {
        self.container.granule()
    }

    unsafe fn map(&self, iova: Iova, address: NonNull<u8>, len: usize, direction: Direction) -> Result<(), DmaError> {
        // SAFETY: passed on from the caller.
        unsafe { self.container.map(iova, address, len, direction) }
    }

    fn unmap(&self, iova: Iova, len: usize) -> Result<(), DmaError> {
        if self.generation != fork::current() {
            return Ok(());
        }
        self.container.unmap(iova, len)
    }

    fn vectors(&self) -> u16 {
        self.msix.count()
    }

    fn set_vectors(&self, start: u16, events: &[Option<BorrowedFd<'_>>]) -> Result<(), DmaError> {
        self.msix.connect(&self.device, start, events)
    }

    fn reset(&self) -> Result<(), DmaError> {
        if !self.resettable {
            return Err(DmaError::Unsupported { address: self.address, what: "the function cannot be reset".into() });
        }
        // SAFETY: takes no argument.
        unsafe { ioctl::device_reset(self.device.as_raw_fd()) }
            .map_err(|e| DmaError::Vfio { call: "VFIO_DEVICE_RESET", reason: e.into() })?;
        self.set_command(MEMORY_SPACE | BUS_MASTER | INTX_DISABLE, 0)
    }

    fn cut_off(&self) -> Result<(), DmaError> {
        self.set_command(0, BUS_MASTER)
    }

    fn removal_requested(&self) -> bool {
        self.removal.as_ref().is_some_and(Removal::requested)
    }
}

impl Drop for VfioDevice {
    fn drop(&mut self) {
        if self.generation != fork::current() {
            return;
        }
        if let Err(error) = self.set_command(0, BUS_MASTER) {
            tracing::warn!(%error, "cannot stop bus mastering; the kernel does it on close");
        }
        self.msix.disable(&self.device);
    }
}
