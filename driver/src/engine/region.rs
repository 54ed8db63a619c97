//! The memory region of a ring, which holds arguments of waits (`IORING_REGISTER_MEM_REGION`, 6.13).

use crate::abi::register::{IORING_MEM_REGION_REG_WAIT_ARG, RegWait, RegionDesc};
use crate::usermem::{OwnMemory, UserMemory};

/// A registered region.
#[derive(Debug)]
pub(super) struct Region {
    address: u64,
    len: u64,
    /// Memory that the engine has brought.
    _memory: Option<OwnMemory>,
    waits: bool,
}

impl Region {
    /// The region that `desc` describes: memory of the program's, or new memory, whose address is put into
    /// `mmap_offset`, where the kernel puts what to map.
    pub(super) fn new(desc: &mut RegionDesc, of_program: bool, flags: u64, user: &UserMemory) -> Result<Self, i32> {
        let waits = flags & IORING_MEM_REGION_REG_WAIT_ARG != 0;
        if of_program {
            if !user.is_usable(desc.user_addr, desc.size, true) {
                return Err(libc::EFAULT);
            }
            return Ok(Self { address: desc.user_addr, len: desc.size, _memory: None, waits });
        }
        let memory =
            OwnMemory::new(desc.size as usize).map_err(|error| error.raw_os_error().unwrap_or(libc::ENOMEM))?;
        desc.mmap_offset = memory.address();
        Ok(Self { address: memory.address(), len: desc.size, _memory: Some(memory), waits })
    }

    /// The argument of a wait at `offset` (`io_get_ext_arg_reg`).
    pub(super) fn wait_argument(&self, offset: u64, user: &UserMemory) -> Result<RegWait, i32> {
        let end = offset.checked_add(size_of::<RegWait>() as u64).filter(|end| self.waits && *end <= self.len);
        if !offset.is_multiple_of(8) || end.is_none() {
            return Err(libc::EFAULT);
        }
        user.read(self.address + offset).ok_or(libc::EFAULT)
    }
}
