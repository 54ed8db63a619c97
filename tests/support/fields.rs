//! An entry field by field, where the builders do not go.

use io_uring::opcode;
use io_uring::squeue::Entry;

use super::raw::edit;
use super::rig::{Completion, Rig};

/// The fields of `struct io_uring_sqe`, by the first of their names in each union.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fields {
    pub(crate) opcode: u8,
    pub(crate) flags: u8,
    pub(crate) ioprio: u16,
    pub(crate) fd: i32,
    pub(crate) off: u64,
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) op_flags: u32,
    pub(crate) user_data: u64,
    pub(crate) buf_index: u16,
    pub(crate) personality: u16,
    pub(crate) file_index: u32,
    pub(crate) addr3: u64,
}

impl Fields {
    pub(crate) fn entry(&self) -> Entry {
        edit(opcode::Nop::new().build(), |bytes| bytes.copy_from_slice(&self.bytes()))
    }

    /// The 64 bytes.
    pub(crate) fn bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[0] = self.opcode;
        bytes[1] = self.flags;
        bytes[2..4].copy_from_slice(&self.ioprio.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.fd.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.off.to_ne_bytes());
        bytes[16..24].copy_from_slice(&self.addr.to_ne_bytes());
        bytes[24..28].copy_from_slice(&self.len.to_ne_bytes());
        bytes[28..32].copy_from_slice(&self.op_flags.to_ne_bytes());
        bytes[32..40].copy_from_slice(&self.user_data.to_ne_bytes());
        bytes[40..42].copy_from_slice(&self.buf_index.to_ne_bytes());
        bytes[42..44].copy_from_slice(&self.personality.to_ne_bytes());
        bytes[44..48].copy_from_slice(&self.file_index.to_ne_bytes());
        bytes[48..56].copy_from_slice(&self.addr3.to_ne_bytes());
        bytes
    }
}

/// A TIMEOUT that ends only by being cancelled: an hour bounds what hangs.
pub(crate) fn endless<C: Completion>(rig: &mut Rig<Entry, C>, user_data: u64) -> Entry {
    let hour = rig.plain(16);
    hour.write(&3600u64.to_ne_bytes());
    opcode::Timeout::new(hour.ptr().cast()).build().user_data(user_data)
}

/// A LINK_TIMEOUT of an hour.
pub(crate) fn endless_link<C: Completion>(rig: &mut Rig<Entry, C>, user_data: u64) -> Entry {
    let hour = rig.plain(16);
    hour.write(&3600u64.to_ne_bytes());
    opcode::LinkTimeout::new(hour.ptr().cast()).build().user_data(user_data)
}

/// NOP.
pub(crate) fn nop(user_data: u64) -> Entry {
    opcode::Nop::new().build().user_data(user_data)
}
