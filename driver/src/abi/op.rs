//! Opcodes and flags, by the names of `include/uapi/linux/io_uring.h` and `linux/fs.h`.

/// An opcode of a submission entry. Numbers this ring does not serve are kept as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs)] // the names are the header's
pub enum Opcode {
    Nop,
    Readv,
    Writev,
    Fsync,
    ReadFixed,
    WriteFixed,
    Read,
    Write,
    UringCmd,
    SyncFileRange,
    Fallocate,
    Fadvise,
    ReadvFixed,
    WritevFixed,
    Timeout,
    TimeoutRemove,
    AsyncCancel,
    LinkTimeout,
    FilesUpdate,
    ProvideBuffers,
    RemoveBuffers,
    MsgRing,
    /// An opcode of the kernel (below [`IORING_OP_LAST`]) that the device does not serve.
    Other(u8),
    /// A number the kernel does not know.
    Unknown(u8),
}

/// One past the last opcode of kernel 6.18 (`IORING_OP_LAST`).
pub const IORING_OP_LAST: u8 = 63;

impl Opcode {
    /// The opcode with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Nop,
            1 => Self::Readv,
            2 => Self::Writev,
            3 => Self::Fsync,
            4 => Self::ReadFixed,
            5 => Self::WriteFixed,
            8 => Self::SyncFileRange,
            11 => Self::Timeout,
            12 => Self::TimeoutRemove,
            14 => Self::AsyncCancel,
            15 => Self::LinkTimeout,
            17 => Self::Fallocate,
            20 => Self::FilesUpdate,
            22 => Self::Read,
            23 => Self::Write,
            24 => Self::Fadvise,
            31 => Self::ProvideBuffers,
            32 => Self::RemoveBuffers,
            40 => Self::MsgRing,
            46 => Self::UringCmd,
            60 => Self::ReadvFixed,
            61 => Self::WritevFixed,
            IORING_OP_LAST.. => Self::Unknown(number),
            _ => Self::Other(number),
        }
    }
}

/// `IOSQE_FIXED_FILE`: the descriptor is an index into the ring's file table.
pub const IOSQE_FIXED_FILE: u8 = 1 << 0;
/// `IOSQE_IO_DRAIN` (5.2): begins when everything before it has ended.
pub const IOSQE_IO_DRAIN: u8 = 1 << 1;
/// `IOSQE_IO_LINK` (5.3): the next entry begins when this one has succeeded.
pub const IOSQE_IO_LINK: u8 = 1 << 2;
/// `IOSQE_IO_HARDLINK` (5.5): the next entry begins when this one has ended.
pub const IOSQE_IO_HARDLINK: u8 = 1 << 3;
/// `IOSQE_ASYNC` (5.6).
pub const IOSQE_ASYNC: u8 = 1 << 4;
/// `IOSQE_BUFFER_SELECT` (5.7): the buffer is picked from a group.
pub const IOSQE_BUFFER_SELECT: u8 = 1 << 5;
/// `IOSQE_CQE_SKIP_SUCCESS` (5.17): no completion entry if it succeeds.
pub const IOSQE_CQE_SKIP_SUCCESS: u8 = 1 << 6;
/// All flags that kernel 6.18 knows.
pub const SQE_VALID_FLAGS: u8 = 0x7f;

/// `BLOCK_URING_CMD_DISCARD` (6.12), `_IO(0x12, 0)` of linux/blkdev.h: discards `addr3` bytes at `addr`.
pub const BLOCK_URING_CMD_DISCARD: u32 = 0x1200;

/// `IORING_URING_CMD_FIXED` (6.0): the command's data is in a registered buffer.
pub const IORING_URING_CMD_FIXED: u32 = 1 << 0;

/// `FALLOC_FL_KEEP_SIZE` (linux/falloc.h).
pub const FALLOC_FL_KEEP_SIZE: u32 = 1 << 0;
/// `FALLOC_FL_PUNCH_HOLE`.
pub const FALLOC_FL_PUNCH_HOLE: u32 = 1 << 1;
/// `FALLOC_FL_COLLAPSE_RANGE`.
pub const FALLOC_FL_COLLAPSE_RANGE: u32 = 1 << 3;
/// `FALLOC_FL_ZERO_RANGE`.
pub const FALLOC_FL_ZERO_RANGE: u32 = 1 << 4;
/// `FALLOC_FL_INSERT_RANGE`.
pub const FALLOC_FL_INSERT_RANGE: u32 = 1 << 5;
/// `FALLOC_FL_UNSHARE_RANGE`.
pub const FALLOC_FL_UNSHARE_RANGE: u32 = 1 << 6;
/// `FALLOC_FL_WRITE_ZEROES` (6.17).
pub const FALLOC_FL_WRITE_ZEROES: u32 = 1 << 7;

/// `IORING_FSYNC_DATASYNC`.
pub const IORING_FSYNC_DATASYNC: u32 = 1 << 0;
/// `IORING_NOP_INJECT_RESULT` (6.10): `len` is the result.
pub const IORING_NOP_INJECT_RESULT: u32 = 1 << 0;

/// `IORING_NOP_FILE`: `fd` is looked up.
pub const IORING_NOP_FILE: u32 = 1 << 1;
/// `IORING_NOP_FIXED_FILE`: with `IORING_NOP_FILE`, as an index.
pub const IORING_NOP_FIXED_FILE: u32 = 1 << 2;
/// `IORING_NOP_FIXED_BUFFER`: `buf_index` is looked up.
pub const IORING_NOP_FIXED_BUFFER: u32 = 1 << 3;
/// `IORING_NOP_TW`.
pub const IORING_NOP_TW: u32 = 1 << 4;
/// `IORING_NOP_CQE32` (6.18): the completion entry has 32 bytes, with `off` and `addr` in the second half.
pub const IORING_NOP_CQE32: u32 = 1 << 5;

