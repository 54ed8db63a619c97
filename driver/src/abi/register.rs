//! What `io_uring_register(2)` takes: opcodes and structures.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `enum io_uring_register_op`.
#[expect(missing_docs)] // the names are the header's
pub mod opcode {
    pub const REGISTER_BUFFERS: u32 = 0;
    pub const UNREGISTER_BUFFERS: u32 = 1;
    pub const REGISTER_FILES: u32 = 2;
    pub const UNREGISTER_FILES: u32 = 3;
    pub const REGISTER_EVENTFD: u32 = 4;
    pub const UNREGISTER_EVENTFD: u32 = 5;
    pub const REGISTER_FILES_UPDATE: u32 = 6;
    pub const REGISTER_EVENTFD_ASYNC: u32 = 7;
    pub const REGISTER_PROBE: u32 = 8;
    pub const REGISTER_PERSONALITY: u32 = 9;
    pub const UNREGISTER_PERSONALITY: u32 = 10;
    pub const REGISTER_RESTRICTIONS: u32 = 11;
    pub const REGISTER_ENABLE_RINGS: u32 = 12;
    pub const REGISTER_FILES2: u32 = 13;
    pub const REGISTER_FILES_UPDATE2: u32 = 14;
    pub const REGISTER_BUFFERS2: u32 = 15;
    pub const REGISTER_BUFFERS_UPDATE: u32 = 16;
    pub const REGISTER_RING_FDS: u32 = 20;
    pub const UNREGISTER_RING_FDS: u32 = 21;
    pub const REGISTER_PBUF_RING: u32 = 22;
    pub const UNREGISTER_PBUF_RING: u32 = 23;
    pub const REGISTER_SYNC_CANCEL: u32 = 24;
    pub const REGISTER_PBUF_STATUS: u32 = 26;
    pub const REGISTER_CLOCK: u32 = 29;
    pub const REGISTER_CLONE_BUFFERS: u32 = 30;
    pub const REGISTER_SEND_MSG_RING: u32 = 31;
    pub const REGISTER_RESIZE_RINGS: u32 = 33;
    pub const REGISTER_MEM_REGION: u32 = 34;
    pub const REGISTER_QUERY: u32 = 35;
    /// One past the last of kernel 6.18.
    pub const REGISTER_LAST: u32 = 36;
    /// The ring is named by its index.
    pub const REGISTER_USE_REGISTERED_RING: u32 = 1 << 31;
}

/// `IORING_RSRC_REGISTER_SPARSE`.
pub const IORING_RSRC_REGISTER_SPARSE: u32 = 1 << 0;
/// `IOU_PBUF_RING_MMAP` (6.4): the kernel brings the memory.
pub const IOU_PBUF_RING_MMAP: u16 = 1;
/// `IOU_PBUF_RING_INC` (6.12): buffers are used up piece by piece.
pub const IOU_PBUF_RING_INC: u16 = 2;

/// A structure that the program hands over in memory.
macro_rules! structures {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? } $len:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
        #[repr(C)]
        #[expect(missing_docs)] // the names are the header's
        pub struct $name { $(pub $field: $type),* }
        const _: () = assert!(size_of::<$name>() == $len);
    )*};
}

structures! {
    /// `struct io_uring_rsrc_register`.
    RsrcRegister { nr: u32, flags: u32, resv2: u64, data: u64, tags: u64 } 32;
    /// `struct io_uring_rsrc_update`, and `struct io_uring_files_update`.
    RsrcUpdate { offset: u32, resv: u32, data: u64 } 16;
    /// `struct io_uring_rsrc_update2`.
    RsrcUpdate2 { offset: u32, resv: u32, data: u64, tags: u64, nr: u32, resv2: u32 } 32;
    /// `struct io_uring_buf_reg`.
    BufReg { ring_addr: u64, ring_entries: u32, bgid: u16, flags: u16, min_left: u32, resv: [u32; 5] } 40;
    /// `struct io_uring_buf_status`.
    BufStatus { buf_group: u32, head: u32, resv: [u32; 8] } 40;
    /// `struct io_uring_sync_cancel_reg`.
    SyncCancelReg { addr: u64, fd: i32, flags: u32, timeout: [i64; 2], opcode: u8, pad: [u8; 7], pad2: [u64; 3] } 64;
    /// `struct io_uring_restriction`.
    Restriction { opcode: u16, which: u8, resv: u8, resv2: [u32; 3] } 16;
    /// `struct io_uring_probe`, without its operations.
    Probe { last_op: u8, ops_len: u8, resv: u16, resv2: [u32; 3] } 16;
    /// `struct io_uring_probe_op`.
    ProbeOp { op: u8, resv: u8, flags: u16, resv2: u32 } 8;
    /// `struct io_uring_clock_register`.
    ClockRegister { clockid: u32, resv: [u32; 3] } 16;
    /// `struct io_uring_clone_buffers`.
    CloneBuffers { src_fd: u32, flags: u32, src_off: u32, dst_off: u32, nr: u32, pad: [u32; 3] } 32;
    /// `struct io_uring_mem_region_reg`.
    MemRegionReg { region_uptr: u64, flags: u64, resv: [u64; 2] } 32;
    /// `struct io_uring_region_desc`.
    RegionDesc { user_addr: u64, size: u64, flags: u32, id: u32, mmap_offset: u64, resv: [u64; 4] } 64;
    /// `struct io_uring_reg_wait`.
    RegWait { ts: [i64; 2], min_wait_usec: u32, flags: u32, sigmask: u64, sigmask_sz: u32, pad: [u32; 3], pad2: [u64; 2] } 64;
    /// `struct io_uring_getevents_arg`.
    GeteventsArg { sigmask: u64, sigmask_sz: u32, min_wait_usec: u32, ts: u64 } 24;
    /// `struct io_uring_query_hdr`.
    QueryHdr { next_entry: u64, query_data: u64, query_op: u32, size: u32, result: i32, resv: [u32; 3] } 40;
    /// `struct io_uring_query_opcode`.
    QueryOpcode {
        nr_request_opcodes: u32,
        nr_register_opcodes: u32,
        feature_flags: u64,
        ring_setup_flags: u64,
        enter_flags: u64,
        sqe_flags: u64,
        nr_query_opcodes: u32,
        pad: u32,
    } 48;
}

/// `IO_URING_OP_SUPPORTED`.
pub const IO_URING_OP_SUPPORTED: u16 = 1 << 0;
/// `IORING_MEM_REGION_TYPE_USER`: the memory is the program's.
pub const IORING_MEM_REGION_TYPE_USER: u32 = 1;
/// `IORING_MEM_REGION_REG_WAIT_ARG`: the region holds arguments of waits.
pub const IORING_MEM_REGION_REG_WAIT_ARG: u64 = 1;
/// `IORING_REG_WAIT_TS`.
pub const IORING_REG_WAIT_TS: u32 = 1 << 0;
/// `IORING_REGISTER_SRC_REGISTERED`: the source is named by its registered index.
pub const IORING_REGISTER_SRC_REGISTERED: u32 = 1 << 0;
/// `IORING_REGISTER_DST_REPLACE`.
pub const IORING_REGISTER_DST_REPLACE: u32 = 1 << 1;
