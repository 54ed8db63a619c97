//! What a submission entry asks for, in the kernel's order of checks.
//!
//! The kernel refuses at two moments: when it *prepares* an entry (which ends the batch, unless the ring has
//! `SUBMIT_ALL`, and breaks its chain before that begins), and when it *issues* it. Here is the first: the
//! order of checks is that of kernel 6.18, `io_init_req` and then the operation's prep function. Nothing
//! here looks at files, registered memory or devices.

use super::timeouts::{Clock, Timeout};
use crate::abi::entry::Sqe;
use crate::abi::op::{
    IORING_ASYNC_CANCEL_ANY, IORING_ASYNC_CANCEL_FD, IORING_ASYNC_CANCEL_OP, IORING_FSYNC_DATASYNC,
    IORING_LINK_TIMEOUT_UPDATE, IORING_MSG_RING_CQE_SKIP, IORING_MSG_RING_FLAGS_PASS, IORING_NOP_CQE32,
    IORING_TIMEOUT_ABS, IORING_TIMEOUT_BOOTTIME, IORING_TIMEOUT_ETIME_SUCCESS, IORING_TIMEOUT_MULTISHOT,
    IORING_TIMEOUT_REALTIME, IORING_TIMEOUT_UPDATE, IORING_URING_CMD_FIXED, IOSQE_BUFFER_SELECT, IOSQE_FIXED_FILE,
    Opcode, SQE_VALID_FLAGS, UIO_MAXIOV,
};

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
    /// A buffer of a group.
    Selected,
    /// A buffer of a group, at most as long as the one `struct iovec` says.
    SelectedVector,
}

/// A prepared operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prepared {
    Nop,
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
    Timeout(Timeout),
    LinkTimeout(Timeout),
    TimeoutRemove,
    /// `TIMEOUT_REMOVE` with `IORING_TIMEOUT_UPDATE`: a new time, of a `TIMEOUT` or a `LINK_TIMEOUT`.
    TimeoutUpdate {
        linked: bool,
        timeout: Timeout,
    },
    Cancel,
    FilesUpdate,
    ProvideBuffers,
    RemoveBuffers,
    Message,
}

impl Prepared {
    /// Whether a result is a failure, which breaks a link and lets a skipped completion be posted. `expected`
    /// is what a transfer has to move. Some operations set a result without failing (`io_fsync`,
    /// `io_sync_file_range`, `io_fallocate`).
    pub(super) fn fails(self, res: i32, expected: u64) -> bool {
        match self {
            Self::Transfer { .. } => i64::from(res) != expected as i64,
            Self::Fsync | Self::SyncFileRange | Self::Fallocate => false,
            _ => res < 0,
        }
    }
}

/// What the set-up of the ring has to do with entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// `IORING_SETUP_IOPOLL`.
    pub(crate) iopoll: bool,
    /// Completion entries of 32 bytes are possible (`CQE32`, `CQE_MIXED`).
    pub(crate) big_cqes: bool,
}

/// What `io_init_req` looks at first.
pub(crate) fn check_flags(sqe: &Sqe) -> Result<Opcode, i32> {
    let opcode = Opcode::from_number(sqe.opcode);
    if let Opcode::Unknown(_) = opcode {
        return Err(libc::EINVAL);
    }
    if sqe.flags & !SQE_VALID_FLAGS != 0 {
        return Err(libc::EINVAL);
    }
    let selects = matches!(opcode, Opcode::Read | Opcode::Readv | Opcode::UringCmd);
    if sqe.flags & IOSQE_BUFFER_SELECT != 0 && !selects {
        return Err(libc::EOPNOTSUPP);
    }
    Ok(opcode)
}

