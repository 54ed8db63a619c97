//! Flags of the rings and of the calls: `io_uring_setup(2)`, `io_uring_enter(2)`.

/// `IORING_SQ_NEED_WAKEUP`: the polling thread sleeps.
pub const IORING_SQ_NEED_WAKEUP: u32 = 1 << 0;
/// `IORING_SQ_CQ_OVERFLOW`: completions wait outside the ring for room.
pub const IORING_SQ_CQ_OVERFLOW: u32 = 1 << 1;
/// `IORING_SQ_TASKRUN`: entering the ring would make progress.
pub const IORING_SQ_TASKRUN: u32 = 1 << 2;

/// `IORING_CQ_EVENTFD_DISABLED` (5.8): the registered eventfd is not signalled.
pub const IORING_CQ_EVENTFD_DISABLED: u32 = 1 << 0;

/// `IORING_ENTER_GETEVENTS`.
pub const IORING_ENTER_GETEVENTS: u32 = 1 << 0;

/// `IORING_ENTER_SQ_WAKEUP`.
pub const IORING_ENTER_SQ_WAKEUP: u32 = 1 << 1;
/// `IORING_ENTER_SQ_WAIT` (5.10).
pub const IORING_ENTER_SQ_WAIT: u32 = 1 << 2;
/// `IORING_ENTER_EXT_ARG` (5.11): the argument is a `struct io_uring_getevents_arg`.
pub const IORING_ENTER_EXT_ARG: u32 = 1 << 3;
/// `IORING_ENTER_REGISTERED_RING` (5.18).
pub const IORING_ENTER_REGISTERED_RING: u32 = 1 << 4;
/// `IORING_ENTER_ABS_TIMER` (6.12): the timeout is a time, not a duration.
pub const IORING_ENTER_ABS_TIMER: u32 = 1 << 5;
/// `IORING_ENTER_EXT_ARG_REG` (6.13): the argument is an offset into the wait region.
pub const IORING_ENTER_EXT_ARG_REG: u32 = 1 << 6;
/// `IORING_ENTER_NO_IOWAIT` (6.15).
pub const IORING_ENTER_NO_IOWAIT: u32 = 1 << 7;

/// `IORING_SETUP_IOPOLL`.
pub const IORING_SETUP_IOPOLL: u32 = 1 << 0;
/// `IORING_SETUP_SQPOLL`.
pub const IORING_SETUP_SQPOLL: u32 = 1 << 1;
/// `IORING_SETUP_SQ_AFF`.
pub const IORING_SETUP_SQ_AFF: u32 = 1 << 2;
/// `IORING_SETUP_CQSIZE`.
pub const IORING_SETUP_CQSIZE: u32 = 1 << 3;
/// `IORING_SETUP_CLAMP`.
pub const IORING_SETUP_CLAMP: u32 = 1 << 4;
/// `IORING_SETUP_ATTACH_WQ` (5.6).
pub const IORING_SETUP_ATTACH_WQ: u32 = 1 << 5;
/// `IORING_SETUP_R_DISABLED` (5.10): nothing is consumed before `IORING_REGISTER_ENABLE_RINGS`.
pub const IORING_SETUP_R_DISABLED: u32 = 1 << 6;
/// `IORING_SETUP_SUBMIT_ALL` (5.18): a batch goes on after an entry that is refused.
pub const IORING_SETUP_SUBMIT_ALL: u32 = 1 << 7;
/// `IORING_SETUP_COOP_TASKRUN` (5.19).
pub const IORING_SETUP_COOP_TASKRUN: u32 = 1 << 8;
/// `IORING_SETUP_TASKRUN_FLAG` (5.19).
pub const IORING_SETUP_TASKRUN_FLAG: u32 = 1 << 9;
/// `IORING_SETUP_SQE128` (5.19).
pub const IORING_SETUP_SQE128: u32 = 1 << 10;
/// `IORING_SETUP_CQE32` (5.19).
pub const IORING_SETUP_CQE32: u32 = 1 << 11;
/// `IORING_SETUP_SINGLE_ISSUER` (6.0): one thread enters.
pub const IORING_SETUP_SINGLE_ISSUER: u32 = 1 << 12;
/// `IORING_SETUP_DEFER_TASKRUN` (6.1).
pub const IORING_SETUP_DEFER_TASKRUN: u32 = 1 << 13;
/// `IORING_SETUP_NO_MMAP` (6.5): the program brings the memory of the rings.
pub const IORING_SETUP_NO_MMAP: u32 = 1 << 14;
/// `IORING_SETUP_REGISTERED_FD_ONLY` (6.5): the ring has an index instead of a descriptor.
pub const IORING_SETUP_REGISTERED_FD_ONLY: u32 = 1 << 15;
/// `IORING_SETUP_NO_SQARRAY` (6.6).
pub const IORING_SETUP_NO_SQARRAY: u32 = 1 << 16;
/// `IORING_SETUP_HYBRID_IOPOLL` (6.13).
pub const IORING_SETUP_HYBRID_IOPOLL: u32 = 1 << 17;
/// `IORING_SETUP_CQE_MIXED` (6.18): completion entries of both lengths.
pub const IORING_SETUP_CQE_MIXED: u32 = 1 << 18;
