//! NVMe commands through `IORING_OP_URING_CMD`, as `include/uapi/linux/nvme_ioctl.h` defines them.
//!
//! ```no_run
//! use dmaring::Ring;
//! use dmaring::abi::nvme::{NVME_URING_CMD_IO, NvmeUringCmd};
//! use io_uring::{opcode, types};
//!
//! let mut ring = Ring::builder(8).sqe128().cqe32().open("pci:0000:00:04.0")?;
//! let mut buffer = ring.alloc(4096)?;
//! // Read: eight blocks of 512 bytes from block 0.
//! let command = NvmeUringCmd {
//!     opcode: 0x02,
//!     nsid: 1,
//!     addr: buffer.as_mut_ptr() as u64,
//!     data_len: 4096,
//!     cdw12: 7,
//!     ..NvmeUringCmd::default()
//! };
//! let entry = opcode::UringCmd80::new(types::Fixed(0), NVME_URING_CMD_IO).cmd(command.bytes()).build();
//! // SAFETY: the buffer outlives the command, and nothing else touches it meanwhile.
//! unsafe { ring.submission().push(&entry)? };
//! ring.submit_and_wait(1)?;
//! let completion = ring.completion().next().expect("waited for one");
//! assert_eq!(completion.result(), 0, "0, the status of NVMe, or an errno below 0");
//! println!("dwords 0 and 1 of the completion: {:#x}", completion.big_cqe()[0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | member | what the ring does with it |
//! |---|---|
//! | `flags` | must be 0 (`EINVAL`) |
//! | `nsid` | of an I/O command that of the file (`EINVAL`); of an admin command any |
//! | `addr`, `data_len` | data from or to the program, by bit 0 of the opcode; with `_VEC`, an array of `data_len` iovecs. Any alignment; no longer than the longest transfer of the controller (`EINVAL`). With `IORING_URING_CMD_FIXED`, inside the registered buffer (`EFAULT`) |
//! | `metadata`, `metadata_len` | not both, with data (`EINVAL`): these namespaces have none |
//! | `timeout_ms` | a device that is silent for longer than this and than 30 s (60 s for an admin command) is stopped, and its commands end with `ETIMEDOUT` |
//! | others | as they are |
//!
//! The result is the status of the completion (bits 14:0: code, type, more, do not retry), 0 for success, or an
//! errno below 0 when the command did not get to the device or the device has failed. As the driver cannot know
//! how long the data of any command is, memory that a wrong `data_len` could make the device overrun is not
//! given to it: data that does not end with a page goes through bounce memory, but for Read, Write and Compare
//! of just that length. A command that moves more than `data_len` says still fails in the way of the device,
//! and may take its second page of data for a list of pages: it reaches no more than this process has mapped.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::entry::Sqe;

/// An I/O command.
pub const NVME_URING_CMD_IO: u32 = request(0x80);
/// An I/O command whose data is where an array of iovecs says.
pub const NVME_URING_CMD_IO_VEC: u32 = request(0x81);
/// An admin command.
pub const NVME_URING_CMD_ADMIN: u32 = request(0x82);
/// An admin command whose data is where an array of iovecs says.
pub const NVME_URING_CMD_ADMIN_VEC: u32 = request(0x83);

/// `_IOWR('N', number, struct nvme_uring_cmd)`.
const fn request(number: u32) -> u32 {
    3 << 30 | (size_of::<NvmeUringCmd>() as u32) << 16 | (b'N' as u32) << 8 | number
}

const _: () = assert!(NVME_URING_CMD_IO == 0xc048_4e80);

/// `struct nvme_uring_cmd`: 72 bytes, in the 80 at the end of a submission entry of 128.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs)] // the names are the header's
pub struct NvmeUringCmd {
    pub opcode: u8,
    pub flags: u8,
    pub rsvd1: u16,
    pub nsid: u32,
    pub cdw2: u32,
    pub cdw3: u32,
    pub metadata: u64,
    pub addr: u64,
    pub metadata_len: u32,
    /// Bytes of data; iovecs of a `_VEC` command.
    pub data_len: u32,
    pub cdw10: u32,
    pub cdw11: u32,
    pub cdw12: u32,
    pub cdw13: u32,
    pub cdw14: u32,
    pub cdw15: u32,
    pub timeout_ms: u32,
    pub rsvd2: u32,
}

const _: () = assert!(size_of::<NvmeUringCmd>() == 72);

impl NvmeUringCmd {
    /// As `io_uring::opcode::UringCmd80` takes it.
    #[must_use]
    pub fn bytes(&self) -> [u8; 80] {
        let mut bytes = [0; 80];
        bytes[..size_of::<Self>()].copy_from_slice(self.as_bytes());
        bytes
    }

    /// The command of an entry of 128 bytes: it begins at byte 48.
    pub(crate) fn of_entry(sqe: &Sqe, second_half: &[u64; 8]) -> Self {
        let mut words = [0; 9];
        words[..2].copy_from_slice(&[sqe.addr3, sqe.attr_type_mask]);
        words[2..].copy_from_slice(&second_half[..7]);
        zerocopy::transmute!(words)
    }

    /// Whether the data goes to the device (`nvme_is_write`).
    pub(crate) fn is_write(&self) -> bool {
        self.opcode & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use io_uring::squeue::Entry128;
    use io_uring::{opcode, types};

    use super::*;

    #[test]
    fn commands_arrive_as_the_io_uring_crate_lays_them_out() {
        let command =
            NvmeUringCmd { opcode: 2, nsid: 7, addr: 0x1000, cdw15: 15, timeout_ms: 16, ..Default::default() };
        let entry: Entry128 = opcode::UringCmd80::new(types::Fixed(3), NVME_URING_CMD_IO).cmd(command.bytes()).build();
        let sqe: Sqe = sqe_of(super::super::entry::words::<_, 0>(&entry));
        let half = super::super::entry::words::<_, 8>(&entry);
        assert_eq!((sqe.opcode, sqe.off as u32, sqe.fd), (46, NVME_URING_CMD_IO, 3));
        assert_eq!(NvmeUringCmd::of_entry(&sqe, &half), command);
    }

    /// The members of an entry that the test looks at.
    fn sqe_of(words: [u64; 8]) -> Sqe {
        Sqe {
            opcode: words[0] as u8,
            fd: (words[0] >> 32) as i32,
            off: words[1],
            addr3: words[6],
            attr_type_mask: words[7],
            ..Sqe::default()
        }
    }
}