/// What follows: the rest of `io_init_req`, and the operation's prep. Timeouts have no time yet.
#[inline]
pub(crate) fn prepare(opcode: Opcode, sqe: &Sqe, rules: Rules) -> Result<Prepared, i32> {
    match opcode {
        Opcode::Read | Opcode::Write | Opcode::Readv | Opcode::Writev => {}
        Opcode::ReadFixed | Opcode::WriteFixed | Opcode::ReadvFixed | Opcode::WritevFixed => {}
        _ => return prepare_other(opcode, sqe, rules),
    }
    check_personality(sqe)?;
    let selects = sqe.flags & IOSQE_BUFFER_SELECT != 0;
    let prepared = match opcode {
        Opcode::Read if selects => Prepared::Transfer { write: false, memory: Memory::Selected },
        Opcode::Readv if selects => Prepared::Transfer { write: false, memory: Memory::SelectedVector },
        Opcode::Read => Prepared::Transfer { write: false, memory: Memory::Plain },
        Opcode::Write => Prepared::Transfer { write: true, memory: Memory::Plain },
        Opcode::Readv => Prepared::Transfer { write: false, memory: Memory::Vector },
        Opcode::Writev => Prepared::Transfer { write: true, memory: Memory::Vector },
        Opcode::ReadFixed => Prepared::Transfer { write: false, memory: Memory::Fixed },
        Opcode::WriteFixed => Prepared::Transfer { write: true, memory: Memory::Fixed },
        Opcode::ReadvFixed => Prepared::Transfer { write: false, memory: Memory::FixedVector },
        _ => Prepared::Transfer { write: true, memory: Memory::FixedVector },
    };
    check_ioprio(sqe.ioprio)?;
    // Protection information is the only attribute there is.
    if sqe.attr_type_mask > 1 {
        return Err(libc::EINVAL);
    }
    match prepared {
        // Room for as many is asked for before they are counted (`io_vec_realloc`).
        Prepared::Transfer { memory: Memory::FixedVector, .. } if sqe.len > MOST_ALLOCATED / 16 => Err(libc::ENOMEM),
        // `iovec_from_user`.
        Prepared::Transfer { memory: Memory::Vector | Memory::FixedVector, .. } if sqe.len > UIO_MAXIOV => {
            Err(libc::EINVAL)
        }
        // `io_iov_buffer_select_prep`.
        Prepared::Transfer { memory: Memory::SelectedVector, .. } if sqe.len != 1 => Err(libc::EINVAL),
        _ => Ok(prepared),
    }
}

/// All but reads and writes.
fn prepare_other(opcode: Opcode, sqe: &Sqe, rules: Rules) -> Result<Prepared, i32> {
    let (priority, polled) = match opcode {
        Opcode::UringCmd => (true, true),
        Opcode::Nop | Opcode::ProvideBuffers | Opcode::RemoveBuffers | Opcode::MsgRing | Opcode::FilesUpdate => {
            (false, true)
        }
        // What is forwarded, in time. None of it can be polled.
        Opcode::Other(_) if !rules.iopoll => return Err(libc::EOPNOTSUPP),
        _ => (false, false),
    };
    if (!priority && sqe.ioprio != 0) || (rules.iopoll && !polled) {
        return Err(libc::EINVAL);
    }
    check_personality(sqe)?;
    match opcode {
        Opcode::Nop => prepare_nop(sqe, rules),
        Opcode::Fsync => prepare_fsync(sqe),
        Opcode::UringCmd => prepare_command(sqe),
        Opcode::SyncFileRange => prepare_sync_file_range(sqe),
        Opcode::Fadvise => prepare_fadvise(sqe),
        Opcode::Fallocate => prepare_fallocate(sqe),
        Opcode::Timeout => prepare_timeout(sqe).map(Prepared::Timeout),
        Opcode::LinkTimeout if sqe.off as u32 != 0 => Err(libc::EINVAL),
        Opcode::LinkTimeout => prepare_timeout(sqe).map(Prepared::LinkTimeout),
        Opcode::TimeoutRemove => prepare_timeout_remove(sqe),
        Opcode::AsyncCancel => prepare_cancel(sqe),
        Opcode::FilesUpdate => prepare_files_update(sqe),
        Opcode::ProvideBuffers => prepare_provide_buffers(sqe),
        Opcode::RemoveBuffers => prepare_remove_buffers(sqe),
        Opcode::MsgRing => prepare_message(sqe),
        _ => Err(libc::EOPNOTSUPP),
    }
}

