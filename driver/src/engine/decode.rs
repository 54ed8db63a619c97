//! What a submission entry asks for, in the kernel's order of checks.
//!
//! The kernel refuses at two moments: when it *prepares* an entry (which ends the batch, unless the ring
//! has `SUBMIT_ALL`), and when it *issues* it (which does not). Both answer by a completion. The order of
//! checks is that of kernel 6.18: `io_init_req`, then the operation's prep and issue functions in
//! io_uring/rw.c, io_uring/sync.c and io_uring/nop.c, then `blkdev_read_iter` and `blkdev_write_iter` in
//! block/fops.c.

use crate::abi::entry::Sqe;
use crate::abi::op::{
    IORING_FSYNC_DATASYNC, IORING_NOP_INJECT_RESULT, IORING_URING_CMD_FIXED, IOSQE_BUFFER_SELECT, IOSQE_FIXED_FILE,
    MAX_RW_COUNT, Opcode, RWF_APPEND, RWF_DSYNC, RWF_HIPRI, RWF_NOAPPEND, RWF_NOWAIT, RWF_SYNC, SQE_VALID_FLAGS,
    UIO_MAXIOV,
};
use crate::nvme::Namespace;

/// A refusal: the errno, and whether it ends the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) errno: i32,
    /// Refused while it was prepared.
    pub(crate) ends_batch: bool,
}

pub(super) const fn prep(errno: i32) -> Refusal {
    Refusal { errno, ends_batch: true }
}

pub(crate) const fn issue(errno: i32) -> Refusal {
    Refusal { errno, ends_batch: false }
}

/// Where a transfer's memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// One range of plain memory.
    Plain,
    /// An array of `struct iovec`.
    Vector,
    /// A range of a registered buffer.
    Fixed,
    /// An array of `struct iovec`, all of them in one registered buffer.
    FixedVector,
}

/// A prepared operation. What needs the file, the memory or the device has not been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prepared {
    Nop {
        res: i32,
    },
    Fsync,
    SyncFileRange,
    Fadvise,
    Fallocate,
    Transfer {
        write: bool,
        memory: Memory,
    },
    /// `URING_CMD`.
    Command,
}

/// Checks an entry as `io_init_req` and the operation's prep do.
pub(crate) fn prepare(sqe: &Sqe) -> Result<Prepared, Refusal> {
    let opcode = Opcode::from_number(sqe.opcode);
    if let Opcode::Unknown(_) = opcode {
        return Err(prep(libc::EINVAL));
    }
    if sqe.flags & !SQE_VALID_FLAGS != 0 {
        return Err(prep(libc::EINVAL));
    }
    let reads = matches!(opcode, Opcode::Read | Opcode::Readv);
    if sqe.flags & IOSQE_BUFFER_SELECT != 0 && !reads {
        return Err(prep(libc::EOPNOTSUPP));
    }
    // The one place for flags that the engine does not serve yet.
    if sqe.flags & !IOSQE_FIXED_FILE != 0 {
        return Err(prep(libc::EOPNOTSUPP));
    }
    let prepared = match opcode {
        Opcode::Nop => return prepare_nop(sqe),
        Opcode::Fsync => return prepare_fsync(sqe),
        Opcode::UringCmd => return prepare_command(sqe),
        Opcode::SyncFileRange => return prepare_sync_file_range(sqe),
        Opcode::Fadvise => return prepare_fadvise(sqe),
        Opcode::Fallocate => return prepare_fallocate(sqe),
        Opcode::Read => Prepared::Transfer { write: false, memory: Memory::Plain },
        Opcode::Write => Prepared::Transfer { write: true, memory: Memory::Plain },
        Opcode::Readv => Prepared::Transfer { write: false, memory: Memory::Vector },
        Opcode::Writev => Prepared::Transfer { write: true, memory: Memory::Vector },
        Opcode::ReadFixed => Prepared::Transfer { write: false, memory: Memory::Fixed },
        Opcode::WriteFixed => Prepared::Transfer { write: true, memory: Memory::Fixed },
        Opcode::ReadvFixed => Prepared::Transfer { write: false, memory: Memory::FixedVector },
        Opcode::WritevFixed => Prepared::Transfer { write: true, memory: Memory::FixedVector },
        Opcode::Other(_) | Opcode::Unknown(_) => return Err(prep(libc::EOPNOTSUPP)),
    };
    check_personality(sqe)?;
    check_ioprio(sqe.ioprio)?;
    if sqe.attr_type_mask != 0 {
        // Protection information is the only attribute there is, and these namespaces have none.
        return Err(prep(libc::EINVAL));
    }
    let vectored = matches!(prepared, Prepared::Transfer { memory: Memory::Vector | Memory::FixedVector, .. });
    // `iovec_from_user`.
    if vectored && sqe.len > UIO_MAXIOV {
        return Err(prep(libc::EINVAL));
    }
    Ok(prepared)
}

