//! Who may enter a ring, and whether yet.

use std::thread::{self, ThreadId};

use crate::abi::flags::{IORING_SETUP_R_DISABLED, IORING_SETUP_SINGLE_ISSUER};

/// The gate of a ring. Open for nearly all, so that one look is enough.
#[derive(Debug)]
pub(super) struct Gate {
    /// Somebody may be kept out.
    guarded: bool,
    /// `R_DISABLED`, and not enabled yet.
    disabled: bool,
    single: bool,
    /// The thread that enters a `SINGLE_ISSUER` ring: that which set it up, or enabled it.
    issuer: Option<ThreadId>,
}

impl Gate {
    pub(super) fn new(flags: u32) -> Self {
        let disabled = flags & IORING_SETUP_R_DISABLED != 0;
        let single = flags & IORING_SETUP_SINGLE_ISSUER != 0;
        let issuer = (single && !disabled).then(|| thread::current().id());
        Self { guarded: disabled || single, disabled, single, issuer }
    }

    /// Whether this thread may enter now.
    #[inline]
    pub(super) fn check(&self) -> Result<(), i32> {
        if self.guarded { self.check_guarded() } else { Ok(()) }
    }

    #[cold]
    fn check_guarded(&self) -> Result<(), i32> {
        if self.disabled {
            return Err(libc::EBADFD);
        }
        self.check_issuer()
    }

    /// Whether this thread may change the ring.
    pub(super) fn check_issuer(&self) -> Result<(), i32> {
        match self.issuer {
            Some(issuer) if issuer != thread::current().id() => Err(libc::EEXIST),
            _ => Ok(()),
        }
    }

    /// The one thread that may enter, if only one may.
    pub(super) fn issuer(&self) -> Option<ThreadId> {
        self.issuer
    }

    pub(super) fn is_disabled(&self) -> bool {
        self.disabled
    }

    /// `io_register_enable_rings`.
    pub(super) fn enable(&mut self) -> Result<(), i32> {
        if !self.disabled {
            return Err(libc::EBADFD);
        }
        self.disabled = false;
        self.guarded = self.single;
        if self.single && self.issuer.is_none() {
            self.issuer = Some(thread::current().id());
        }
        Ok(())
    }
}
