//! Groups of provided buffers: classic ones, whose buffers are handed over by entries, and rings, whose
//! buffers the program writes into memory of its own (io_uring/kbuf.c, 6.18).

use std::collections::{HashMap, VecDeque};

use super::{Engine, Outcome};
use crate::abi::entry::Sqe;
use crate::abi::op::{IORING_CQE_F_BUF_MORE, IORING_CQE_F_BUFFER};
use crate::abi::register::{BufReg, IOU_PBUF_RING_INC, IOU_PBUF_RING_MMAP};
use crate::nvme::Segment;
use crate::usermem::{OwnMemory, UserMemory};

/// A buffer of a classic group.
#[derive(Clone, Copy, Debug)]
struct Provided {
    address: u64,
    len: u32,
    id: u16,
}

/// A ring of buffers: entries of 16 bytes (`struct io_uring_buf`), the tail in the first one's last two.
#[derive(Debug)]
struct BufferRing {
    address: u64,
    mask: u16,
    head: u16,
    /// Buffers are used up piece by piece (`IOU_PBUF_RING_INC`).
    incremental: bool,
    /// A rest of fewer bytes is given up.
    least: u32,
    /// Memory that the engine has brought (`IOU_PBUF_RING_MMAP`).
    memory: Option<OwnMemory>,
}

/// Offset of the tail in the ring.
const TAIL: u64 = 14;

#[derive(Debug)]
enum Group {
    Classic(VecDeque<Provided>),
    Ring(BufferRing),
}

/// A buffer that has been picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Picked {
    address: u64,
    len: u32,
    /// Flags of the completion: which buffer it was.
    flags: u32,
}

/// The groups of a ring, by their number.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: HashMap<u16, Group>,
}

impl Groups {
    /// Picks the next buffer of a group for `wanted` bytes, 0 for all of it.
    fn pick(&mut self, group: u16, wanted: u32, user: &UserMemory) -> Result<Picked, i32> {
        let cut = |len: u32| if wanted == 0 { len } else { wanted.min(len) };
        let flags = |id: u16| IORING_CQE_F_BUFFER | u32::from(id) << 16;
        match self.groups.get_mut(&group).ok_or(libc::ENOBUFS)? {
            Group::Classic(buffers) => {
                let buffer = buffers.pop_front().ok_or(libc::ENOBUFS)?;
                Ok(Picked { address: buffer.address, len: cut(buffer.len), flags: flags(buffer.id) })
            }
            Group::Ring(ring) => {
                let tail = user.read_u16(ring.address + TAIL).ok_or(libc::EFAULT)?;
                if tail == ring.head {
                    return Err(libc::ENOBUFS);
                }
                let (address, len, id) = ring.entry(user).ok_or(libc::EFAULT)?;
                let len = cut(len);
                let used_up = ring.commit(len, user).ok_or(libc::EFAULT)?;
                let more = if used_up { 0 } else { IORING_CQE_F_BUF_MORE };
                Ok(Picked { address, len, flags: flags(id) | more })
            }
        }
    }

    /// Adds buffers to a classic group, which is made if it is not there (`io_provide_buffers_legacy`).
    fn provide(&mut self, sqe: &Sqe) -> Result<(), i32> {
        let group = self.groups.entry(sqe.buf_index).or_insert_with(|| Group::Classic(VecDeque::new()));
        let Group::Classic(buffers) = group else { return Err(libc::EINVAL) };
        // Checked at prep: they fit, and the identifiers as well.
        for i in 0..sqe.fd.cast_unsigned() {
            // As many as there are identifiers (`io_add_buffers`: USHRT_MAX).
            if buffers.len() == usize::from(u16::MAX) {
                return if i == 0 { Err(libc::EOVERFLOW) } else { Ok(()) };
            }
            let address = sqe.addr + u64::from(i) * u64::from(sqe.len);
            buffers.push_back(Provided { address, len: sqe.len, id: (sqe.off as u16).wrapping_add(i as u16) });
        }
        Ok(())
    }

    /// Takes up to `count` buffers out of a classic group. Answers how many.
    pub(super) fn remove(&mut self, group: u16, count: u32) -> Result<i32, i32> {
        match self.groups.get_mut(&group).ok_or(libc::ENOENT)? {
            Group::Ring(_) => Err(libc::EINVAL),
            Group::Classic(buffers) => {
                let count = buffers.len().min(count as usize);
                buffers.drain(..count);
                Ok(count as i32)
            }
        }
    }