/// Registered credentials do not exist on this ring, so none is ever found.
fn check_personality(sqe: &Sqe) -> Result<(), Refusal> {
    if sqe.personality == 0 { Ok(()) } else { Err(prep(libc::EINVAL)) }
}

/// `ioprio_check_cap`: class in bits 15:13 (none, real-time, best-effort, idle), level in bits 2:0. A
/// class of none takes no level.
fn check_ioprio(ioprio: u16) -> Result<(), Refusal> {
    match ioprio >> 13 {
        0 if ioprio & 7 != 0 => Err(prep(libc::EINVAL)),
        0..=3 => Ok(()),
        _ => Err(prep(libc::EINVAL)),
    }
}

fn prepare_nop(sqe: &Sqe) -> Result<Prepared, Refusal> {
    // Operations without a priority refuse one (`io_init_req`).
    if sqe.ioprio != 0 {
        return Err(prep(libc::EINVAL));
    }
    check_personality(sqe)?;
    match sqe.op_flags {
        0 => Ok(Prepared::Nop { res: 0 }),
        IORING_NOP_INJECT_RESULT => Ok(Prepared::Nop { res: sqe.len.cast_signed() }),
        flags if flags & !0x1f != 0 => Err(prep(libc::EINVAL)),
        _ => Err(prep(libc::EOPNOTSUPP)),
    }
}

fn prepare_fsync(sqe: &Sqe) -> Result<Prepared, Refusal> {
    if sqe.ioprio != 0 {
        return Err(prep(libc::EINVAL));
    }
    check_personality(sqe)?;
    let unused = sqe.addr != 0 || sqe.buf_index != 0 || sqe.file_index != 0;
    if unused || sqe.op_flags & !IORING_FSYNC_DATASYNC != 0 {
        return Err(prep(libc::EINVAL));
    }
    Ok(Prepared::Fsync)
}

/// `io_sfr_prep`. Which flags there are shows at issue.
fn prepare_sync_file_range(sqe: &Sqe) -> Result<Prepared, Refusal> {
    if sqe.ioprio != 0 {
        return Err(prep(libc::EINVAL));
    }
    check_personality(sqe)?;
    if sqe.addr != 0 || sqe.buf_index != 0 || sqe.file_index != 0 {
        return Err(prep(libc::EINVAL));
    }
    Ok(Prepared::SyncFileRange)
}

/// `io_fadvise_prep`. Which advice there is shows at issue.
fn prepare_fadvise(sqe: &Sqe) -> Result<Prepared, Refusal> {
    if sqe.ioprio != 0 {
        return Err(prep(libc::EINVAL));
    }
    check_personality(sqe)?;
    if sqe.buf_index != 0 || sqe.file_index != 0 {
        return Err(prep(libc::EINVAL));
    }
    Ok(Prepared::Fadvise)
}

/// `io_fallocate_prep`. Which mode it is shows at issue.
fn prepare_fallocate(sqe: &Sqe) -> Result<Prepared, Refusal> {
    if sqe.ioprio != 0 {
        return Err(prep(libc::EINVAL));
    }
    check_personality(sqe)?;
    if sqe.buf_index != 0 || sqe.op_flags != 0 || sqe.file_index != 0 {
        return Err(prep(libc::EINVAL));
    }
    Ok(Prepared::Fallocate)
}

/// `io_uring_cmd_prep`. Which command it is shows at issue.
fn prepare_command(sqe: &Sqe) -> Result<Prepared, Refusal> {
    check_personality(sqe)?;
    // `cmd_op` shares its word with `__pad1`. Multishot goes with buffer selection, which is refused above.
    if sqe.off >> 32 != 0 || sqe.op_flags & !IORING_URING_CMD_FIXED != 0 {
        return Err(prep(libc::EINVAL));
    }
    Ok(Prepared::Command)
}

