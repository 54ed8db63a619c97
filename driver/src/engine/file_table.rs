//! Changes of the file table (io_uring/rsrc.c, 6.18), and the tags that say when a file has gone.

use std::os::fd::RawFd;

use super::Engine;
use super::files::{Files, Target};
use super::mailbox::lock;
use crate::abi::entry::Sqe;
use crate::abi::op::{IORING_FILE_INDEX_ALLOC, IORING_REGISTER_FILES_SKIP};
use crate::abi::register::RsrcUpdate2;
use crate::nvme::LineTarget;

/// Most places of a table (`IORING_MAX_FIXED_FILES`).
pub(super) const MOST_FILES: usize = 1 << 20;

impl Engine {
    pub(crate) fn files(&mut self) -> &mut Files {
        // The table may change: the straight line must not go by what it was, nor chains on a queue that was hot
        // before.
        self.hot_file = u32::MAX;
        self.queues.iter_mut().for_each(|queue| queue.set_line(LineTarget::NONE));
        &mut self.files
    }

    /// Other rings learn which places are taken.
    pub(super) fn show_places(&self) {
        lock(&self.mailbox.places).clone_from(self.files.places());
    }

    /// Replaces the fixed files (`io_sqe_files_register`).
    pub(crate) fn register_files(&mut self, fds: &[RawFd], tags: &[u64]) -> Result<(), i32> {
        if self.files.has_fixed() {
            return Err(libc::EBUSY);
        }
        if fds.is_empty() {
            return Err(libc::EINVAL);
        }
        if fds.len() > MOST_FILES {
            return Err(libc::EMFILE);
        }
        self.files().replace_fixed(fds, tags)?;
        self.show_places();
        Ok(())
    }

    /// Takes the fixed files away.
    pub(crate) fn unregister_files(&mut self) -> Result<(), i32> {
        let gone = self.files().clear_fixed();
        if gone.is_empty() {
            return Err(libc::ENXIO);
        }
        // From the end of the table, as the kernel.
        for fixed in gone.into_iter().rev().flatten() {
            self.retire(fixed.tag);
        }
        self.show_places();
        Ok(())
    }

    /// Changes places of the table one after the other (`__io_sqe_files_update`). Answers how many went well
    /// before the first that did not.
    pub(super) fn update_files(&mut self, update: &RsrcUpdate2) -> Result<u32, i32> {
        let end = update.offset.checked_add(update.nr).ok_or(libc::EOVERFLOW)?;
        if !self.files.has_fixed() {
            return Err(libc::ENXIO);
        }
        if end as usize > self.files.len() {
            return Err(libc::EINVAL);
        }
        let mut done = 0;
        let result = loop {
            if done == update.nr {
                break Ok(());
            }
            let i = u64::from(done);
            if let Err(errno) = self.update_file(update.offset + done, update.data.wrapping_add(4 * i), update.tags, i)
            {
                break Err(errno);
            }
            done += 1;
        };
        self.show_places();
        match result {
            Err(errno) if done == 0 => Err(errno),
            _ => Ok(done),
        }
    }

    fn update_file(&mut self, place: u32, fd: u64, tags: u64, i: u64) -> Result<(), i32> {
        let tag = if tags == 0 { 0 } else { self.user.read::<u64>(tags.wrapping_add(8 * i)).ok_or(libc::EFAULT)? };
        let fd = self.user.read::<i32>(fd).ok_or(libc::EFAULT)?;
        if (fd == IORING_REGISTER_FILES_SKIP || fd == -1) && tag != 0 {
            return Err(libc::EINVAL);
        }
        if fd == IORING_REGISTER_FILES_SKIP {
            return Ok(());
        }
        // What was there is gone, also if the new one is not good.
        if let Some(old) = self.files().put(place, None) {
            self.retire(old.tag);
        }
        if fd != -1 {
            let target = self.files.descriptor(fd).ok_or(libc::EBADF)?;
            self.files.put(place, Some((target, tag)));
        }
        Ok(())
    }

    /// A file that another ring has sent.
    pub(super) fn put_file(&mut self, place: u32, target: Target) {
        let target = self.files().keep(target);
        if let Some(old) = self.files.put(place, Some((target, 0))) {
            self.retire(old.tag);
        }
        self.show_places();
    }

    /// `FILES_UPDATE` (`io_files_update`).
    pub(super) fn update_files_by_entry(&mut self, sqe: &Sqe) -> Result<i32, i32> {
        let (offset, count) = (sqe.off as u32, sqe.len);
        if offset == IORING_FILE_INDEX_ALLOC {
            return self.put_files_anywhere(sqe.addr, count);
        }
        let update = RsrcUpdate2 { offset, data: sqe.addr, nr: count, ..RsrcUpdate2::default() };
        self.update_files(&update).map(|done| done as i32)
    }

    /// Each descriptor gets a free place, whose index takes its place in memory
    /// (`io_files_update_with_index_alloc`).
    fn put_files_anywhere(&mut self, fds: u64, count: u32) -> Result<i32, i32> {
        if !self.files.has_fixed() {
            return Err(libc::ENXIO);
        }
        let mut done = 0;
        let mut failed = 0;
        while done < count {
            let at = fds.wrapping_add(4 * u64::from(done));
            let put = self.user.read::<i32>(at).ok_or(libc::EFAULT).and_then(|fd| self.put_file_anywhere(fd));
            match put {
                Ok(place) => {
                    if self.user.write(at, &[place]).is_none() {
                        self.files().put(place, None);
                        failed = libc::EFAULT;
                        break;
                    }
                }
                Err(errno) => {
                    failed = errno;
                    break;
                }
            }
            done += 1;
        }
        self.show_places();
        if done > 0 || failed == 0 { Ok(done as i32) } else { Err(failed) }
    }

    fn put_file_anywhere(&mut self, fd: RawFd) -> Result<u32, i32> {
        let target = self.files.descriptor(fd).ok_or(libc::EBADF)?;
        let place = self.files.places().free().ok_or(libc::ENFILE)?;
        self.files().put(place, Some((target, 0)));
        Ok(place)
    }
}
