//! What a ring that was set up with `R_DISABLED` lets its program do (`IORING_REGISTER_RESTRICTIONS`, 5.10;
//! io_uring/register.c, 6.18). Enforced here alone.

use super::Engine;
use super::register::Argument;
use crate::abi::entry::Sqe;
use crate::abi::op::IORING_OP_LAST;
use crate::abi::register::{Restriction, opcode};

/// `IORING_MAX_RESTRICTIONS`.
const MOST: u32 = opcode::REGISTER_LAST + IORING_OP_LAST as u32 + 8;

/// What a restriction is about (`enum io_uring_register_restriction_op`).
const REGISTER_OP: u16 = 0;
const SQE_OP: u16 = 1;
const SQE_FLAGS_ALLOWED: u16 = 2;
const SQE_FLAGS_REQUIRED: u16 = 3;

/// The restrictions of a ring.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Restrictions {
    /// There are any.
    registered: bool,
    register_ops: u64,
    sqe_ops: u64,
    allowed_flags: u8,
    required_flags: u8,
}

impl Restrictions {
    /// Whether entries have to be looked at.
    pub(super) fn are_registered(&self) -> bool {
        self.registered
    }

    /// `io_check_restriction`.
    pub(super) fn allows(&self, sqe: &Sqe) -> bool {
        let required = sqe.flags & self.required_flags == self.required_flags;
        let allowed = sqe.flags & !(self.allowed_flags | self.required_flags) == 0;
        !self.registered || (self.sqe_ops >> sqe.opcode & 1 != 0 && required && allowed)
    }

    pub(super) fn allows_register(&self, opcode: u32) -> bool {
        !self.registered || self.register_ops >> opcode & 1 != 0
    }

    fn add(&mut self, restriction: &Restriction) -> Result<(), i32> {
        match (restriction.opcode, restriction.which) {
            (REGISTER_OP, op) if u32::from(op) < opcode::REGISTER_LAST => self.register_ops |= 1 << op,
            (SQE_OP, op) if op < IORING_OP_LAST => self.sqe_ops |= 1 << op,
            (SQE_FLAGS_ALLOWED, flags) => self.allowed_flags = flags,
            (SQE_FLAGS_REQUIRED, flags) => self.required_flags = flags,
            _ => return Err(libc::EINVAL),
        }
        Ok(())
    }
}

impl Engine {
    /// `io_register_restrictions`.
    pub(super) fn register_restrictions(&mut self, argument: Argument) -> Result<(), i32> {
        if !self.gate.is_disabled() {
            return Err(libc::EBADFD);
        }
        if self.restrictions.registered {
            return Err(libc::EBUSY);
        }
        if argument.address == 0 || argument.count > MOST {
            return Err(libc::EINVAL);
        }
        let list = self.user.read_many::<Restriction>(argument.address, argument.count as usize);
        let mut restrictions = Restrictions { registered: true, ..Restrictions::default() };
        for restriction in list.ok_or(libc::EFAULT)? {
            restrictions.add(&restriction)?;
        }
        self.restrictions = restrictions;
        self.choose_path();
        Ok(())
    }
}
