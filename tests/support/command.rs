//! NVMe commands as cases send them.

use dmaring::abi::nvme::{NVME_URING_CMD_IO, NvmeUringCmd};
use io_uring::cqueue::Entry32;
use io_uring::opcode;
use io_uring::squeue::Entry128;

use super::raw::Memory;
use super::rig::{FILE, Rig};
use crate::case::{Bench, Stop, skip};

pub(crate) const FLUSH: u8 = 0x00;
pub(crate) const WRITE: u8 = 0x01;
pub(crate) const READ: u8 = 0x02;
pub(crate) const COMPARE: u8 = 0x05;
pub(crate) const WRITE_ZEROES: u8 = 0x08;
pub(crate) const DATASET_MANAGEMENT: u8 = 0x09;
pub(crate) const GET_FEATURES: u8 = 0x0a;
pub(crate) const IDENTIFY: u8 = 0x06;

/// Status code and type, without More and Do Not Retry.
pub(crate) const CODE: i32 = 0x7ff;
const BLOCK: u64 = 512;

pub(crate) type CommandRig = Rig<Entry128, Entry32>;

impl Bench {
    /// What takes NVMe commands for the namespace, or for the controller.
    pub(crate) fn command_name(&self, admin: bool) -> Result<String, Stop> {
        if self.is_device() {
            return Ok(self.name.clone());
        }
        // /dev/nvme1n1: /dev/ng1n1 and /dev/nvme1.
        let Some(number) = self.name.strip_prefix("/dev/nvme") else {
            return skip("a loop device takes no NVMe commands");
        };
        let controller = number.split('n').next().unwrap_or_default();
        Ok(if admin { format!("/dev/nvme{controller}") } else { format!("/dev/ng{number}") })
    }

    pub(crate) fn command_rig(&self) -> Result<CommandRig, Stop> {
        let bench = Self { name: self.command_name(false)?, ..self.clone() };
        bench.open(bench.builder(8).sqe128().cqe32())
    }

    pub(crate) fn admin_rig(&self) -> Result<CommandRig, Stop> {
        let bench = Self { name: self.command_name(true)?, ..self.clone() };
        bench.open(bench.builder(8).sqe128().cqe32().admin_passthrough(true))
    }
}

pub(crate) fn entry(op: u32, command: &NvmeUringCmd) -> Entry128 {
    opcode::UringCmd80::new(FILE, op).cmd(command.bytes()).build()
}

pub(crate) fn fixed(op: u32, command: &NvmeUringCmd, index: u16) -> Entry128 {
    opcode::UringCmd80::new(FILE, op).cmd(command.bytes()).buf_index(Some(index)).build()
}

/// Read, Write or Compare of all of `memory` at `offset`.
pub(crate) fn transfer(opcode: u8, memory: &Memory, offset: u64) -> NvmeUringCmd {
    let blocks = memory.len() as u32 / BLOCK as u32;
    NvmeUringCmd { addr: memory.address(), data_len: memory.len() as u32, ..ranged(opcode, offset, blocks) }
}

/// A command for `blocks` at `offset`, without data.
pub(crate) fn ranged(opcode: u8, offset: u64, blocks: u32) -> NvmeUringCmd {
    let first = offset / BLOCK;
    NvmeUringCmd {
        opcode,
        nsid: 1,
        cdw10: first as u32,
        cdw11: (first >> 32) as u32,
        cdw12: blocks - 1,
        ..NvmeUringCmd::default()
    }
}

impl CommandRig {
    pub(crate) fn io(&mut self, command: &NvmeUringCmd) -> Result<i32, Stop> {
        Ok(self.command(entry(NVME_URING_CMD_IO, command))?.0)
    }
}

/// A command on `parts`.
pub(crate) fn vectored(rig: &mut CommandRig, opcode: u8, parts: &[Memory], offset: u64) -> NvmeUringCmd {
    let iovecs: Vec<_> = parts.iter().map(Memory::iovec).collect();
    let len: usize = parts.iter().map(Memory::len).sum();
    let (addr, data_len) = (rig.iovecs(&iovecs) as u64, iovecs.len() as u32);
    NvmeUringCmd { addr, data_len, ..ranged(opcode, offset, len as u32 / BLOCK as u32) }
}