/// `IORING_TIMEOUT_ABS`.
pub const IORING_TIMEOUT_ABS: u32 = 1 << 0;
/// `IORING_TIMEOUT_UPDATE`.
pub const IORING_TIMEOUT_UPDATE: u32 = 1 << 1;
/// `IORING_TIMEOUT_BOOTTIME`.
pub const IORING_TIMEOUT_BOOTTIME: u32 = 1 << 2;
/// `IORING_TIMEOUT_REALTIME`.
pub const IORING_TIMEOUT_REALTIME: u32 = 1 << 3;
/// `IORING_LINK_TIMEOUT_UPDATE`.
pub const IORING_LINK_TIMEOUT_UPDATE: u32 = 1 << 4;
/// `IORING_TIMEOUT_ETIME_SUCCESS`.
pub const IORING_TIMEOUT_ETIME_SUCCESS: u32 = 1 << 5;
/// `IORING_TIMEOUT_MULTISHOT`.
pub const IORING_TIMEOUT_MULTISHOT: u32 = 1 << 6;

/// `IORING_ASYNC_CANCEL_ALL`.
pub const IORING_ASYNC_CANCEL_ALL: u32 = 1 << 0;
/// `IORING_ASYNC_CANCEL_FD`.
pub const IORING_ASYNC_CANCEL_FD: u32 = 1 << 1;
/// `IORING_ASYNC_CANCEL_ANY`.
pub const IORING_ASYNC_CANCEL_ANY: u32 = 1 << 2;
/// `IORING_ASYNC_CANCEL_FD_FIXED`.
pub const IORING_ASYNC_CANCEL_FD_FIXED: u32 = 1 << 3;
/// `IORING_ASYNC_CANCEL_USERDATA`.
pub const IORING_ASYNC_CANCEL_USERDATA: u32 = 1 << 4;
/// `IORING_ASYNC_CANCEL_OP`.
pub const IORING_ASYNC_CANCEL_OP: u32 = 1 << 5;

/// `IORING_MSG_DATA`: a completion entry for another ring.
pub const IORING_MSG_DATA: u64 = 0;
/// `IORING_MSG_SEND_FD`: a fixed file for another ring.
pub const IORING_MSG_SEND_FD: u64 = 1;
/// `IORING_MSG_RING_CQE_SKIP`.
pub const IORING_MSG_RING_CQE_SKIP: u32 = 1 << 0;
/// `IORING_MSG_RING_FLAGS_PASS`.
pub const IORING_MSG_RING_FLAGS_PASS: u32 = 1 << 1;

/// `IORING_FILE_INDEX_ALLOC`: any free place of the file table.
pub const IORING_FILE_INDEX_ALLOC: u32 = !0;
/// `IORING_REGISTER_FILES_SKIP`: leave this place as it is.
pub const IORING_REGISTER_FILES_SKIP: i32 = -2;

/// `IORING_CQE_F_BUFFER`: the upper 16 bits are the identifier of a provided buffer.
pub const IORING_CQE_F_BUFFER: u32 = 1 << 0;
/// `IORING_CQE_F_MORE`: further entries of the same operation follow.
pub const IORING_CQE_F_MORE: u32 = 1 << 1;
/// `IORING_CQE_F_BUF_MORE`: the buffer has more room, and will be used again.
pub const IORING_CQE_F_BUF_MORE: u32 = 1 << 4;
/// `IORING_CQE_F_SKIP` (6.18): fills the last place of the ring before an entry of 32 bytes.
pub const IORING_CQE_F_SKIP: u32 = 1 << 5;
/// `IORING_CQE_F_32` (6.18): an entry of 32 bytes on a ring of both lengths.
pub const IORING_CQE_F_32: u32 = 1 << 15;

/// `RWF_HIPRI`: wants polled completion.
pub const RWF_HIPRI: u32 = 1 << 0;
/// `RWF_DSYNC`: the data is durable when the write completes.
pub const RWF_DSYNC: u32 = 1 << 1;
/// `RWF_SYNC`: data and metadata are durable when the write completes.
pub const RWF_SYNC: u32 = 1 << 2;
/// `RWF_NOWAIT`.
pub const RWF_NOWAIT: u32 = 1 << 3;
/// `RWF_APPEND`.
pub const RWF_APPEND: u32 = 1 << 4;
/// `RWF_NOAPPEND`.
pub const RWF_NOAPPEND: u32 = 1 << 5;
/// `RWF_NOSIGNAL` (6.18): no SIGPIPE, which devices never send.
pub const RWF_NOSIGNAL: u32 = 1 << 8;

/// `IORING_MAX_ENTRIES`.
pub const IORING_MAX_ENTRIES: u32 = 32_768;
/// `IORING_MAX_CQ_ENTRIES`.
pub const IORING_MAX_CQ_ENTRIES: u32 = 2 * IORING_MAX_ENTRIES;

/// `UIO_MAXIOV`: most segments of a vectored operation.
pub const UIO_MAXIOV: u32 = 1024;
/// `MAX_RW_COUNT`: a longer transfer is cut to this many bytes.
pub const MAX_RW_COUNT: u64 = 0x7fff_f000;
