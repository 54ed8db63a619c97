//! Rings by index: a table of 16 for each thread, as the kernel has one for each task
//! (io_uring/tctx.c, 6.18).

use std::cell::RefCell;
use std::os::fd::RawFd;

use super::Engine;
use super::issue::is_open;
use super::mailbox::find;
use super::register::Argument;
use crate::abi::register::RsrcUpdate;
use crate::usermem::UserMemory;

/// `IO_RINGFD_REG_MAX`.
const PLACES: usize = 16;

thread_local! {
    static RINGS: RefCell<[Option<RawFd>; PLACES]> = const { RefCell::new([None; PLACES]) };
}

/// The descriptor of the ring with this index.
pub(super) fn descriptor(index: u32) -> Result<RawFd, i32> {
    let place = index as usize;
    if place >= PLACES {
        return Err(libc::EINVAL);
    }
    RINGS.with_borrow(|rings| rings[place]).ok_or(libc::EBADF)
}

/// Whether this thread has registered the ring.
pub(super) fn check(fd: RawFd) -> Result<(), i32> {
    if RINGS.with_borrow(|rings| rings.contains(&Some(fd))) { Ok(()) } else { Err(libc::EINVAL) }
}

/// `io_ringfd_register`. Answers how many went well before the first that did not.
pub(super) fn register(user: &UserMemory, argument: Argument) -> Result<u32, i32> {
    each(argument, |at| {
        let mut update = user.read::<RsrcUpdate>(at).ok_or(libc::EFAULT)?;
        if update.resv != 0 {
            return Err(libc::EINVAL);
        }
        let fd = update.data as u32 as RawFd;
        if update.offset != u32::MAX && update.offset as usize >= PLACES {
            return Err(libc::EINVAL);
        }
        if find(fd).is_none() {
            return Err(if is_open(fd) { libc::EOPNOTSUPP } else { libc::EBADF });
        }
        let place = put(fd, update.offset)?;
        update.offset = place as u32;
        user.write(at, &[update]).ok_or_else(|| {
            RINGS.with_borrow_mut(|rings| rings[place] = None);
            libc::EFAULT
        })
    })
}

/// Puts a ring into a place of the thread's table, or, of `u32::MAX`, into any. Answers which.
pub(super) fn put(fd: RawFd, place: u32) -> Result<usize, i32> {
    RINGS.with_borrow_mut(|rings| {
        let place = match place {
            u32::MAX => rings.iter().position(Option::is_none).ok_or(libc::EBUSY)?,
            place => place as usize,
        };
        if rings[place].is_some() {
            return Err(libc::EBUSY);
        }
        rings[place] = Some(fd);
        Ok(place)
    })
}

impl Engine {
    /// Puts the ring into the thread's table (`io_ring_add_registered_file`). Answers where.
    pub(crate) fn take_index(&self) -> Result<u32, i32> {
        put(self.descriptor(), u32::MAX).map(|place| place as u32)
    }
}

/// `io_ringfd_unregister`.
pub(super) fn unregister(user: &UserMemory, argument: Argument) -> Result<u32, i32> {
    each(argument, |at| {
        let update = user.read::<RsrcUpdate>(at).ok_or(libc::EFAULT)?;
        if update.resv != 0 || update.data != 0 || update.offset as usize >= PLACES {
            return Err(libc::EINVAL);
        }
        RINGS.with_borrow_mut(|rings| rings[update.offset as usize] = None);
        Ok(())
    })
}

fn each(argument: Argument, mut one: impl FnMut(u64) -> Result<(), i32>) -> Result<u32, i32> {
    if argument.count == 0 || argument.count as usize > PLACES {
        return Err(libc::EINVAL);
    }
    for i in 0..argument.count {
        if let Err(errno) = one(argument.address.wrapping_add(16 * u64::from(i))) {
            return if i == 0 { Err(errno) } else { Ok(i) };
        }
    }
    Ok(argument.count)
}

/// The ring is gone: its index names nothing.
pub(super) fn forget(fd: RawFd) {
    // Only this thread's table can be reached; another thread finds a ring that is not there.
    let _ = RINGS.try_with(|rings| {
        rings.borrow_mut().iter_mut().filter(|place| **place == Some(fd)).for_each(|place| *place = None);
    });
}
