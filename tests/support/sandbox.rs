//! A thread that may make no system call.

#![expect(unsafe_code)] // owns the seccomp filter and its signal handler

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// Number of the system call that was tried, -1 while there was none.
static TRIED: AtomicI64 = AtomicI64::new(-1);

/// `si_syscall` in a SIGSYS `siginfo_t` on x86-64: after three ints, padding and `si_call_addr`.
const SYSCALL_OFFSET: usize = 24;

extern "C" fn on_sigsys(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel fills the structure for SIGSYS.
    let number = unsafe { info.cast::<u8>().add(SYSCALL_OFFSET).cast::<i32>().read() };
    TRIED.store(number.into(), SeqCst);
    // Returning would go on; ending the thread is a system call.
    loop {
        std::hint::spin_loop();
    }
}

/// Runs `prepare`, then, with every system call forbidden to its thread, what it returns. Fails with
/// the number of the first system call that was tried, or when it takes longer than `limit`.
///
/// The thread cannot end any more, as that is a system call too: it spins until the process ends.
pub(crate) fn without_system_calls<P, B>(limit: Duration, prepare: P) -> Result<(), String>
where
    P: FnOnce() -> B + Send + 'static,
    B: FnOnce() -> Result<(), &'static str>,
{
    let done = Arc::new(AtomicBool::new(false));
    let failure = Arc::new(std::sync::OnceLock::new());
    let (done_there, failure_there) = (Arc::clone(&done), Arc::clone(&failure));
    catch_sigsys().map_err(|e| format!("no handler for SIGSYS: {e}"))?;
    thread::spawn(move || {
        let body = prepare();
        forbid_system_calls();
        if let Err(what) = body() {
            let _ = failure_there.set(what);
        }
        done_there.store(true, SeqCst);
        loop {
            std::hint::spin_loop();
        }
    });
    let deadline = Instant::now() + limit;
    while !done.load(SeqCst) {
        let tried = TRIED.load(SeqCst);
        if tried >= 0 {
            return Err(format!("system call {tried} was made between submission and completion"));
        }
        if Instant::now() > deadline {
            return Err(format!("not done after {limit:?}"));
        }
        thread::sleep(Duration::from_millis(2));
    }
    failure.get().map_or(Ok(()), |what| Err((*what).to_owned()))
}

fn catch_sigsys() -> std::io::Result<()> {
    // SAFETY: all zeroes is an action without flags.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_flags = libc::SA_SIGINFO;
    action.sa_sigaction = on_sigsys as *const () as usize;
    // SAFETY: the handler only stores a number.
    let rc = unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) };
    if rc == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn forbid_system_calls() {
    // One instruction: trap, whatever the call is.
    let mut program =
        [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: libc::SECCOMP_RET_TRAP }];
    let filter = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    // SAFETY: changes a flag of this thread.
    let rc = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(rc, 0, "PR_SET_NO_NEW_PRIVS");
    // SAFETY: the kernel copies the program, which outlives the call.
    let rc = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    assert_eq!(rc, 0, "PR_SET_SECCOMP");
}