/// Registered credentials do not exist on this ring, so none is ever found.
fn check_personality(sqe: &Sqe) -> Result<(), i32> {
    if sqe.personality == 0 { Ok(()) } else { Err(libc::EINVAL) }
}

/// `ioprio_check_cap`: class in bits 15:13 (none, real-time, best-effort, idle), level in bits 2:0. A
/// class of none takes no level.
fn check_ioprio(ioprio: u16) -> Result<(), i32> {
    match ioprio >> 13 {
        0 if ioprio & 7 != 0 => Err(libc::EINVAL),
        0..=3 => Ok(()),
        _ => Err(libc::EINVAL),
    }
}

/// An `EINVAL` unless `good`.
fn valid(good: bool, prepared: Prepared) -> Result<Prepared, i32> {
    if good { Ok(prepared) } else { Err(libc::EINVAL) }
}

fn prepare_nop(sqe: &Sqe, rules: Rules) -> Result<Prepared, i32> {
    let known = sqe.op_flags & !((IORING_NOP_CQE32 << 1) - 1) == 0;
    valid(known && (sqe.op_flags & IORING_NOP_CQE32 == 0 || rules.big_cqes), Prepared::Nop)
}

fn prepare_fsync(sqe: &Sqe) -> Result<Prepared, i32> {
    let unused = sqe.addr == 0 && sqe.buf_index == 0 && sqe.file_index == 0;
    let range = sqe.off.cast_signed() >= 0;
    valid(unused && range && sqe.op_flags & !IORING_FSYNC_DATASYNC == 0, Prepared::Fsync)
}

/// `io_sfr_prep`. Which flags there are shows at issue.
fn prepare_sync_file_range(sqe: &Sqe) -> Result<Prepared, i32> {
    valid(sqe.addr == 0 && sqe.buf_index == 0 && sqe.file_index == 0, Prepared::SyncFileRange)
}

/// `io_fadvise_prep`. Which advice there is shows at issue.
fn prepare_fadvise(sqe: &Sqe) -> Result<Prepared, i32> {
    valid(sqe.buf_index == 0 && sqe.file_index == 0, Prepared::Fadvise)
}

/// `io_fallocate_prep`. Which mode it is shows at issue.
fn prepare_fallocate(sqe: &Sqe) -> Result<Prepared, i32> {
    valid(sqe.buf_index == 0 && sqe.op_flags == 0 && sqe.file_index == 0, Prepared::Fallocate)
}

/// `io_uring_cmd_prep`. Which command it is shows at issue. Multishot goes with buffer selection, and no
/// command of a block device has it.
fn prepare_command(sqe: &Sqe) -> Result<Prepared, i32> {
    // `cmd_op` shares its word with `__pad1`.
    let known = sqe.off >> 32 == 0 && sqe.op_flags & !IORING_URING_CMD_FIXED == 0;
    valid(known && sqe.flags & IOSQE_BUFFER_SELECT == 0, Prepared::Command)
}

/// `addr3` and `__pad2` are zero, as timeouts want it (6.18).
fn has_no_last_words(sqe: &Sqe) -> bool {
    sqe.addr3 == 0 && sqe.attr_type_mask == 0
}

