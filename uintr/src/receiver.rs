//! Receiving in a thread, by the software backend: a real-time signal is the notification, and its handler does
//! what the processor does.

#![expect(unsafe_code)] // the signal handler reaches the receiver of its thread

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::error::Error;
use crate::page::Page;
use crate::sender::Sender;
use crate::signal::{install, this_thread};
use crate::vector::Vector;

/// What the processor would have of a thread.
struct Thread {
    /// UIF.
    uif: AtomicBool,
    /// UIRR.
    rr: AtomicU64,
    /// What the receiver of the thread has, if there is one.
    receiver: Cell<*const State>,
}

thread_local! {
    // Neither made late nor dropped: the signal handler finds it at any time.
    static THREAD: Thread = const {
        Thread { uif: AtomicBool::new(true), rr: AtomicU64::new(0), receiver: Cell::new(std::ptr::null()) }
    };
}

struct State {
    page: Arc<Page>,
    handler: Box<dyn Fn(Vector)>,
}

/// The calling thread's receiver of user interrupts. There is at most one for a thread.
///
/// The handler runs in the middle of whatever the thread does, as a signal handler does: it may use nothing that the
/// thread may be in the middle of (no allocation, no locks that the thread takes), and it must not unwind. While it
/// runs nothing else is delivered.
///
/// Dropped, it receives nothing any more; what is posted afterwards is refused.
pub struct Receiver {
    state: Box<State>,
    signal: u8,
    /// Bound to its thread.
    _thread: PhantomData<*mut ()>,
}

impl Receiver {
    /// A receiver for the calling thread.
    ///
    /// # Errors
    /// [`Error::ThreadHasReceiver`]; [`Error::NoSignal`]; memory.
    pub fn new(handler: impl Fn(Vector) + 'static) -> Result<Self, Error> {
        if THREAD.with(|thread| !thread.receiver.get().is_null()) {
            return Err(Error::ThreadHasReceiver);
        }
        let signal = install(notified)? as u8;
        let (group, thread) = this_thread();
        let page = Page::new(signal, group, thread).map_err(|reason| Error::Os { call: "mmap", reason })?;
        let state = Box::new(State { page: Arc::new(page), handler: Box::new(handler) });
        THREAD.with(|thread| {
            thread.rr.store(0, SeqCst);
            thread.receiver.set(&raw const *state);
        });
        Ok(Self { state, signal, _thread: PhantomData })
    }

    /// Somebody who may post `vector`, from any thread of this process.
    #[must_use]
    pub fn sender(&self, vector: Vector) -> Sender {
        Sender::new(Arc::clone(&self.state.page), vector)
    }

    /// The signal that stands for notifications.
    #[must_use]
    pub fn signal(&self) -> i32 {
        self.signal.into()
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("signal", &self.signal).field("page", &self.state.page).finish()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.state.page.close();
        // From here on the handler of signals that are under way finds no receiver. It runs in this thread only, so
        // it is not in the middle of anything.
        THREAD.with(|thread| thread.receiver.set(std::ptr::null()));
    }
}

/// Keeps the calling thread's handler from running (CLUI), until it is dropped (STUI). What is posted meanwhile is
/// delivered then. Guards may be nested, and dropped in any order: the first of them decides.
#[derive(Debug)]
#[must_use = "user interrupts are delivered again as soon as it is dropped"]
pub struct Guard {
    /// They were delivered before.
    unmasks: bool,
    _thread: PhantomData<*mut ()>,
}

/// Keeps the calling thread's handler from running while the guard lives.
pub fn mask() -> Guard {
    Guard { unmasks: THREAD.with(|thread| thread.uif.swap(false, SeqCst)), _thread: PhantomData }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.unmasks {
            THREAD.with(|thread| {
                thread.uif.store(true, SeqCst);
                deliver(thread);
            });
        }
    }
}

/// The signal handler: notification processing, and delivery.
extern "C" fn notified(_signal: c_int, _info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: a thread's own.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { errno.read() };
    THREAD.with(|thread| {
        // SAFETY: not null only while the receiver lives, which goes in this thread and not during this.
        if let Some(state) = unsafe { thread.receiver.get().as_ref() } {
            thread.rr.fetch_or(state.page.upid().take(), SeqCst);
            deliver(thread);
        }
    });
    // SAFETY: as above.
    unsafe { errno.write(before) };
}

/// Delivers what is pending, the highest first, if that is allowed. A signal may interrupt this anywhere, and do the
/// same: each bit is claimed by one of both.
fn deliver(thread: &Thread) {
    // SAFETY: as in `notified`.
    let Some(state) = (unsafe { thread.receiver.get().as_ref() }) else { return };
    while let Some(vector) = Vector::highest(thread.rr.load(SeqCst)) {
        if !thread.uif.swap(false, SeqCst) {
            return;
        }
        // With UIF clear nobody else claims it.
        thread.rr.fetch_and(!vector.bit(), SeqCst);
        if catch_unwind(AssertUnwindSafe(|| (state.handler)(vector))).is_err() {
            eprintln!("the handler of user interrupt {vector} has unwound, into code that expects nothing of it");
            std::process::abort();
        }
        thread.uif.store(true, SeqCst);
    }
}
