//! `io_uring_register(2)` of a ring on devices: which call it is, and the checks of its arguments, as
//! `__io_uring_register` of kernel 6.18 has them. What is changed stands in the files of those who have it.

#![expect(unsafe_code)] // passes the promise of registered memory on

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;

use zerocopy::FromZeros;

use super::Engine;
use super::buffers::{Buffers, MOST_BUFFERS};
use super::cancel::Wanted;
use super::file_table::MOST_FILES;
use super::mailbox::{find, lock};
use super::memory::refused;
use super::prepare::are_cancel_flags;
use super::ring_index;
use super::timeouts::Clock;
use crate::abi::op::{IORING_ASYNC_CANCEL_FD, IORING_ASYNC_CANCEL_FD_FIXED};
use crate::abi::register::{
    BufReg, BufStatus, ClockRegister, CloneBuffers, IORING_MEM_REGION_REG_WAIT_ARG, IORING_MEM_REGION_TYPE_USER,
    IORING_REGISTER_DST_REPLACE, IORING_REGISTER_SRC_REGISTERED, IORING_RSRC_REGISTER_SPARSE, MemRegionReg, RegionDesc,
    RsrcRegister, RsrcUpdate2, SyncCancelReg, opcode,
};
use crate::error::Error;

/// Address and number of arguments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Argument {
    pub(super) address: u64,
    pub(super) count: u32,
}

impl Argument {
    /// There is none, and nothing is counted.
    fn none(self) -> Result<(), i32> {
        if self.address == 0 && self.count == 0 { Ok(()) } else { Err(libc::EINVAL) }
    }

    /// There is one, and one is counted.
    fn one(self) -> Result<u64, i32> {
        if self.address != 0 && self.count == 1 { Ok(self.address) } else { Err(libc::EINVAL) }
    }
}

/// An `iovec` of two words.
fn iovec([address, len]: [u64; 2]) -> libc::iovec {
    libc::iovec { iov_base: address as *mut libc::c_void, iov_len: len as usize }
}

impl Engine {
    /// # Safety
    /// As [`Submitter::register`](crate::Submitter::register).
    pub(crate) unsafe fn register(&mut self, opcode: u32, address: u64, count: u32) -> Result<u32, Error> {
        let opcode = self.check_register(opcode)?;
        let argument = Argument { address, count };
        let done = match opcode {
            opcode::REGISTER_BUFFERS | opcode::REGISTER_BUFFERS2 | opcode::REGISTER_BUFFERS_UPDATE => {
                // SAFETY: the caller's promise.
                unsafe { self.register_buffer_table(opcode, argument) }
            }
            opcode::UNREGISTER_BUFFERS => {
                argument.none().map_err(refused)?;
                self.unregister_buffers().map(|()| 0)
            }
            // SAFETY: the caller's promise.
            opcode::REGISTER_CLONE_BUFFERS => unsafe { self.clone_buffers(argument) },
            _ => self.register_other(opcode, argument).map_err(refused),
        };
        self.attend();
        self.announce();
        done
    }

    /// What is checked before any argument is looked at. Answers the opcode.
    pub(super) fn check_register(&self, opcode: u32) -> Result<u32, Error> {
        self.check_ours()?;
        let opcode = if opcode & opcode::REGISTER_USE_REGISTERED_RING != 0 {
            ring_index::check(self.descriptor()).map_err(refused)?;
            opcode & !opcode::REGISTER_USE_REGISTERED_RING
        } else {
            opcode
        };
        if opcode >= opcode::REGISTER_LAST {
            return Err(refused(libc::EINVAL));
        }
        self.gate.check_issuer().map_err(refused)?;
        if !self.gate.is_disabled() && !self.restrictions.allows_register(opcode) {
            return Err(refused(libc::EACCES));
        }
        Ok(opcode)
    }

