//! One I/O address space of the kernel's TYPE1v2 IOMMU driver.

#![expect(unsafe_code)] // owns the container descriptor and the map and unmap calls

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use vfio_bindings::bindings::vfio::{
    VFIO_API_VERSION, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_IOMMU_INFO_CAPS, VFIO_IOMMU_INFO_PGSIZES,
    VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, VFIO_TYPE1v2_IOMMU, vfio_iommu_type1_dma_map, vfio_iommu_type1_dma_unmap,
    vfio_iommu_type1_info, vfio_iommu_type1_info_cap_iova_range,
};

use super::group::Group;
use super::ioctl::{self, Answer};
use crate::region::PAGE;
use crate::{Direction, DmaError, Iova, IovaRange};

/// `/dev/vfio/vfio` with one group attached and the IOMMU driver chosen.
#[derive(Debug)]
pub(super) struct Container {
    file: File,
    ranges: Vec<IovaRange>,
    granule: u64,
}

fn failed(call: &'static str, reason: impl Into<io::Error>) -> DmaError {
    DmaError::Vfio { call, reason: reason.into() }
}

impl Container {
    pub(super) fn new(group: &Group) -> Result<Self, DmaError> {
        let path = Path::new("/dev/vfio/vfio");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|reason| DmaError::Open { path: path.into(), reason })?;
        let fd = file.as_raw_fd();
        // SAFETY: takes no argument.
        let version = unsafe { ioctl::get_api_version(fd) }.map_err(|e| failed("VFIO_GET_API_VERSION", e))?;
        if version != VFIO_API_VERSION as i32 {
            return Err(failed("VFIO_GET_API_VERSION", io::Error::other(format!("unknown version {version}"))));
        }
        // SAFETY: takes an integer.
        let type1 = unsafe { ioctl::check_extension(fd, VFIO_TYPE1v2_IOMMU as i32) };
        if type1.map_err(|e| failed("VFIO_CHECK_EXTENSION", e))? == 0 {
            let what = "the kernel offers no TYPE1v2 IOMMU: load the module vfio_iommu_type1";
            return Err(failed("VFIO_CHECK_EXTENSION", io::Error::other(what)));
        }
        group.join(file.as_fd())?;
        // SAFETY: takes an integer.
        unsafe { ioctl::set_iommu(fd, VFIO_TYPE1v2_IOMMU as i32) }.map_err(|e| failed("VFIO_SET_IOMMU", e))?;
        let (ranges, granule) = address_ranges(&file)?;
        Ok(Self { file, ranges, granule })
    }

    pub(super) fn ranges(&self) -> &[IovaRange] {
        &self.ranges
    }

    pub(super) fn granule(&self) -> u64 {
        self.granule
    }

    /// # Safety
    /// As [`Transport::map`](crate::Transport::map).
    pub(super) unsafe fn map(
        &self,
        iova: Iova,
        address: NonNull<u8>,
        len: usize,
        direction: Direction,
    ) -> Result<(), DmaError> {
        let write = if direction == Direction::Both { VFIO_DMA_MAP_FLAG_WRITE } else { 0 };
        let map = vfio_iommu_type1_dma_map {
            argsz: size_of::<vfio_iommu_type1_dma_map>() as u32,
            flags: VFIO_DMA_MAP_FLAG_READ | write,
            vaddr: address.addr().get() as u64,
            iova: iova.get(),
            size: len as u64,
        };
        // SAFETY: the structure outlives the call; what may be mapped is the caller's promise.
        let result = unsafe { ioctl::iommu_map_dma(self.file.as_raw_fd(), &raw const map) };
        match result {
            Ok(_) => Ok(()),
            Err(Errno::ENOSPC) => Err(DmaError::TooManyMappings),
            Err(Errno::ENOMEM) => Err(locked_memory(len as u64)),
            Err(errno) => Err(DmaError::Map { address: map.vaddr, len_bytes: map.size, reason: errno.into() }),
        }
    }

    pub(super) fn unmap(&self, iova: Iova, len: usize) -> Result<(), DmaError> {
        let mut unmap = vfio_iommu_type1_dma_unmap {
            argsz: size_of::<vfio_iommu_type1_dma_unmap>() as u32,
            iova: iova.get(),
            size: len as u64,
            ..Default::default()
        };
        // SAFETY: the structure outlives the call; taking memory away from a device is always sound.
        unsafe { ioctl::iommu_unmap_dma(self.file.as_raw_fd(), &raw mut unmap) }
            .map_err(|e| failed("VFIO_IOMMU_UNMAP_DMA", e))?;
        if unmap.size == len as u64 {
            return Ok(());
        }
        Err(DmaError::Unmap { iova: iova.get(), len_bytes: len as u64, unmapped_bytes: unmap.size })
    }
}

/// The usable addresses and the smallest mapping, as the kernel reports them.
fn address_ranges(file: &File) -> Result<(Vec<IovaRange>, u64), DmaError> {
    let fixed = [0u8; size_of::<vfio_iommu_type1_info>()];
    let answer =
        Answer::ask(file.as_fd(), &fixed, ioctl::iommu_get_info).map_err(|e| failed("VFIO_IOMMU_GET_INFO", e))?;
    let field = |at| answer.u32(at).unwrap_or(0);
    let flags = field(std::mem::offset_of!(vfio_iommu_type1_info, flags));
    let pgsizes = answer.u64(std::mem::offset_of!(vfio_iommu_type1_info, iova_pgsizes)).unwrap_or(0);
    // The smallest page of the IOMMU, but never less than what `mmap` hands out.
    let granule = if flags & VFIO_IOMMU_INFO_PGSIZES != 0 && pgsizes != 0 {
        (1u64 << pgsizes.trailing_zeros()).max(PAGE as u64)
    } else {
        PAGE as u64
    };
    let mut ranges = Vec::new();
    if flags & VFIO_IOMMU_INFO_CAPS != 0 {
        let first = field(std::mem::offset_of!(vfio_iommu_type1_info, cap_offset));
        if let Some(at) = answer.capability(first, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE) {
            let count = field(at + std::mem::offset_of!(vfio_iommu_type1_info_cap_iova_range, nr_iovas));
            let list = at + std::mem::offset_of!(vfio_iommu_type1_info_cap_iova_range, iova_ranges);
            ranges = (0..count as usize)
                .map_while(|i| {
                    Some(IovaRange { first: answer.u64(list + 16 * i)?, last: answer.u64(list + 16 * i + 8)? })
                })
                .collect();
        }
    }
    if ranges.is_empty() {
        // Kernels before 5.4 do not tell. 39 bits is the narrowest second-level walk of VT-d.
        ranges.push(IovaRange { first: 0, last: (1 << 39) - 1 });
    }
    tracing::debug!(?ranges, granule, "I/O virtual addresses");
    Ok((ranges, granule))
}

fn locked_memory(len_bytes: u64) -> DmaError {
    let limit_bytes = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft);
    DmaError::LockedMemory { len_bytes, needed_bytes: locked_now().saturating_add(len_bytes), limit_bytes }
}

/// What the process has locked already (`VmLck` and pins are both charged to it).
fn locked_now() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmLck:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}
