//! The memory of a descriptor: a page of its own, which a child of the process finds empty.

#![expect(unsafe_code)] // owns the mapping

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::upid::Upid;

const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// A descriptor, and the thread that its notifications go to.
#[repr(C)]
struct Contents {
    upid: Upid,
    /// Thread group and thread, 32 bits each; 0 when there is no receiver.
    thread: AtomicU64,
}

const _: () = assert!(size_of::<Contents>() <= PAGE.get());

/// The page. Shared by the receiver and its senders, and unmapped with the last of them.
#[derive(Debug)]
pub(crate) struct Page(NonNull<Contents>);

// SAFETY: what is in it is atomic.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// A descriptor that notifies `thread` of the thread group `group` by `signal`.
    pub(crate) fn new(signal: u8, group: u32, thread: u32) -> io::Result<Self> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let page = unsafe { mmap_anonymous(None, PAGE, access, MapFlags::MAP_PRIVATE) }?;
        let this = Self(page.cast());
        // A child has none of its parent's threads, and must not interrupt them (Linux 4.14).
        // SAFETY: the whole mapping, in which nothing has been written yet.
        unsafe { madvise(page, PAGE.get(), MmapAdvise::MADV_WIPEONFORK) }?;
        let thread = u64::from(group) << 32 | u64::from(thread);
        // SAFETY: a page is longer, and aligned to more; nobody else knows it yet.
        unsafe { this.0.write(Contents { upid: Upid::new(signal, 0), thread: AtomicU64::new(thread) }) };
        Ok(this)
    }

    fn contents(&self) -> &Contents {
        // SAFETY: written in `new`, mapped until the drop; in a child it is zeroes, which are one as well.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn upid(&self) -> &Upid {
        &self.contents().upid
    }

    /// Thread group and thread, while there is a receiver; none in a child of its process.
    pub(crate) fn thread(&self) -> Option<(i32, i32)> {
        match self.contents().thread.load(SeqCst) {
            0 => None,
            word => Some(((word >> 32) as i32, word as i32)),
        }
    }

    /// There is no receiver any more.
    pub(crate) fn close(&self) {
        self.contents().thread.store(0, SeqCst);
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`; nobody has a reference any more.
        let _ = unsafe { munmap(self.0.cast(), PAGE.get()) };
    }
}