    fn register_other(&mut self, opcode: u32, argument: Argument) -> Result<u32, i32> {
        let none = |result: Result<(), i32>| result.map(|()| 0);
        match opcode {
            opcode::REGISTER_FILES if argument.address == 0 => Err(libc::EFAULT),
            opcode::REGISTER_FILES => {
                // Found before the descriptors are looked at.
                self.check_new_files(argument.count)?;
                let fds = self.user.read_many::<i32>(argument.address, argument.count as usize);
                none(self.register_files(&fds.ok_or(libc::EFAULT)?, &[]))
            }
            opcode::UNREGISTER_FILES => {
                argument.none()?;
                none(self.unregister_files())
            }
            opcode::REGISTER_FILES2 => none(self.register_files2(argument)),
            opcode::REGISTER_FILES_UPDATE => {
                let update = self.update_argument(argument, 16)?;
                self.update_files(&RsrcUpdate2 { tags: 0, nr: argument.count, resv2: 0, ..update })
            }
            opcode::REGISTER_FILES_UPDATE2 => {
                let update = self.update_argument(argument, 32)?;
                self.update_files(&update)
            }
            opcode::REGISTER_EVENTFD | opcode::REGISTER_EVENTFD_ASYNC => {
                if argument.count != 1 {
                    return Err(libc::EINVAL);
                }
                let fd = self.user.read::<i32>(argument.address).ok_or(libc::EFAULT);
                none(self.signal.register(fd, opcode == opcode::REGISTER_EVENTFD_ASYNC, self.cq.tail()))
            }
            opcode::UNREGISTER_EVENTFD => {
                argument.none()?;
                none(self.signal.unregister())
            }
            opcode::REGISTER_PROBE => none(self.probe(argument)),
            opcode::REGISTER_QUERY => none(self.query(argument)),
            opcode::REGISTER_RESTRICTIONS => none(self.register_restrictions(argument)),
            opcode::REGISTER_ENABLE_RINGS => {
                argument.none()?;
                self.gate.enable()?;
                *lock(&self.mailbox.issuer) = self.gate.issuer();
                self.mailbox.enable();
                Ok(0)
            }
            opcode::REGISTER_RING_FDS => ring_index::register(&self.user, argument),
            opcode::UNREGISTER_RING_FDS => ring_index::unregister(&self.user, argument),
            opcode::REGISTER_PBUF_RING | opcode::UNREGISTER_PBUF_RING => {
                let reg = self.user.read::<BufReg>(argument.one()?).ok_or(libc::EFAULT)?;
                let adds = opcode == opcode::REGISTER_PBUF_RING;
                none(if adds { self.groups.register(&reg, &self.user) } else { self.groups.unregister(&reg) })
            }
            opcode::REGISTER_PBUF_STATUS => {
                let address = argument.one()?;
                let mut status = self.user.read::<BufStatus>(address).ok_or(libc::EFAULT)?;
                if status.resv != [0; 8] {
                    return Err(libc::EINVAL);
                }
                status.head = self.groups.head(status.buf_group)?;
                none(self.user.write(address, &[status]).ok_or(libc::EFAULT))
            }
            opcode::REGISTER_SYNC_CANCEL => self.sync_cancel(argument),
            opcode::REGISTER_CLOCK => {
                if argument.address == 0 || argument.count != 0 {
                    return Err(libc::EINVAL);
                }
                let clock = self.user.read::<ClockRegister>(argument.address).ok_or(libc::EFAULT)?;
                if clock.resv != [0; 3] {
                    return Err(libc::EINVAL);
                }
                self.clock = Clock::of_number(clock.clockid.cast_signed()).ok_or(libc::EINVAL)?;
                Ok(0)
            }
            opcode::REGISTER_MEM_REGION => none(self.register_region(argument)),
            opcode::REGISTER_PERSONALITY => {
                argument.none()?;
                Err(libc::EOPNOTSUPP)
            }
            // There are none.
            opcode::UNREGISTER_PERSONALITY => Err(libc::EINVAL),
            _ => Err(libc::EINVAL),
        }
    }

    fn check_new_files(&self, count: u32) -> Result<(), i32> {
        if self.files.has_fixed() {
            return Err(libc::EBUSY);
        }
        match count {
            0 => Err(libc::EINVAL),
            // Before anything of that length is made.
            count if count as usize > MOST_FILES => Err(libc::EMFILE),
            _ => Ok(()),
        }
    }

    fn register_files2(&mut self, argument: Argument) -> Result<(), i32> {
        let register = self.register_argument(argument)?;
        self.check_new_files(register.nr)?;
        let count = register.nr as usize;
        // Without an array the table is sparse, with the flag and without.
        let fds = match register.data {
            0 => vec![-1; count],
            data => self.user.read_many::<i32>(data, count).ok_or(libc::EFAULT)?,
        };
        let tags = self.tags(register.tags, count)?;
        self.register_files(&fds, &tags)
    }

    fn tags(&self, address: u64, count: usize) -> Result<Vec<u64>, i32> {
        if address == 0 {
            return Ok(Vec::new());
        }
        self.user.read_many::<u64>(address, count).ok_or(libc::EFAULT)
    }

