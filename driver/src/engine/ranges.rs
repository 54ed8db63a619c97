//! Operations on a range of a namespace that move no data, in the kernel's order of checks.

use crate::abi::entry::Sqe;
use crate::abi::op::{
    BLOCK_URING_CMD_DISCARD, FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE, FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE, FALLOC_FL_UNSHARE_RANGE, FALLOC_FL_WRITE_ZEROES, FALLOC_FL_ZERO_RANGE,
};
use crate::nvme::{Namespace, Zeroes};

/// `vfs_fallocate` (fs/open.c), then `blkdev_fallocate` (block/fops.c) and `blkdev_issue_zeroout`
/// (block/blk-lib.c), on a device that `can` write zeroes. The length is `addr`, the mode `len`. Where the
/// kernel would write pages of zeroes, for want of the command, we do not: that is no faster than the
/// program's own writes.
pub(crate) fn check_fallocate(sqe: &Sqe, namespace: &Namespace, can: bool) -> Result<Zeroes, i32> {
    const PUNCH: u32 = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    let (offset, len, mode) = (sqe.off.cast_signed(), sqe.addr.cast_signed(), sqe.len);
    if offset < 0 || len <= 0 {
        return Err(libc::EINVAL);
    }
    let keep = mode & FALLOC_FL_KEEP_SIZE != 0;
    match mode & !FALLOC_FL_KEEP_SIZE {
        0 | FALLOC_FL_ZERO_RANGE | FALLOC_FL_UNSHARE_RANGE => {}
        FALLOC_FL_PUNCH_HOLE if keep => {}
        FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE | FALLOC_FL_WRITE_ZEROES if !keep => {}
        _ => return Err(libc::EOPNOTSUPP),
    }
    let end = offset.checked_add(len).ok_or(libc::EFBIG)?.cast_unsigned();
    let deallocates = can && namespace.zeroes_by_deallocating;
    match mode & !FALLOC_FL_KEEP_SIZE {
        0 | FALLOC_FL_ZERO_RANGE | FALLOC_FL_PUNCH_HOLE => {}
        FALLOC_FL_WRITE_ZEROES if deallocates => {}
        _ => return Err(libc::EOPNOTSUPP),
    }
    let (offset, size) = (sqe.off, namespace.size_bytes());
    if offset >= size || (end > size && !keep) {
        return Err(libc::EINVAL);
    }
    let len = end.min(size) - offset;
    if (offset | len) & (u64::from(namespace.block_bytes()) - 1) != 0 {
        return Err(libc::EINVAL);
    }
    let deallocate = match mode {
        PUNCH | FALLOC_FL_WRITE_ZEROES => deallocates,
        mode if mode & FALLOC_FL_ZERO_RANGE != 0 => false,
        _ => return Err(libc::EOPNOTSUPP),
    };
    if namespace.read_only {
        return Err(libc::EPERM);
    }
    if can { Ok(Zeroes { offset, len, deallocate }) } else { Err(libc::EOPNOTSUPP) }
}

/// `sync_file_range` (fs/sync.c). Direct I/O leaves nothing in a page cache to be written.
pub(crate) fn check_sync_file_range(sqe: &Sqe) -> Result<(), i32> {
    const KNOWN: u32 =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let (offset, len) = (sqe.off.cast_signed(), i64::from(sqe.len));
    let fits = offset >= 0 && offset.checked_add(len).is_some();
    if sqe.op_flags & !KNOWN == 0 && fits { Ok(()) } else { Err(libc::EINVAL) }
}

/// `generic_fadvise` (mm/fadvise.c): the length is `addr`, or `len` where that is 0.
pub(crate) fn check_fadvise(sqe: &Sqe) -> Result<(), i32> {
    let len = if sqe.addr != 0 { sqe.addr } else { sqe.len.into() };
    let known = (libc::POSIX_FADV_NORMAL..=libc::POSIX_FADV_NOREUSE).contains(&sqe.op_flags.cast_signed());
    if len.cast_signed() >= 0 && known { Ok(()) } else { Err(libc::EINVAL) }
}