/// `__io_timeout_prep`, up to the time.
fn prepare_timeout(sqe: &Sqe) -> Result<Timeout, i32> {
    const KNOWN: u32 = IORING_TIMEOUT_ABS
        | IORING_TIMEOUT_BOOTTIME
        | IORING_TIMEOUT_REALTIME
        | IORING_TIMEOUT_ETIME_SUCCESS
        | IORING_TIMEOUT_MULTISHOT;
    let flags = sqe.op_flags;
    let unused = sqe.buf_index == 0 && sqe.file_index == 0 && has_no_last_words(sqe);
    if !unused || sqe.len != 1 || flags & !KNOWN != 0 {
        return Err(libc::EINVAL);
    }
    // Again and again at one time makes no sense.
    if flags & (IORING_TIMEOUT_MULTISHOT | IORING_TIMEOUT_ABS) == IORING_TIMEOUT_MULTISHOT | IORING_TIMEOUT_ABS {
        return Err(libc::EINVAL);
    }
    Ok(Timeout {
        clock: Clock::of_flags(flags).ok_or(libc::EINVAL)?,
        absolute: flags & IORING_TIMEOUT_ABS != 0,
        succeeds: flags & IORING_TIMEOUT_ETIME_SUCCESS != 0,
        multishot: flags & IORING_TIMEOUT_MULTISHOT != 0,
        count: sqe.off as u32,
        nanos: 0,
    })
}

/// `io_timeout_remove_prep`, up to the time.
fn prepare_timeout_remove(sqe: &Sqe) -> Result<Prepared, i32> {
    const UPDATE: u32 = IORING_TIMEOUT_UPDATE | IORING_LINK_TIMEOUT_UPDATE;
    let flags = sqe.op_flags;
    let unused = sqe.buf_index == 0 && sqe.len == 0 && sqe.file_index == 0 && has_no_last_words(sqe);
    if sqe.flags & IOSQE_FIXED_FILE != 0 || !unused {
        return Err(libc::EINVAL);
    }
    if flags & UPDATE == 0 {
        return valid(flags == 0, Prepared::TimeoutRemove);
    }
    if flags & !(UPDATE | IORING_TIMEOUT_ABS) != 0 {
        return Err(libc::EINVAL);
    }
    let timeout = Timeout { absolute: flags & IORING_TIMEOUT_ABS != 0, ..Timeout::default() };
    Ok(Prepared::TimeoutUpdate { linked: flags & IORING_LINK_TIMEOUT_UPDATE != 0, timeout })
}

/// `io_async_cancel_prep`.
fn prepare_cancel(sqe: &Sqe) -> Result<Prepared, i32> {
    let good = sqe.off == 0 && sqe.file_index == 0 && are_cancel_flags(sqe.op_flags);
    valid(good, Prepared::Cancel)
}

/// Whether these are flags of a cancel that go together.
pub(super) fn are_cancel_flags(flags: u32) -> bool {
    let any = flags & IORING_ASYNC_CANCEL_ANY != 0;
    flags & !0x3f == 0 && !(any && flags & (IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_OP) != 0)
}

/// `io_files_update_prep`.
fn prepare_files_update(sqe: &Sqe) -> Result<Prepared, i32> {
    let unused = sqe.op_flags == 0 && sqe.file_index == 0;
    valid(sqe.flags & IOSQE_FIXED_FILE == 0 && unused && sqe.len != 0, Prepared::FilesUpdate)
}

/// The longest memory that the kernel gives in one piece (`KMALLOC_MAX_SIZE`), in bytes.
const MOST_ALLOCATED: u32 = 4 << 20;

/// Most identifiers of a classic group (`MAX_BIDS_PER_BGID`).
const MOST_BUFFER_IDS: u64 = 1 << 16;

