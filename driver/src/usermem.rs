//! The one place that reads and writes the program's memory for the engine.
//!
//! An SQE names memory by address, as with the kernel. Unlike the kernel, a library cannot find out
//! cheaply whether an address is good: whoever pushes an SQE promises it (`push` is unsafe), and that
//! promise is what every access here rests on. Addresses that cannot be right (null page, the kernel's
//! half, a range that wraps) are refused all the same, with `EFAULT`.

#![expect(unsafe_code)] // owns every access to memory that the program named in an SQE

use vm_memory::VolatileSlice;

use crate::nvme::Segment;

/// End of user addresses on x86-64 with four-level page tables.
const USER_END: u64 = 1 << 47;
const NULL_PAGE: u64 = 4096;

/// The right to access what the SQEs of one ring name.
#[derive(Debug)]
pub(crate) struct UserMemory(());

impl UserMemory {
    /// # Safety
    /// Every SQE that reaches the ring names memory that is valid, as its operation uses it, from
    /// submission to completion. The `unsafe fn push` of the ring passes this duty to the program.
    pub(crate) unsafe fn promised() -> Self {
        Self(())
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
        let iovecs = address as *const libc::iovec;
        for i in 0..count as usize {
            // SAFETY: `count` iovecs stand at `address`, by the program's promise.
            let iovec = unsafe { iovecs.add(i).read_unaligned() };
            segments.push(Segment { address: iovec.iov_base as u64, len: iovec.iov_len as u64, delta: None });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cannot_be_right_are_refused() {
        // SAFETY: nothing is accessed.
        let memory = unsafe { UserMemory::promised() };
        assert!(!memory.plausible(0, 1));
        assert!(!memory.plausible(u64::MAX, 1));
        assert!(!memory.plausible(USER_END - 1, 2));
        assert!(memory.plausible(USER_END - 1, 1));
        assert!(memory.plausible(0, 0));
        assert!(memory.read_iovecs(8, 1, &mut Vec::new()).is_none());
    }

    #[test]
    fn iovecs_are_copied() {
        // SAFETY: only the iovecs below are accessed.
        let memory = unsafe { UserMemory::promised() };
        let iovecs = [
            libc::iovec { iov_base: 0x1000 as *mut _, iov_len: 5 },
            libc::iovec { iov_base: 0x2000 as *mut _, iov_len: 0 },
        ];
        let mut segments = Vec::new();
        memory.read_iovecs(iovecs.as_ptr() as u64, 2, &mut segments).unwrap();
        assert_eq!(segments.iter().map(|s| (s.address, s.len)).collect::<Vec<_>>(), [(0x1000, 5), (0x2000, 0)]);
    }
}