    /// `io_register_pbuf_ring`.
    pub(super) fn register(&mut self, reg: &BufReg, user: &UserMemory) -> Result<(), i32> {
        if reg.resv != [0; 5] || reg.flags & !(IOU_PBUF_RING_MMAP | IOU_PBUF_RING_INC) != 0 {
            return Err(libc::EINVAL);
        }
        if reg.min_left != 0 && reg.flags & IOU_PBUF_RING_INC == 0 {
            return Err(libc::EINVAL);
        }
        if !reg.ring_entries.is_power_of_two() {
            return Err(libc::EINVAL);
        }
        // The head of an empty ring must not look like that of a full one.
        if reg.ring_entries >= 65536 {
            return Err(libc::EINVAL);
        }
        match self.groups.get(&reg.bgid) {
            Some(Group::Classic(buffers)) if buffers.is_empty() => {}
            Some(_) => return Err(libc::EEXIST),
            None => {}
        }
        let bytes = u64::from(reg.ring_entries) * 16;
        let (address, memory) = if reg.flags & IOU_PBUF_RING_MMAP != 0 {
            let memory =
                OwnMemory::new(bytes as usize).map_err(|error| error.raw_os_error().unwrap_or(libc::ENOMEM))?;
            (memory.address(), Some(memory))
        } else {
            if !reg.ring_addr.is_multiple_of(4096) || reg.ring_addr == 0 {
                return Err(if reg.ring_addr == 0 { libc::EFAULT } else { libc::EINVAL });
            }
            if !user.is_usable(reg.ring_addr, bytes, true) {
                return Err(libc::EFAULT);
            }
            (reg.ring_addr, None)
        };
        let incremental = reg.flags & IOU_PBUF_RING_INC != 0;
        let ring = BufferRing {
            address,
            mask: (reg.ring_entries - 1) as u16,
            head: 0,
            incremental,
            least: reg.min_left,
            memory,
        };
        self.groups.insert(reg.bgid, Group::Ring(ring));
        Ok(())
    }

    /// `io_unregister_pbuf_ring`.
    pub(super) fn unregister(&mut self, reg: &BufReg) -> Result<(), i32> {
        if reg.resv != [0; 5] || reg.min_left != 0 || reg.flags != 0 {
            return Err(libc::EINVAL);
        }
        match self.groups.get(&reg.bgid).ok_or(libc::ENOENT)? {
            Group::Classic(_) => Err(libc::EINVAL),
            Group::Ring(_) => {
                self.groups.remove(&reg.bgid);
                Ok(())
            }
        }
    }

    /// Where the buffers of a ring are handed out next (`io_register_pbuf_status`).
    pub(super) fn head(&self, group: u32) -> Result<u32, i32> {
        let number = u16::try_from(group).map_err(|_| libc::ENOENT)?;
        match self.groups.get(&number).ok_or(libc::ENOENT)? {
            Group::Classic(_) => Err(libc::EINVAL),
            Group::Ring(ring) => Ok(ring.head.into()),
        }
    }

    /// Where the memory of a ring is that the engine has brought.
    pub(super) fn memory(&self, group: u16) -> Option<u64> {
        match self.groups.get(&group)? {
            Group::Ring(BufferRing { memory: Some(memory), .. }) => Some(memory.address()),
            _ => None,
        }
    }
}

impl BufferRing {
    fn place(&self) -> u64 {
        self.address + u64::from(self.head & self.mask) * 16
    }

    /// Address, length and identifier of the next buffer.
    fn entry(&self, user: &UserMemory) -> Option<(u64, u32, u16)> {
        let [address, rest] = user.read::<[u64; 2]>(self.place())?;
        Some((address, rest as u32, (rest >> 32) as u16))
    }

    /// Uses `len` bytes of the next buffer (`io_kbuf_commit`, before a block device is asked: it cannot be
    /// polled). Answers whether that was all of it.
    fn commit(&mut self, mut len: u32, user: &UserMemory) -> Option<bool> {
        if !self.incremental {
            self.head = self.head.wrapping_add(1);
            return Some(true);
        }
        loop {
            let (address, buffer, _) = self.entry(user)?;
            let used = len.min(buffer);
            let left = buffer - used;
            // One of no length is never used up: whoever puts it there blocks the ring.
            if left > 0 && left >= self.least || used == 0 {
                user.write(self.place(), &[address.wrapping_add(u64::from(used))])?;
                user.write(self.place() + 8, &[left])?;
                return Some(false);
            }
            user.write(self.place() + 8, &[0u32])?;
            self.head = self.head.wrapping_add(1);
            len -= used;
            if len == 0 {
                return Some(true);
            }
        }
    }
}

impl Engine {
    /// Puts the buffer for a read into `segments`.
    pub(super) fn select_buffer(&mut self, sqe: &Sqe) -> Result<(), i32> {
        let picked = self.groups.pick(sqe.buf_index, sqe.len, &self.user)?;
        self.selected = picked.flags;
        self.segments.clear();
        self.segments.push(Segment { address: picked.address, len: picked.len.into(), delta: None });
        // Null is what `io_buffer_select` answers for none.
        if picked.address == 0 {
            return Err(libc::ENOBUFS);
        }
        if self.user.addressable(picked.address, picked.len.into()) { Ok(()) } else { Err(libc::EFAULT) }
    }

    /// Where the memory of a ring of buffers is that the engine has brought.
    pub(crate) fn buffer_ring(&self, group: u16) -> Option<u64> {
        self.groups.memory(group)
    }

    /// `PROVIDE_BUFFERS`.
    pub(super) fn provide_buffers(&mut self, sqe: &Sqe) -> Result<Outcome, i32> {
        self.groups.provide(sqe).map(|()| Outcome::Done(0))
    }
}