/// `io_provide_buffers_prep`: `fd` buffers of `len` bytes each at `addr`, from identifier `off` on.
fn prepare_provide_buffers(sqe: &Sqe) -> Result<Prepared, i32> {
    if sqe.op_flags != 0 || sqe.file_index != 0 {
        return Err(libc::EINVAL);
    }
    let count = u64::try_from(sqe.fd).ok().filter(|count| (1..=MOST_BUFFER_IDS).contains(count)).ok_or(libc::E2BIG)?;
    if sqe.len == 0 {
        return Err(libc::EINVAL);
    }
    let bytes = u64::from(sqe.len).checked_mul(count).ok_or(libc::EOVERFLOW)?;
    let end = sqe.addr.checked_add(bytes).ok_or(libc::EOVERFLOW)?;
    if end > crate::usermem::USER_END {
        return Err(libc::EFAULT);
    }
    if sqe.off > u64::from(u16::MAX) {
        return Err(libc::E2BIG);
    }
    valid(sqe.off + count <= MOST_BUFFER_IDS, Prepared::ProvideBuffers)
}

/// `io_remove_buffers_prep`.
fn prepare_remove_buffers(sqe: &Sqe) -> Result<Prepared, i32> {
    let unused = sqe.op_flags == 0 && sqe.addr == 0 && sqe.len == 0 && sqe.off == 0 && sqe.file_index == 0;
    let count = u64::try_from(sqe.fd).is_ok_and(|count| (1..=MOST_BUFFER_IDS).contains(&count));
    valid(unused && count, Prepared::RemoveBuffers)
}

/// `__io_msg_ring_prep`.
fn prepare_message(sqe: &Sqe) -> Result<Prepared, i32> {
    const KNOWN: u32 = IORING_MSG_RING_CQE_SKIP | IORING_MSG_RING_FLAGS_PASS;
    valid(sqe.buf_index == 0 && sqe.op_flags & !KNOWN == 0, Prepared::Message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sqe: &Sqe) -> Result<Prepared, i32> {
        prepare(check_flags(sqe)?, sqe, Rules::default())
    }

    fn sqe(opcode: u8) -> Sqe {
        Sqe { opcode, ..Sqe::default() }
    }

    #[test]
    fn opcodes_beyond_the_last_are_invalid_and_others_not_supported() {
        assert_eq!(check(&sqe(63)), Err(libc::EINVAL));
        assert_eq!(check(&sqe(255)), Err(libc::EINVAL));
        assert_eq!(check(&sqe(9)), Err(libc::EOPNOTSUPP));
    }

    #[test]
    fn only_reads_select_buffers() {
        for opcode in (0..63).filter(|opcode| !matches!(opcode, 1 | 22 | 46)) {
            let selecting = Sqe { flags: IOSQE_BUFFER_SELECT, ..sqe(opcode) };
            assert_eq!(check(&selecting), Err(libc::EOPNOTSUPP), "opcode {opcode}");
        }
        let selecting = Sqe { flags: IOSQE_BUFFER_SELECT, ..sqe(22) };
        assert_eq!(check(&selecting), Ok(Prepared::Transfer { write: false, memory: Memory::Selected }));
        assert_eq!(check(&Sqe { opcode: 1, ..selecting }), Err(libc::EINVAL), "a vector of one");
    }

    #[test]
    fn polled_rings_take_transfers_and_what_needs_no_device() {
        let rules = Rules { iopoll: true, ..Rules::default() };
        let polled = |opcode| prepare(check_flags(&sqe(opcode)).unwrap(), &sqe(opcode), rules);
        for opcode in [3, 8, 11, 12, 14, 15, 17, 24] {
            assert_eq!(polled(opcode), Err(libc::EINVAL), "opcode {opcode}");
        }
        for opcode in [0, 22, 23, 46] {
            assert!(polled(opcode).is_ok(), "opcode {opcode}");
        }
    }

    #[test]
    fn advice_and_ranges_have_fields_that_must_be_zero() {
        assert_eq!(check(&sqe(8)), Ok(Prepared::SyncFileRange));
        assert_eq!(check(&Sqe { addr: 1, ..sqe(8) }), Err(libc::EINVAL));
        assert_eq!(check(&Sqe { buf_index: 1, ..sqe(24) }), Err(libc::EINVAL));
        assert_eq!(check(&Sqe { op_flags: 1, ..sqe(17) }), Err(libc::EINVAL));
    }
}
