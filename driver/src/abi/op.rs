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
            17 => Self::Fallocate,
            22 => Self::Read,
            23 => Self::Write,
            24 => Self::Fadvise,
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
/// `IOSQE_BUFFER_SELECT`: the kernel picks the buffer.
pub const IOSQE_BUFFER_SELECT: u8 = 1 << 5;
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

/// `IORING_SQ_CQ_OVERFLOW`: completions wait outside the ring for room.
pub const IORING_SQ_CQ_OVERFLOW: u32 = 1 << 1;
/// `IORING_SQ_TASKRUN`: entering the ring would make progress.
pub const IORING_SQ_TASKRUN: u32 = 1 << 2;

/// `IORING_ENTER_GETEVENTS`.
pub const IORING_ENTER_GETEVENTS: u32 = 1 << 0;

/// `IORING_SETUP_IOPOLL`.
pub const IORING_SETUP_IOPOLL: u32 = 1 << 0;
/// `IORING_SETUP_CQSIZE`.
pub const IORING_SETUP_CQSIZE: u32 = 1 << 3;
/// `IORING_SETUP_CLAMP`.
pub const IORING_SETUP_CLAMP: u32 = 1 << 4;
/// `IORING_SETUP_SQE128` (5.19).
pub const IORING_SETUP_SQE128: u32 = 1 << 10;
/// `IORING_SETUP_CQE32` (5.19).
pub const IORING_SETUP_CQE32: u32 = 1 << 11;
/// `IORING_SETUP_NO_SQARRAY` (6.6).
pub const IORING_SETUP_NO_SQARRAY: u32 = 1 << 16;

/// `IORING_MAX_ENTRIES`.
pub const IORING_MAX_ENTRIES: u32 = 32_768;
/// `IORING_MAX_CQ_ENTRIES`.
pub const IORING_MAX_CQ_ENTRIES: u32 = 2 * IORING_MAX_ENTRIES;

/// `UIO_MAXIOV`: most segments of a vectored operation.
pub const UIO_MAXIOV: u32 = 1024;
/// `MAX_RW_COUNT`: a longer transfer is cut to this many bytes.
pub const MAX_RW_COUNT: u64 = 0x7fff_f000;
