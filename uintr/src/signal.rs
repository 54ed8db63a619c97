//! The signal that stands for the notification interrupt: one for the process, chosen when its first receiver is
//! made.

#![expect(unsafe_code)] // installs a signal handler

use std::ffi::{c_int, c_void};
use std::sync::Mutex;

use crate::error::Error;

/// The signal, once it is installed.
static SIGNAL: Mutex<Option<c_int>> = Mutex::new(None);

/// Installs the handler of notifications, if that has not been done. Answers its signal: the highest real-time
/// signal that nobody has a handler for.
pub(crate) fn install(notified: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)) -> Result<c_int, Error> {
    let mut signal = SIGNAL.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(signal) = *signal {
        return Ok(signal);
    }
    let free = (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev().find(|signal| is_free(*signal)).ok_or(Error::NoSignal)?;
    let handler = notified as *const () as usize;
    // A handler may be interrupted: whether another one may run is up to UIF, not to the signal mask. System calls
    // go on, as user interrupts never end them.
    let flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_NODEFER | libc::SA_ONSTACK;
    // SAFETY: all-zero is an empty mask and no restorer.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    (action.sa_sigaction, action.sa_flags) = (handler, flags);
    // SAFETY: a handler of the right shape, which does what a handler may do.
    if unsafe { libc::sigaction(free, &action, std::ptr::null_mut()) } != 0 {
        return Err(Error::Os { call: "sigaction", reason: std::io::Error::last_os_error() });
    }
    *signal = Some(free);
    Ok(free)
}

/// Whether nobody has a handler for it, nor ignores it.
fn is_free(signal: c_int) -> bool {
    // SAFETY: all-zero is a valid action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: only asks.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &mut action) } == 0;
    asked && action.sa_sigaction == libc::SIG_DFL
}

/// Interrupts a thread. False when there is no such thread any more.
pub(crate) fn interrupt((group, thread): (i32, i32), signal: u8) -> bool {
    // SAFETY: takes no memory.
    unsafe { libc::syscall(libc::SYS_tgkill, group, thread, c_int::from(signal)) == 0 }
}

/// The calling thread.
pub(crate) fn this_thread() -> (u32, u32) {
    // SAFETY: takes no memory, and does not fail.
    let thread = unsafe { libc::gettid() };
    (std::process::id(), thread.cast_unsigned())
}
