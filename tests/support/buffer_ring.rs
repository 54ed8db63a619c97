//! Buffers that the ring picks: entries that ask for one, groups of them, and rings of them in memory.

use io_uring::squeue::{Entry, Flags};
use io_uring::{cqueue, opcode};

use super::calls::{REGISTER_PBUF_RING, REGISTER_PBUF_STATUS, UNREGISTER_PBUF_RING, register, register_bytes, word};
use super::raw::Memory;
use super::rig::{FILE, Rig};
use crate::case::Stop;

/// `IOU_PBUF_RING_MMAP` and `IOU_PBUF_RING_INC`.
pub(crate) const MMAP: u16 = 1;
pub(crate) const INC: u16 = 2;

/// `IORING_CQE_F_BUF_MORE`.
pub(crate) const BUF_MORE: u32 = 16;

/// The flags of a completion that used buffer `id`.
pub(crate) fn used(id: u16) -> u32 {
    1 | u32::from(id) << 16
}

/// READ of `len` bytes into a buffer of `group`.
pub(crate) fn read_into(group: u16, len: u32, offset: u64) -> Entry {
    let read = opcode::Read::new(FILE, std::ptr::null_mut(), len).offset(offset).buf_group(group);
    read.build().flags(Flags::BUFFER_SELECT)
}

/// PROVIDE_BUFFERS: `count` buffers of `len` bytes, one after another from `address` on.
pub(crate) fn provide(group: u16, address: u64, len: u32, count: u16, id: u16) -> Entry {
    opcode::ProvideBuffers::new(address as *mut u8, len.cast_signed(), count, group, id).build()
}

/// REMOVE_BUFFERS.
pub(crate) fn remove(group: u16, count: u16) -> Entry {
    opcode::RemoveBuffers::new(count, group).build()
}

/// Submits an entry, and answers result and flags of its completion.
pub(crate) fn submit_one(rig: &mut Rig, entry: &Entry) -> Result<(i32, u32), Stop> {
    let done = submit_all(rig, std::slice::from_ref(entry))?;
    Ok((done[0].1, done[0].2))
}

/// Submits entries together, numbered from 0, and answers number, result and flags of their completions in
/// the order of the numbers.
pub(crate) fn submit_all(rig: &mut Rig, entries: &[Entry]) -> Result<Vec<(u64, i32, u32)>, Stop> {
    for (i, entry) in entries.iter().enumerate() {
        rig.push(&entry.clone().user_data(i as u64))?;
    }
    assert_eq!(rig.ring.submit_and_wait(entries.len())?, entries.len(), "entries submitted");
    let mut done = rig.wait(entries.len())?;
    done.sort_by_key(|done| done.user_data);
    assert_eq!(done.len(), entries.len(), "{done:?}");
    Ok(done.iter().map(|done| (done.user_data, done.res, done.flags)).collect())
}

/// `struct io_uring_buf_reg`.
pub(crate) fn buf_reg(address: u64, entries: u32, group: u16, flags: u16) -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[..8].copy_from_slice(&address.to_ne_bytes());
    bytes[8..12].copy_from_slice(&entries.to_ne_bytes());
    bytes[12..14].copy_from_slice(&group.to_ne_bytes());
    bytes[14..16].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

/// Calls REGISTER_PBUF_RING.
pub(crate) fn register_ring(rig: &Rig, argument: &[u8; 40]) -> i32 {
    register_bytes(&rig.ring, REGISTER_PBUF_RING, argument, 1)
}

/// Calls UNREGISTER_PBUF_RING.
pub(crate) fn unregister_ring(rig: &Rig, group: u16) -> i32 {
    register_bytes(&rig.ring, UNREGISTER_PBUF_RING, &buf_reg(0, 0, group, 0), 1)
}

/// Calls REGISTER_PBUF_STATUS: the head of a group's ring, or an errno.
pub(crate) fn head(rig: &Rig, group: u32) -> i32 {
    let argument = Memory::plain(40);
    argument.write(&group.to_ne_bytes());
    match register(&rig.ring, REGISTER_PBUF_STATUS, argument.address(), 1) {
        0 => word(&argument, 4).cast_signed(),
        errno => errno,
    }
}

/// A ring of buffers in memory of the program.
#[derive(Debug)]
pub(crate) struct BufferRing {
    pub(crate) memory: Memory,
    group: u16,
    entries: u16,
    tail: u16,
}

impl BufferRing {
    /// Registers an empty ring of `entries`.
    pub(crate) fn new(rig: &mut Rig, group: u16, entries: u16, flags: u16) -> Self {
        let memory = rig.plain(16 * usize::from(entries));
        let answer = register_ring(rig, &buf_reg(memory.address(), entries.into(), group, flags));
        assert_eq!(answer, 0, "a ring of {entries} buffers");
        Self { memory, group, entries, tail: 0 }
    }

    /// Takes it away and registers the same memory anew, empty.
    pub(crate) fn renew(&mut self, rig: &Rig, flags: u16) {
        assert_eq!(unregister_ring(rig, self.group), 0);
        self.memory.write(&vec![0; self.memory.len()]);
        self.tail = 0;
        let argument = buf_reg(self.memory.address(), self.entries.into(), self.group, flags);
        assert_eq!(register_ring(rig, &argument), 0);
    }

    /// Adds a buffer and publishes it.
    pub(crate) fn add(&mut self, buffer: &Memory, id: u16) {
        self.add_raw(buffer.address(), buffer.len() as u32, id);
    }

    /// As [`add`](Self::add), of anything.
    pub(crate) fn add_raw(&mut self, address: u64, len: u32, id: u16) {
        // The tail stands in the last two bytes of entry 0.
        let slot = self.memory.part(16 * usize::from(self.tail % self.entries), 14);
        slot.write(&[&address.to_ne_bytes()[..], &len.to_ne_bytes(), &id.to_ne_bytes()].concat());
        self.set_tail(self.tail.wrapping_add(1));
    }

    /// Publishes a tail.
    pub(crate) fn set_tail(&mut self, tail: u16) {
        self.tail = tail;
        self.memory.part(14, 2).write(&tail.to_ne_bytes());
    }

    /// How far the ring has come with its buffers.
    pub(crate) fn head(&self, rig: &Rig) -> i32 {
        head(rig, self.group.into())
    }

    /// Address, less that of `memory`, and length that stand in an entry.
    pub(crate) fn entry(&self, index: usize, memory: &Memory) -> (u64, u32) {
        let slot = self.memory.part(16 * index, 16);
        (super::calls::long(&slot, 0).wrapping_sub(memory.address()), word(&slot, 8))
    }
}

/// Which buffer a completion used.
pub(crate) fn buffer_of(flags: u32) -> Option<u16> {
    cqueue::buffer_select(flags)
}