/// `blkdev_uring_cmd` and `blkdev_cmd_discard` (block/ioctl.c): the range of a discard, on a device that
/// `can` discard.
pub(crate) fn check_discard(sqe: &Sqe, namespace: &Namespace, can: bool) -> Result<(u64, u64), i32> {
    let unused = sqe.ioprio != 0 || sqe.len != 0 || sqe.op_flags != 0 || sqe.file_index != 0;
    if unused || sqe.off as u32 != BLOCK_URING_CMD_DISCARD {
        return Err(libc::EINVAL);
    }
    if !can {
        return Err(libc::EOPNOTSUPP);
    }
    if namespace.read_only {
        return Err(libc::EPERM);
    }
    let (offset, len) = (sqe.addr, sqe.addr3);
    let aligned = (offset | len) & (u64::from(namespace.block_bytes()) - 1) == 0;
    let inside = offset.checked_add(len).is_some_and(|end| end <= namespace.size_bytes());
    if len == 0 || !aligned || !inside {
        return Err(libc::EINVAL);
    }
    Ok((offset, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NS: Namespace =
        Namespace { nsid: 1, block_shift: 9, blocks: 16, read_only: false, zeroes_by_deallocating: true };

    fn sqe(opcode: u8) -> Sqe {
        Sqe { opcode, ..Sqe::default() }
    }

    #[test]
    fn advice_and_ranges_are_checked_as_the_kernel_does() {
        assert_eq!(check_sync_file_range(&Sqe { op_flags: 7, ..sqe(8) }), Ok(()));
        assert_eq!(check_sync_file_range(&Sqe { op_flags: 8, ..sqe(8) }), Err(libc::EINVAL));
        assert_eq!(check_sync_file_range(&Sqe { off: u64::MAX, ..sqe(8) }), Err(libc::EINVAL));
        assert_eq!(check_sync_file_range(&Sqe { off: i64::MAX as u64, len: 1, ..sqe(8) }), Err(libc::EINVAL));
        assert_eq!(check_fadvise(&Sqe { op_flags: 5, ..sqe(24) }), Ok(()));
        assert_eq!(check_fadvise(&Sqe { op_flags: 6, ..sqe(24) }), Err(libc::EINVAL));
        assert_eq!(check_fadvise(&Sqe { addr: 1 << 63, ..sqe(24) }), Err(libc::EINVAL));
    }

    #[test]
    fn discards_are_checked_in_the_kernels_order() {
        let good = Sqe { off: BLOCK_URING_CMD_DISCARD.into(), addr: 512, addr3: 1024, ..sqe(46) };
        assert_eq!(check_discard(&good, &NS, true), Ok((512, 1024)));
        let other = Sqe { off: 1, ..good };
        assert_eq!(check_discard(&other, &NS, false), Err(libc::EINVAL), "no such command");
        let beyond = Sqe { addr: NS.size_bytes(), ..good };
        assert_eq!(check_discard(&beyond, &NS, true), Err(libc::EINVAL));
        let read_only = Namespace { read_only: true, ..NS };
        assert_eq!(check_discard(&beyond, &read_only, true), Err(libc::EPERM));
        assert_eq!(check_discard(&beyond, &read_only, false), Err(libc::EOPNOTSUPP));
        assert_eq!(check_discard(&Sqe { addr3: !511, ..good }, &NS, true), Err(libc::EINVAL));
    }

    #[test]
    fn fallocate_is_checked_in_the_kernels_order() {
        let size = NS.size_bytes();
        let entry = |mode, off, len| Sqe { off, addr: len, len: mode, ..sqe(17) };
        let zeroes = |offset, len, deallocate| Ok(Zeroes { offset, len, deallocate });
        let check = |mode, off, len| check_fallocate(&entry(mode, off, len), &NS, true);
        assert_eq!(check(0x10, 512, 1024), zeroes(512, 1024, false));
        assert_eq!(check(0x11, size - 512, 9999), zeroes(size - 512, 512, false), "cut at the end");
        assert_eq!(check(0x03, 0, 512), zeroes(0, 512, true));
        assert_eq!(check(0x80, 0, 512), zeroes(0, 512, true));
        // As measured on 6.18: mode, offset, length, errno.
        for (mode, off, len, errno) in [
            (0x10, size - 512, 1024, libc::EINVAL),
            (0x10, size, 512, libc::EINVAL),
            (0x11, size, 512, libc::EINVAL),
            (0x10, 1, 512, libc::EINVAL),
            (0x100, 0, 0, libc::EINVAL),
            (0x100, i64::MAX as u64, 512, libc::EOPNOTSUPP),
            (0x40, i64::MAX as u64, 512, libc::EFBIG),
            (0x40, size, 512, libc::EOPNOTSUPP),
            (0x00, size, 512, libc::EINVAL),
            (0x00, 0, 512, libc::EOPNOTSUPP),
            (0x02, 0, 512, libc::EOPNOTSUPP),
            (0x13, 0, 512, libc::EOPNOTSUPP),
            (0x81, 0, 512, libc::EOPNOTSUPP),
        ] {
            assert_eq!(check(mode, off, len), Err(errno), "{mode:#x} {off} {len}");
        }
        let keeps = Namespace { zeroes_by_deallocating: false, ..NS };
        assert_eq!(check_fallocate(&entry(0x03, 0, 512), &keeps, true), zeroes(0, 512, false));
        assert_eq!(check_fallocate(&entry(0x80, 0, 512), &keeps, true), Err(libc::EOPNOTSUPP));
        assert_eq!(check_fallocate(&entry(0x10, 0, 512), &NS, false), Err(libc::EOPNOTSUPP));
        let read_only = Namespace { read_only: true, ..NS };
        assert_eq!(check_fallocate(&entry(0x10, 0, 512), &read_only, false), Err(libc::EPERM));
    }
}
