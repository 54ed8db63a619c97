//! `io_uring_enter(2)` of a ring on devices: its arguments, in the kernel's order of checks.

use std::io;

use super::Engine;
use super::ring_index;
use super::timeouts::wait_nanos;
use super::wait::Limits;
use crate::abi::flags::{
    IORING_ENTER_ABS_TIMER, IORING_ENTER_EXT_ARG, IORING_ENTER_EXT_ARG_REG, IORING_ENTER_GETEVENTS,
    IORING_ENTER_NO_IOWAIT, IORING_ENTER_REGISTERED_RING,
};
use crate::abi::register::{GeteventsArg, IORING_REG_WAIT_TS, RegWait};

/// All flags of kernel 6.18.
const ENTER_FLAGS: u32 = (IORING_ENTER_NO_IOWAIT << 1) - 1;

/// Bytes of a signal mask of the kernel's.
const SIGMASK_BYTES: u64 = 8;

impl Engine {
    /// Submits `to_submit` entries, and with `GETEVENTS` waits for `min_complete` completions. `argument` is
    /// an address and a length in bytes.
    pub(crate) fn enter(
        &mut self,
        to_submit: u32,
        min_complete: u32,
        flags: u32,
        argument: (u64, u64),
    ) -> io::Result<usize> {
        self.check_ours()?;
        self.check_entrance(flags).map_err(io::Error::from_raw_os_error)?;
        self.read_mail();
        self.gate.check(to_submit > 0, flags & IORING_ENTER_GETEVENTS != 0).map_err(io::Error::from_raw_os_error)?;
        let submitted = self.consume(to_submit).0;
        let mut waited = Ok(());
        if submitted == to_submit && flags & IORING_ENTER_GETEVENTS != 0 {
            waited = self.limits(flags, argument).map_err(io::Error::from_raw_os_error).and_then(|limits| {
                // A polled ring looks until something is there, whatever the time.
                let limits = if self.rules.iopoll { Limits::default() } else { limits };
                self.wait_within(min_complete, &limits)
            });
        }
        self.announce();
        match waited {
            Err(error) if submitted == 0 => Err(error),
            _ => Ok(submitted as usize),
        }
    }

    fn check_entrance(&self, flags: u32) -> Result<(), i32> {
        if flags & !ENTER_FLAGS != 0 {
            return Err(libc::EINVAL);
        }
        if flags & IORING_ENTER_REGISTERED_RING != 0 {
            ring_index::check(self.descriptor())?;
        }
        Ok(())
    }

    /// What bounds a wait (`io_get_ext_arg`, `io_cqring_wait`).
    fn limits(&self, flags: u32, (address, len): (u64, u64)) -> Result<Limits, i32> {
        if flags & IORING_ENTER_EXT_ARG == 0 {
            return Ok(Limits { sigmask: (address, len), patient: true, ..Limits::default() });
        }
        let (mask, mask_len, min_wait_usec, time) = if flags & IORING_ENTER_EXT_ARG_REG != 0 {
            if len != size_of::<RegWait>() as u64 {
                return Err(libc::EINVAL);
            }
            let region = self.region.as_ref().ok_or(libc::EFAULT)?;
            let wait = region.wait_argument(address, &self.user)?;
            if wait.flags & !IORING_REG_WAIT_TS != 0 {
                return Err(libc::EINVAL);
            }
            let time = (wait.flags & IORING_REG_WAIT_TS != 0).then_some(wait.ts);
            (wait.sigmask, wait.sigmask_sz, wait.min_wait_usec, time)
        } else {
            if len != size_of::<GeteventsArg>() as u64 {
                return Err(libc::EINVAL);
            }
            let arg = self.user.read::<GeteventsArg>(address).ok_or(libc::EFAULT)?;
            let time = match arg.ts {
                0 => None,
                ts => Some(self.user.read::<[i64; 2]>(ts).ok_or(libc::EFAULT)?),
            };
            (arg.sigmask, arg.sigmask_sz, arg.min_wait_usec, time)
        };
        let start = self.clock.now();
        let absolute = flags & IORING_ENTER_ABS_TIMER != 0;
        let until = time.map(|time| {
            let nanos = wait_nanos(time);
            if absolute { nanos } else { start.saturating_add(nanos) }
        });
        let at_least = (min_wait_usec != 0).then(|| start.saturating_add(u64::from(min_wait_usec) * 1000));
        Ok(Limits { sigmask: (mask, mask_len.into()), until, at_least, patient: true })
    }

    /// `set_user_sigmask`.
    pub(super) fn sigmask(&self, (address, len): (u64, u64)) -> Result<Option<u64>, i32> {
        if address == 0 {
            return Ok(None);
        }
        if len != SIGMASK_BYTES {
            return Err(libc::EINVAL);
        }
        self.user.read(address).map(Some).ok_or(libc::EFAULT)
    }
}
