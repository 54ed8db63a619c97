//! What other rings of the process reach of a ring: its completions (`MSG_RING`), its files, its buffers.
//!
//! A ring is found by its descriptor once that has been asked for. Whoever has something for it leaves a
//! letter and rings the bell, an event that the ring's sleep and its descriptor watch; the ring's own thread
//! reads its mail.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::buffers::Buffers;
use super::files::{Places, Target};
use super::letters::Letters;
use crate::error::Error;

/// What one ring has for another.
#[derive(Clone, Debug)]
pub(super) enum Letter {
    /// A completion.
    Completion { user_data: u64, res: i32, flags: u32 },
    /// A file, for a place of the table that was found free.
    File { place: u32, target: Target },
}

/// The part of a ring that others reach.
#[derive(Debug)]
pub(crate) struct Mailbox {
    letters: Letters<Letter, EventFd>,
    /// The ring takes nothing before it is enabled (`R_DISABLED`).
    disabled: AtomicBool,
    /// Which places of its file table are taken.
    pub(super) places: Mutex<Places>,
    /// The one thread that enters it, if it is a `SINGLE_ISSUER` ring.
    pub(super) issuer: Mutex<Option<ThreadId>>,
    pub(super) buffers: Mutex<Arc<Buffers>>,
}

/// Rings by their descriptors.
static RINGS: Mutex<Option<HashMap<RawFd, Weak<Mailbox>>>> = Mutex::new(None);

/// What a lock guards is whole whatever has happened: each change is one assignment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The ring with this descriptor.
pub(super) fn find(fd: RawFd) -> Option<Arc<Mailbox>> {
    lock(&RINGS).as_ref()?.get(&fd)?.upgrade()
}

impl Mailbox {
    pub(super) fn new(disabled: bool) -> Result<Arc<Self>, Error> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| Error::Os { call: "eventfd", reason: errno.into() })?;
        Ok(Arc::new(Self {
            letters: Letters::new(bell),
            disabled: AtomicBool::new(disabled),
            places: Mutex::default(),
            issuer: Mutex::default(),
            buffers: Mutex::default(),
        }))
    }

    /// From now on other rings find it by its descriptor.
    pub(super) fn publish(self: &Arc<Self>, fd: RawFd) {
        lock(&RINGS).get_or_insert_default().insert(fd, Arc::downgrade(self));
    }

    /// Nobody finds it any more.
    pub(super) fn withdraw(&self, fd: RawFd) {
        if let Some(rings) = lock(&RINGS).as_mut()
            && rings.get(&fd).is_some_and(|ring| std::ptr::eq(ring.as_ptr(), self))
        {
            rings.remove(&fd);
        }
    }

    // Relaxed: the flag stands for itself.
    pub(super) fn is_disabled(&self) -> bool {
        self.disabled.load(Ordering::Relaxed)
    }

    pub(super) fn enable(&self) {
        self.disabled.store(false, Ordering::Relaxed);
    }

    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.letters.bell().as_fd()
    }

    /// Leaves a letter and rings the bell.
    pub(super) fn send(&self, letter: Letter) {
        self.letters.send(letter);
    }

    /// All letters; the bell is silent then.
    #[inline]
    pub(super) fn take(&self) -> VecDeque<Letter> {
        self.letters.take()
    }
}
