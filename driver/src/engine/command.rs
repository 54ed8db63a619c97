//! `URING_CMD`: the block layer's discard, and NVMe commands as the program writes them, with the checks of
//! `nvme_uring_cmd_io` (drivers/nvme/host/ioctl.c, 6.18) in their order.

use std::sync::Arc;
use std::time::Duration;

use super::completions::Caller;
use super::entry::Entry;
use super::files::Target;
use super::{Engine, Outcome};
use crate::abi::entry::Sqe;
use crate::abi::nvme::{
    NVME_URING_CMD_ADMIN, NVME_URING_CMD_ADMIN_VEC, NVME_URING_CMD_IO, NVME_URING_CMD_IO_VEC, NvmeUringCmd,
};
use crate::abi::op::{IORING_URING_CMD_FIXED, UIO_MAXIOV};
use crate::nvme::{AdminData, Passthrough, Segment, longest_transfer, may_be_passed};
use crate::spec::command::Command;

impl Engine {
    #[cold] // out of the way of reads and writes
    pub(super) fn command(&mut self, entry: &Entry, caller: Caller) -> Result<Outcome, i32> {
        let sqe = &entry.sqe;
        let target = self.target(sqe)?;
        let (admin, vector) = match sqe.off as u32 {
            NVME_URING_CMD_IO => (false, false),
            NVME_URING_CMD_IO_VEC => (false, true),
            NVME_URING_CMD_ADMIN => (true, false),
            NVME_URING_CMD_ADMIN_VEC => (true, true),
            // Block devices poll for no commands (`io_uring_cmd`).
            _ if self.rules.iopoll => return Err(libc::EOPNOTSUPP),
            _ => return self.discard(sqe, target, caller),
        };
        // `nvme_uring_cmd_checks`.
        if !self.rings.has_sqe128() || !self.rules.big_cqes {
            return Err(libc::EOPNOTSUPP);
        }
        let command = NvmeUringCmd::of_entry(sqe, &entry.words);
        if command.flags != 0 {
            return Err(libc::EINVAL);
        }
        let Target { namespace, owner, .. } = self.files.target(target);
        let longest = longest_transfer(owner.info());
        if admin {
            if !self.options.admin_commands {
                return Err(libc::EACCES);
            }
            if !may_be_passed(&command) {
                return Err(libc::EPERM);
            }
        } else if command.nsid != namespace.nsid {
            return Err(libc::EINVAL);
        }
        let len = self.command_segments(sqe, &command, vector, longest)?;
        if admin { self.admin_command(&command, len, target) } else { self.io_command(&command, len, target, caller) }
    }

    /// Finds where the data of a command is. Answers how long it is.
    fn command_segments(&mut self, sqe: &Sqe, command: &NvmeUringCmd, vector: bool, longest: u64) -> Result<u64, i32> {
        self.segments.clear();
        if command.data_len == 0 {
            return Ok(0);
        }
        let fixed = sqe.op_flags & IORING_URING_CMD_FIXED != 0;
        let metadata = command.metadata != 0 && command.metadata_len != 0;
        // Registered memory is looked for first, other memory last.
        if metadata && !fixed {
            return Err(libc::EINVAL);
        }
        if vector {
            if command.data_len > UIO_MAXIOV {
                return Err(libc::EINVAL);
            }
            let read = self.user.read_iovecs(command.addr, command.data_len, &mut self.segments);
            read.ok_or(libc::EFAULT)?;
        } else {
            self.segments.push(Segment { address: command.addr, len: command.data_len.into(), delta: None });
        }
        if self.segments.iter().any(|s| s.len.cast_signed() < 0) {
            return Err(libc::EINVAL);
        }
        if fixed {
            self.buffers.check_segments(sqe.buf_index, &self.segments)?;
        }
        if metadata {
            return Err(libc::EINVAL);
        }
        if self.segments.iter().any(|s| !self.user.addressable(s.address, s.len)) {
            return Err(libc::EFAULT);
        }
        let len = self.segments.iter().fold(0u64, |sum, s| sum.saturating_add(s.len));
        if len == 0 || len > longest {
            return Err(libc::EINVAL);
        }
        // Found out when the pages are taken. What is read is written to memory.
        let fills = !command.is_write();
        if self.segments.iter().any(|s| !self.user.is_usable(s.address, s.len, fills)) {
            return Err(libc::EFAULT);
        }
        self.segments.retain(|s| s.len != 0);
        Ok(len)
    }

    fn io_command(&mut self, command: &NvmeUringCmd, len: u64, target: usize, caller: Caller) -> Result<Outcome, i32> {
        let queue = self.queue_of(target)?;
        let queue = &mut self.queues[queue];
        let namespace = &self.files.target(target).namespace;
        let passthrough = Passthrough { caller, command: *command, len };
        if !queue.pass(&passthrough, namespace, &mut self.segments, &self.user) {
            return Err(libc::EFAULT);
        }
        Ok(Outcome::Issued)
    }

    /// An admin command is over when this returns: at once for most, and within its time limit for all.
    fn admin_command(&mut self, command: &NvmeUringCmd, len: u64, target: usize) -> Result<Outcome, i32> {
        let owner = Arc::clone(&self.files.target(target).owner);
        let failed = |error: crate::Error| {
            tracing::warn!(%error, "admin command of the program");
            error.errno()
        };
        let data = if len == 0 { None } else { Some(AdminData::new(owner.space(), len as usize).map_err(failed)?) };
        if let Some(data) = data.as_ref().filter(|_| command.is_write()) {
            data.pieces(&self.segments).for_each(|(address, piece)| self.user.copy_in(address, &piece));
        }
        let prp = data.as_ref().map_or([0; 2], AdminData::prp);
        let to_device = Command { prp1: prp[0], prp2: prp[1], ..Command::from(command) };
        let limit = Duration::from_millis(command.timeout_ms.into());
        let completion = owner.pass_admin(to_device, limit).map_err(failed)?;
        if let Some(data) = data.as_ref().filter(|_| !command.is_write() && completion.status.is_success()) {
            data.pieces(&self.segments).for_each(|(address, piece)| self.user.copy_out(&piece, address));
        }
        Ok(Outcome::DoneBig(completion.status.bits().into(), [completion.result(), 0]))
    }
}
