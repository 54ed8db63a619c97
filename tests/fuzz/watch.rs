//! Which round is under way, for whoever has to say it when the process dies.

#![expect(unsafe_code)] // owns the handlers of deadly signals

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// No round takes so long, on a machine however busy.
const LIMIT: Duration = Duration::from_secs(60);
/// Most memory of the process, in bytes: nobody may make the engine take what it likes.
const MOST_MEMORY: u64 = 8 << 30;

/// Seed of the round, and how many there have been.
static SEED: AtomicU64 = AtomicU64::new(0);
static ROUNDS: AtomicU64 = AtomicU64::new(0);

/// A round begins.
pub(super) fn round(seed: u64) {
    SEED.store(seed, Relaxed);
    ROUNDS.fetch_add(1, Relaxed);
}

/// From now on the seed is printed when the process dies, also because a round takes too long or too much
/// memory is taken.
pub(super) fn start() {
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT] {
        // SAFETY: all zeroes is an action without flags.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_death as *const () as usize;
        // Once; then the signal is as deadly as ever.
        action.sa_flags = libc::SA_RESETHAND | libc::SA_ONSTACK;
        // SAFETY: the handler makes one system call and returns.
        let rc = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
        assert_eq!(rc, 0, "a handler for signal {signal}");
    }
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_AS, MOST_MEMORY, MOST_MEMORY);
    std::thread::spawn(|| {
        let mut last = (0, Instant::now());
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let rounds = ROUNDS.load(Relaxed);
            if rounds != last.0 {
                last = (rounds, Instant::now());
            } else if rounds != 0 && last.1.elapsed() > LIMIT {
                eprintln!("fuzz: a round that does not end after {LIMIT:?}");
                std::process::abort();
            }
        }
    });
}

extern "C" fn on_death(_signal: libc::c_int) {
    let mut text = *b"fuzz: the process dies in the round of seed 00000000000000000000\n";
    let mut rest = SEED.load(Relaxed);
    let end = text.len() - 1;
    for digit in text[end - 20..end].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    // SAFETY: the bytes outlive the call, which a handler may make.
    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}