    /// `io_register_rsrc`: the count is the length of the structure.
    fn register_argument(&self, argument: Argument) -> Result<RsrcRegister, i32> {
        if argument.count as usize != size_of::<RsrcRegister>() {
            return Err(libc::EINVAL);
        }
        let register = self.user.read::<RsrcRegister>(argument.address).ok_or(libc::EFAULT)?;
        let known = register.flags & !IORING_RSRC_REGISTER_SPARSE == 0;
        let sparse = register.flags & IORING_RSRC_REGISTER_SPARSE != 0;
        let good = register.nr != 0 && register.resv2 == 0 && known && !(sparse && register.data != 0);
        if good { Ok(register) } else { Err(libc::EINVAL) }
    }

    /// `io_register_rsrc_update`, and of `len` 16 `io_register_files_update`.
    fn update_argument(&self, argument: Argument, len: u32) -> Result<RsrcUpdate2, i32> {
        if len == 32 && argument.count != len {
            return Err(libc::EINVAL);
        }
        if len == 16 && argument.count == 0 {
            return Err(libc::EINVAL);
        }
        let mut update = RsrcUpdate2::new_zeroed();
        if len == 16 {
            let [places, data] = self.user.read::<[u64; 2]>(argument.address).ok_or(libc::EFAULT)?;
            (update.offset, update.resv, update.data) = (places as u32, (places >> 32) as u32, data);
        } else {
            update = self.user.read(argument.address).ok_or(libc::EFAULT)?;
        }
        let empty = len == 32 && update.nr == 0;
        if empty || update.resv != 0 || update.resv2 != 0 { Err(libc::EINVAL) } else { Ok(update) }
    }

    /// # Safety
    /// As [`Submitter::register`](crate::Submitter::register).
    unsafe fn register_buffer_table(&mut self, opcode: u32, argument: Argument) -> Result<u32, Error> {
        let fault = || refused(libc::EFAULT);
        let iovecs = |this: &Self, address: u64, count: u32| -> Result<Vec<libc::iovec>, Error> {
            let words = this.user.read_many::<[u64; 2]>(address, count as usize).ok_or_else(fault)?;
            Ok(words.into_iter().map(iovec).collect())
        };
        if opcode == opcode::REGISTER_BUFFERS_UPDATE {
            let update = self.update_argument(argument, 32).map_err(refused)?;
            let end = update.offset.checked_add(update.nr).ok_or(refused(libc::EOVERFLOW))?;
            if self.buffers.is_empty() {
                return Err(refused(libc::ENXIO));
            }
            if end as usize > self.buffers.len() {
                return Err(refused(libc::EINVAL));
            }
            let iovecs = iovecs(self, update.data, update.nr)?;
            let tags = self.tags(update.tags, iovecs.len()).map_err(refused)?;
            // SAFETY: the caller's promise.
            return unsafe { self.update_buffers(update.offset, &iovecs, &tags) };
        }
        let (address, count, tags) = if opcode == opcode::REGISTER_BUFFERS {
            if argument.address == 0 {
                return Err(fault());
            }
            (argument.address, argument.count, 0)
        } else {
            let register = self.register_argument(argument).map_err(refused)?;
            (register.data, register.nr, register.tags)
        };
        if !self.buffers.is_empty() {
            return Err(refused(libc::EBUSY));
        }
        if count == 0 || count as usize > MOST_BUFFERS {
            return Err(refused(libc::EINVAL));
        }
        let tags = self.tags(tags, count as usize).map_err(refused)?;
        // Without an array the table is sparse.
        if address == 0 {
            let buffers = Buffers::sparse(count, &tags).map_err(refused)?;
            // SAFETY: holes only.
            return unsafe { self.use_buffers(buffers) }.map(|()| 0);
        }
        let iovecs = iovecs(self, address, count)?;
        // SAFETY: the caller's promise.
        unsafe { self.register_buffers(&iovecs, &tags) }.map(|()| 0)
    }

    /// `io_register_clone_buffers`.
    ///
    /// # Safety
    /// The buffers of the other ring stay mapped for as long as this one has them.
    unsafe fn clone_buffers(&mut self, argument: Argument) -> Result<u32, Error> {
        let address = argument.one().map_err(refused)?;
        let clone = self.user.read::<CloneBuffers>(address).ok_or(refused(libc::EFAULT))?;
        let known = IORING_REGISTER_SRC_REGISTERED | IORING_REGISTER_DST_REPLACE;
        let replaces = clone.flags & IORING_REGISTER_DST_REPLACE != 0;
        if clone.flags & !known != 0 {
            return Err(refused(libc::EINVAL));
        }
        if !replaces && !self.buffers.is_empty() {
            return Err(refused(libc::EBUSY));
        }
        if clone.pad != [0; 3] {
            return Err(refused(libc::EINVAL));
        }
        let fd = if clone.flags & IORING_REGISTER_SRC_REGISTERED != 0 {
            ring_index::descriptor(clone.src_fd).map_err(refused)?
        } else {
            clone.src_fd.cast_signed()
        };
        let other =
            find(fd).ok_or_else(|| refused(if super::issue::is_open(fd) { libc::EOPNOTSUPP } else { libc::EBADF }))?;
        if lock(&other.issuer).is_some_and(|issuer| issuer != std::thread::current().id()) {
            return Err(refused(libc::EEXIST));
        }
        let source = Arc::clone(&lock(&other.buffers));
        let (buffers, gone) = self.cloned(&source, &clone).map_err(refused)?;
        // SAFETY: the caller's promise.
        unsafe { self.use_buffers(buffers) }?;
        self.tell_tags(&gone);
        Ok(0)
    }

