//! Rings that change their sizes: `REGISTER_RESIZE_RINGS`.

use super::Engine;
use super::memory::refused;
use crate::abi::flags::{
    IORING_SETUP_CLAMP, IORING_SETUP_CQE_MIXED, IORING_SETUP_CQE32, IORING_SETUP_CQSIZE, IORING_SETUP_NO_MMAP,
    IORING_SETUP_NO_SQARRAY, IORING_SETUP_SQE128,
};
use crate::abi::params::Params;
use crate::abi::rings::RingView;
use crate::error::Error;

/// Set-up flags that a ring keeps when it is resized (`COPY_FLAGS`).
const RESIZE_KEEPS: u32 =
    IORING_SETUP_NO_SQARRAY | IORING_SETUP_SQE128 | IORING_SETUP_CQE32 | IORING_SETUP_NO_MMAP | IORING_SETUP_CQE_MIXED;

impl Engine {
    /// What rings of other sizes would be like, as `io_register_resize_rings` checks it.
    pub(crate) fn check_resize(&self, opcode: u32, address: u64, count: u32) -> Result<Params, Error> {
        self.check_register(opcode)?;
        if !self.gate.defers() || address == 0 || count != 1 {
            return Err(refused(libc::EINVAL));
        }
        let asked = self.user.read::<[u32; 30]>(address).ok_or(refused(libc::EFAULT))?;
        let asked = Params::of_words(&asked);
        if asked.flags & !(IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP) != 0 {
            return Err(refused(libc::EINVAL));
        }
        // What cannot change.
        let flags = asked.flags | self.setup_flags & RESIZE_KEEPS;
        let mut params = Params::layout(asked.sq_entries, asked.cq_entries, flags).map_err(refused)?;
        params.sq_off.user_addr = asked.sq_off.user_addr;
        params.cq_off.user_addr = asked.cq_off.user_addr;
        Ok(params)
    }

    /// Moves into other rings, and tells the program what they are like.
    pub(crate) fn resize(&mut self, address: u64, params: &Params, rings: RingView) -> Result<(), Error> {
        // First: who cannot be told keeps the rings that there are.
        self.user.write(address, &params.words()).ok_or(refused(libc::EFAULT))?;
        if !rings.take_over(&self.rings) {
            return Err(refused(libc::EOVERFLOW));
        }
        self.rings = rings;
        self.cq.move_to(rings);
        self.cq.flush();
        self.choose_path();
        self.announce();
        Ok(())
    }
}
