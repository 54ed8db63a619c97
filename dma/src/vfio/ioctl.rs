//! The calls of VFIO, each with the structure it takes.

#![expect(unsafe_code)] // owns the ioctl declarations and the variable-length answers

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::request_code_none;
use nix::{ioctl_none_bad, ioctl_read_bad, ioctl_readwrite_bad, ioctl_write_int_bad, ioctl_write_ptr_bad};
use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_TYPE, vfio_device_info, vfio_group_status, vfio_info_cap_header, vfio_iommu_type1_dma_map,
    vfio_iommu_type1_dma_unmap, vfio_irq_info, vfio_irq_set, vfio_region_info,
};

const fn number(nr: u32) -> u32 {
    VFIO_BASE + nr
}

ioctl_none_bad!(get_api_version, request_code_none!(VFIO_TYPE, number(0)));
ioctl_write_int_bad!(check_extension, request_code_none!(VFIO_TYPE, number(1)));
ioctl_write_int_bad!(set_iommu, request_code_none!(VFIO_TYPE, number(2)));
ioctl_read_bad!(group_get_status, request_code_none!(VFIO_TYPE, number(3)), vfio_group_status);
ioctl_write_ptr_bad!(group_set_container, request_code_none!(VFIO_TYPE, number(4)), libc::c_int);
ioctl_write_ptr_bad!(group_get_device_fd, request_code_none!(VFIO_TYPE, number(6)), libc::c_char);
ioctl_read_bad!(device_get_info, request_code_none!(VFIO_TYPE, number(7)), vfio_device_info);
ioctl_read_bad!(device_get_region_info, request_code_none!(VFIO_TYPE, number(8)), vfio_region_info);
ioctl_read_bad!(device_get_irq_info, request_code_none!(VFIO_TYPE, number(9)), vfio_irq_info);
ioctl_write_ptr_bad!(device_set_irqs, request_code_none!(VFIO_TYPE, number(10)), vfio_irq_set);
ioctl_none_bad!(device_reset, request_code_none!(VFIO_TYPE, number(11)));
ioctl_read_bad!(iommu_get_info, request_code_none!(VFIO_TYPE, number(12)), u8);
ioctl_write_ptr_bad!(iommu_map_dma, request_code_none!(VFIO_TYPE, number(13)), vfio_iommu_type1_dma_map);
ioctl_readwrite_bad!(iommu_unmap_dma, request_code_none!(VFIO_TYPE, number(14)), vfio_iommu_type1_dma_unmap);

/// A structure that VFIO answers with capabilities behind it: `argsz` first, filled in by asking twice.
pub(super) struct Answer {
    bytes: Vec<u8>,
}

impl Answer {
    /// Asks with the `fixed` bytes of the structure (whose first word is `argsz`), then again with as
    /// much room as the kernel said it needs.
    pub(super) fn ask(
        fd: BorrowedFd<'_>,
        fixed: &[u8],
        call: unsafe fn(libc::c_int, *mut u8) -> nix::Result<libc::c_int>,
    ) -> io::Result<Self> {
        let mut bytes = fixed.to_vec();
        for _ in 0..3 {
            let room = bytes.len() as u32;
            bytes[..4].copy_from_slice(&room.to_ne_bytes());
            // SAFETY: `bytes` has the room its first word promises, and outlives the call.
            unsafe { call(fd.as_raw_fd(), bytes.as_mut_ptr()) }?;
            let answer = Self { bytes };
            let needed = answer.u32(0).unwrap_or(room);
            if needed <= room {
                return Ok(answer);
            }
            bytes = fixed.to_vec();
            bytes.resize(needed as usize, 0);
        }
        Err(io::Error::other("the size of the answer keeps changing"))
    }

    pub(super) fn u32(&self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
    }

    pub(super) fn u64(&self, at: usize) -> Option<u64> {
        Some(u64::from_ne_bytes(self.bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
    }

    /// Offset of the capability `id`, following the chain from `first` (0 ends it).
    pub(super) fn capability(&self, first: u32, id: u32) -> Option<usize> {
        let mut at = first as usize;
        // A chain that loops would be the kernel's bug; it does not hang us.
        for _ in 0..64 {
            if at == 0 {
                return None;
            }
            let header = self.u32(at)?;
            if header & 0xffff == id {
                return Some(at);
            }
            at = self.u32(at + std::mem::offset_of!(vfio_info_cap_header, next))? as usize;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(words: &[u32]) -> Answer {
        Answer { bytes: words.iter().flat_map(|w| w.to_ne_bytes()).collect() }
    }

    #[test]
    fn capabilities_are_found_along_the_chain() {
        // header at byte 8: id 5, next 16; header at byte 16: id 1, next 0
        let a = answer(&[24, 8, 5, 16, 1, 0]);
        assert_eq!(a.capability(8, 1), Some(16));
        assert_eq!(a.capability(8, 5), Some(8));
        assert_eq!(a.capability(8, 9), None);
        assert_eq!(a.capability(0, 5), None);
    }

    #[test]
    fn a_looping_or_broken_chain_ends() {
        assert_eq!(answer(&[16, 0, 5, 8]).capability(8, 1), None);
        assert_eq!(answer(&[16, 0, 5, 4000]).capability(8, 1), None);
    }
}