    /// The table with the copies, and the tags of what they replace (`io_clone_buffers`).
    fn cloned(&self, source: &Buffers, clone: &CloneBuffers) -> Result<(Buffers, Vec<u64>), i32> {
        let all = clone.nr == 0;
        // All of them take no place.
        if all && (clone.src_off != 0 || clone.dst_off != 0) {
            return Err(libc::EINVAL);
        }
        if source.is_empty() {
            return Err(libc::ENXIO);
        }
        let count = if all { source.len() as u32 } else { clone.nr };
        if count as usize > source.len() {
            return Err(libc::EINVAL);
        }
        let end = clone.src_off.checked_add(count).ok_or(libc::EOVERFLOW)?;
        if end as usize > source.len() {
            return Err(libc::EOVERFLOW);
        }
        let end = clone.dst_off.checked_add(count).ok_or(libc::EOVERFLOW)?;
        if end as usize > MOST_BUFFERS {
            return Err(libc::EINVAL);
        }
        let mut buffers = self.buffers.clone();
        let gone = buffers.copy_from(source, clone.src_off as usize, clone.dst_off as usize, count as usize);
        Ok((buffers, gone))
    }

    /// `io_sync_cancel`. What can be cancelled is cancelled at once, so there is nothing to wait for.
    fn sync_cancel(&mut self, argument: Argument) -> Result<u32, i32> {
        let reg = self.user.read::<SyncCancelReg>(argument.one()?).ok_or(libc::EFAULT)?;
        if reg.flags & !0x3f != 0 || reg.pad != [0; 7] || reg.pad2 != [0; 3] {
            return Err(libc::EINVAL);
        }
        if reg.flags & IORING_ASYNC_CANCEL_FD != 0 {
            self.check_file(reg.fd, reg.flags & IORING_ASYNC_CANCEL_FD_FIXED != 0)?;
        }
        debug_assert!(are_cancel_flags(reg.flags & 1));
        let wanted = Wanted { flags: reg.flags, user_data: reg.addr, opcode: reg.opcode };
        self.cancel_all(&wanted).map(i32::cast_unsigned)
    }

    /// `io_register_mem_region`: memory of the program's that holds arguments of waits.
    fn register_region(&mut self, argument: Argument) -> Result<(), i32> {
        let address = argument.one()?;
        if self.region.is_some() {
            return Err(libc::EBUSY);
        }
        let reg = self.user.read::<MemRegionReg>(address).ok_or(libc::EFAULT)?;
        let mut region = self.user.read::<RegionDesc>(reg.region_uptr).ok_or(libc::EFAULT)?;
        if reg.resv != [0; 2] || reg.flags & !IORING_MEM_REGION_REG_WAIT_ARG != 0 {
            return Err(libc::EINVAL);
        }
        // A wait that is under way must not find another region.
        if reg.flags & IORING_MEM_REGION_REG_WAIT_ARG != 0 && !self.gate.is_disabled() {
            return Err(libc::EINVAL);
        }
        let of_program = region.flags & IORING_MEM_REGION_TYPE_USER != 0;
        if region.resv != [0; 4] || region.flags & !IORING_MEM_REGION_TYPE_USER != 0 {
            return Err(libc::EINVAL);
        }
        if of_program != (region.user_addr != 0) {
            return Err(libc::EFAULT);
        }
        if region.size == 0 || region.mmap_offset != 0 || region.id != 0 {
            return Err(libc::EINVAL);
        }
        if (region.user_addr | region.size) % 4096 != 0 {
            return Err(libc::EINVAL);
        }
        if region.user_addr.checked_add(region.size).is_none() {
            return Err(libc::EOVERFLOW);
        }
        self.region = Some(super::region::Region::new(&mut region, of_program, reg.flags, &self.user)?);
        self.user.write(reg.region_uptr, &[region]).ok_or(libc::EFAULT)
    }

    /// The descriptor by which other rings know this one.
    pub(super) fn descriptor(&self) -> RawFd {
        self.notifier.as_fd().as_raw_fd()
    }
}