/// `kiocb_set_rw_flags` for a block device opened with O_DIRECT: whether the data must be durable.
pub(crate) fn check_rw_flags(flags: u32, write: bool) -> Result<bool, Refusal> {
    const KNOWN: u32 = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | RWF_NOAPPEND;
    if flags & !KNOWN != 0 {
        return Err(issue(libc::EOPNOTSUPP));
    }
    if flags & (RWF_APPEND | RWF_NOAPPEND) == RWF_APPEND | RWF_NOAPPEND {
        return Err(issue(libc::EINVAL));
    }
    // Polled completion is for rings set up with IOPOLL.
    if flags & RWF_HIPRI != 0 {
        return Err(issue(libc::EINVAL));
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

/// Cuts a transfer of `len` bytes at `offset` to the device, as `rw_verify_area`, `blkdev_read_iter` and
/// `blkdev_write_iter` do, and checks its alignment.
pub(crate) fn clip(namespace: &Namespace, write: bool, offset: u64, len: u64) -> Result<Extent, Refusal> {
    let len = len.min(MAX_RW_COUNT);
    // -1 is the file position, which direct I/O on a device through io_uring does not advance.
    let offset = if offset == u64::MAX { 0 } else { offset };
    if offset.cast_signed() < 0 || offset.saturating_add(len).cast_signed() < 0 {
        return Err(issue(libc::EINVAL));
    }
    if write && namespace.read_only {
        return Err(issue(libc::EPERM));
    }
    if write && len == 0 {
        return Ok(Extent::Done(0));
    }
    let size = namespace.size_bytes();
    if offset >= size {
        return if write { Err(issue(libc::ENOSPC)) } else { Ok(Extent::Done(0)) };
    }
    let len = len.min(size - offset);
    if len == 0 {
        return Ok(Extent::Done(0));
    }
    if (offset | len) & (u64::from(namespace.block_bytes()) - 1) != 0 {
        return Err(issue(libc::EINVAL));
    }
    Ok(Extent::Move { offset, len })
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
    fn flags_are_refused_in_one_place() {
        for flag in 1..8u8 {
            let bits = 1 << flag;
            let refused = prepare(&Sqe { flags: bits, ..sqe(22) }).unwrap_err();
            let errno = if flag == 7 { libc::EINVAL } else { libc::EOPNOTSUPP };
            assert_eq!(refused, prep(errno), "flag {bits:#x}");
        }
        assert!(prepare(&Sqe { flags: IOSQE_FIXED_FILE, ..sqe(22) }).is_ok());
    }

    #[test]
    fn opcodes_beyond_the_last_are_invalid_and_others_not_supported() {
        assert_eq!(prepare(&sqe(63)), Err(prep(libc::EINVAL)));
        assert_eq!(prepare(&sqe(255)), Err(prep(libc::EINVAL)));
        assert_eq!(prepare(&sqe(9)), Err(prep(libc::EOPNOTSUPP)));
    }

    #[test]
    fn rw_flags_are_the_kernels() {
        assert_eq!(check_rw_flags(0, true), Ok(false));
        assert_eq!(check_rw_flags(RWF_DSYNC, true), Ok(true));
        assert_eq!(check_rw_flags(RWF_SYNC, false), Ok(false));
        assert_eq!(check_rw_flags(RWF_NOWAIT | RWF_APPEND, true), Ok(false));
        assert_eq!(check_rw_flags(RWF_HIPRI, false), Err(issue(libc::EINVAL)));
        assert_eq!(check_rw_flags(0x40, false), Err(issue(libc::EOPNOTSUPP)));
        assert_eq!(check_rw_flags(1 << 31, false), Err(issue(libc::EOPNOTSUPP)));
    }

    #[test]
    fn bounds_are_the_kernels() {
        let size = NS.size_bytes();
        assert_eq!(clip(&NS, false, size, 512), Ok(Extent::Done(0)));
        assert_eq!(clip(&NS, false, size + 3, 5), Ok(Extent::Done(0)), "even unaligned");
        assert_eq!(clip(&NS, false, size - 512, 4096), Ok(Extent::Move { offset: size - 512, len: 512 }));
        assert_eq!(clip(&NS, true, size, 512), Err(issue(libc::ENOSPC)));
        assert_eq!(clip(&NS, true, size - 512, 1024), Ok(Extent::Move { offset: size - 512, len: 512 }));
        assert_eq!(clip(&NS, true, size, 0), Ok(Extent::Done(0)));
        assert_eq!(clip(&NS, false, 1, 512), Err(issue(libc::EINVAL)));
        assert_eq!(clip(&NS, false, 0, 513), Err(issue(libc::EINVAL)));
        assert_eq!(clip(&NS, false, u64::MAX, 512), Ok(Extent::Move { offset: 0, len: 512 }));
        assert_eq!(clip(&NS, false, u64::MAX - 1, 512), Err(issue(libc::EINVAL)));
        assert_eq!(clip(&NS, false, i64::MAX as u64, 512), Err(issue(libc::EINVAL)));
    }
}
