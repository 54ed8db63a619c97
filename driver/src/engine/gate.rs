//! Who may enter a ring, and whether yet.

use std::thread::{self, ThreadId};

use crate::abi::flags::{IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_R_DISABLED, IORING_SETUP_SINGLE_ISSUER};

/// The gate of a ring. Open for nearly all, so that one look is enough.
#[derive(Debug)]
pub(super) struct Gate {
    /// Somebody may be kept out.
    guarded: bool,
    /// `R_DISABLED`, and not enabled yet.
    disabled: bool,
    single: bool,
    /// Only the issuer may wait (`DEFER_TASKRUN`).
    defers: bool,
    /// The thread that enters a `SINGLE_ISSUER` ring: that which set it up, or enabled it.
    issuer: Option<ThreadId>,
}

impl Gate {
    pub(super) fn new(flags: u32) -> Self {
        let disabled = flags & IORING_SETUP_R_DISABLED != 0;
        let single = flags & IORING_SETUP_SINGLE_ISSUER != 0;
        let issuer = (single && !disabled).then(|| thread::current().id());
        let defers = flags & IORING_SETUP_DEFER_TASKRUN != 0;
        Self { guarded: disabled || single, disabled, single, defers, issuer }
    }

    /// Whether this thread may enter now, to submit or to wait.
    #[inline]
    pub(super) fn check(&self, submits: bool, waits: bool) -> Result<(), i32> {
        if self.guarded { self.check_guarded(submits, waits) } else { Ok(()) }
    }

    #[cold]
    fn check_guarded(&self, submits: bool, waits: bool) -> Result<(), i32> {
        if self.disabled {
            return Err(libc::EBADFD);
        }
        if submits || (waits && self.defers) { self.check_issuer() } else { Ok(()) }
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

    /// `DEFER_TASKRUN`.
    pub(super) fn defers(&self) -> bool {
        self.defers
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
