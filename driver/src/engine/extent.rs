//! What a read or write asks of the device, in the kernel's order of checks: `kiocb_set_rw_flags`, then
//! `blkdev_read_iter` and `blkdev_write_iter` (block/fops.c, 6.18). All of it is found at issue.

use crate::abi::op::{
    MAX_RW_COUNT, RWF_APPEND, RWF_DSYNC, RWF_HIPRI, RWF_NOAPPEND, RWF_NOSIGNAL, RWF_NOWAIT, RWF_SYNC,
};
use crate::nvme::Namespace;

/// `kiocb_set_rw_flags` for a block device opened with O_DIRECT: whether the data must be durable.
pub(crate) fn check_rw_flags(flags: u32, write: bool, iopoll: bool) -> Result<bool, i32> {
    const KNOWN: u32 = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | RWF_NOAPPEND | RWF_NOSIGNAL;
    if flags & !KNOWN != 0 {
        return Err(libc::EOPNOTSUPP);
    }
    if flags & (RWF_APPEND | RWF_NOAPPEND) == RWF_APPEND | RWF_NOAPPEND {
        return Err(libc::EINVAL);
    }
    // Polled completion is for rings set up with IOPOLL.
    if flags & RWF_HIPRI != 0 && !iopoll {
        return Err(libc::EINVAL);
    }
    Ok(write && flags & (RWF_DSYNC | RWF_SYNC) != 0)
}

/// What is left of a transfer at the bounds of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Nothing to move: the result is this.
    Done(i32),
    /// Move `len` bytes at `offset`.
    Move { offset: u64, len: u64 },
}

/// `rw_verify_area`, where -1 is the file position, which direct I/O on a device through io_uring does not
/// advance. Answers the offset.
pub(crate) fn verify_area(offset: u64, len: u64) -> Result<u64, i32> {
    let offset = if offset == u64::MAX { 0 } else { offset };
    let end = offset.saturating_add(len.min(MAX_RW_COUNT));
    if offset.cast_signed() < 0 || end.cast_signed() < 0 { Err(libc::EINVAL) } else { Ok(offset) }
}

/// Cuts a transfer of `len` bytes at `offset`, which [`verify_area`] has answered, to the device, as
/// `blkdev_read_iter` and `blkdev_write_iter` do, and checks its alignment.
pub(crate) fn clip(namespace: &Namespace, write: bool, offset: u64, len: u64) -> Result<Extent, i32> {
    let len = len.min(MAX_RW_COUNT);
    if write && namespace.read_only {
        return Err(libc::EPERM);
    }
    if write && len == 0 {
        return Ok(Extent::Done(0));
    }
    let size = namespace.size_bytes();
    if offset >= size {
        return if write { Err(libc::ENOSPC) } else { Ok(Extent::Done(0)) };
    }
    let len = len.min(size - offset);
    if len == 0 {
        return Ok(Extent::Done(0));
    }
    if (offset | len) & (u64::from(namespace.block_bytes()) - 1) != 0 {
        return Err(libc::EINVAL);
    }
    Ok(Extent::Move { offset, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NS: Namespace =
        Namespace { nsid: 1, block_shift: 9, blocks: 16, read_only: false, zeroes_by_deallocating: true };

    fn clip(namespace: &Namespace, write: bool, offset: u64, len: u64) -> Result<Extent, i32> {
        super::clip(namespace, write, verify_area(offset, len)?, len)
    }

    #[test]
    fn rw_flags_are_the_kernels() {
        assert_eq!(check_rw_flags(0, true, false), Ok(false));
        assert_eq!(check_rw_flags(RWF_DSYNC, true, false), Ok(true));
        assert_eq!(check_rw_flags(RWF_SYNC, false, false), Ok(false));
        assert_eq!(check_rw_flags(RWF_NOWAIT | RWF_APPEND, true, false), Ok(false));
        assert_eq!(check_rw_flags(RWF_HIPRI, false, false), Err(libc::EINVAL));
        assert_eq!(check_rw_flags(RWF_HIPRI, false, true), Ok(false));
        assert_eq!(check_rw_flags(RWF_NOSIGNAL, true, false), Ok(false));
        assert_eq!(check_rw_flags(0x40, false, false), Err(libc::EOPNOTSUPP));
        assert_eq!(check_rw_flags(1 << 31, false, false), Err(libc::EOPNOTSUPP));
    }

    #[test]
    fn bounds_are_the_kernels() {
        let size = NS.size_bytes();
        assert_eq!(clip(&NS, false, size, 512), Ok(Extent::Done(0)));
        assert_eq!(clip(&NS, false, size + 3, 5), Ok(Extent::Done(0)), "even unaligned");
        assert_eq!(clip(&NS, false, size - 512, 4096), Ok(Extent::Move { offset: size - 512, len: 512 }));
        assert_eq!(clip(&NS, true, size, 512), Err(libc::ENOSPC));
        assert_eq!(clip(&NS, true, size - 512, 1024), Ok(Extent::Move { offset: size - 512, len: 512 }));
        assert_eq!(clip(&NS, true, size, 0), Ok(Extent::Done(0)));
        assert_eq!(clip(&NS, false, 1, 512), Err(libc::EINVAL));
        assert_eq!(clip(&NS, false, 0, 513), Err(libc::EINVAL));
        assert_eq!(clip(&NS, false, u64::MAX, 512), Ok(Extent::Move { offset: 0, len: 512 }));
        assert_eq!(clip(&NS, false, u64::MAX - 1, 512), Err(libc::EINVAL));
        assert_eq!(clip(&NS, false, i64::MAX as u64, 512), Err(libc::EINVAL));
    }
}
