//! Small entries, batches of them, and their completions in the order they came.

#![expect(unsafe_code)] // enters rings without an argument

use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::{opcode, types};

use super::raw::{self, edit};
use super::rig::{Done, Rig};
use crate::case::Stop;

/// `IORING_ENTER_GETEVENTS`.
const GETEVENTS: u32 = 1;

/// Longer than any case takes.
pub(crate) const LONG: Duration = Duration::from_secs(3600);
/// Shorter than anyone notices.
pub(crate) const SHORT: Duration = Duration::from_millis(10);

/// `NOP_INJECT_RESULT`.
const INJECT_RESULT: u32 = 1;

pub(crate) fn nop() -> Entry {
    opcode::Nop::new().build()
}

/// NOP that ends with `res` (kernel 6.10).
pub(crate) fn inject(res: i32) -> Entry {
    put_u32(put_u32(nop(), LEN, res.cast_unsigned()), OP_FLAGS, INJECT_RESULT)
}

/// Refused while it is prepared, with `EINVAL`.
pub(crate) fn refused() -> Entry {
    edit(nop(), |bytes| bytes[0] = 200)
}

/// With flags of entries, as short names.
pub(crate) trait Flagged {
    /// `IOSQE_IO_LINK`.
    fn link(self) -> Self;
    /// `IOSQE_IO_HARDLINK`.
    fn hard(self) -> Self;
    /// `IOSQE_IO_DRAIN`.
    fn drain(self) -> Self;
    /// `IOSQE_CQE_SKIP_SUCCESS`.
    fn skip(self) -> Self;
    /// `IOSQE_ASYNC`.
    fn asynchronous(self) -> Self;
}

impl Flagged for Entry {
    fn link(self) -> Self {
        self.flags(Flags::IO_LINK)
    }
    fn hard(self) -> Self {
        self.flags(Flags::IO_HARDLINK)
    }
    fn drain(self) -> Self {
        self.flags(Flags::IO_DRAIN)
    }
    fn skip(self) -> Self {
        self.flags(Flags::SKIP_SUCCESS)
    }
    fn asynchronous(self) -> Self {
        self.flags(Flags::ASYNC)
    }
}

/// Offsets in an entry, in bytes.
pub(crate) const IOPRIO: usize = 2;
pub(crate) const OFF: usize = 8;
pub(crate) const ADDR: usize = 16;
pub(crate) const LEN: usize = 24;
pub(crate) const OP_FLAGS: usize = 28;
pub(crate) const BUF_INDEX: usize = 40;
pub(crate) const SPLICE_FD_IN: usize = 44;

pub(crate) fn put_u16(entry: Entry, at: usize, value: u16) -> Entry {
    edit(entry, |bytes| bytes[at..at + 2].copy_from_slice(&value.to_ne_bytes()))
}

pub(crate) fn put_u32(entry: Entry, at: usize, value: u32) -> Entry {
    edit(entry, |bytes| bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes()))
}

pub(crate) fn put_u64(entry: Entry, at: usize, value: u64) -> Entry {
    edit(entry, |bytes| bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes()))
}

/// User data and results, in the order of user data.
pub(crate) fn sorted(mut done: Vec<(u64, i32)>) -> Vec<(u64, i32)> {
    done.sort_unstable();
    done
}

impl Rig {
    /// Submits `entries` with user data from `first` on. Answers how many were consumed.
    pub(crate) fn send(&mut self, first: u64, entries: &[Entry]) -> Result<usize, Stop> {
        for (user_data, entry) in (first..).zip(entries) {
            self.push(&entry.clone().user_data(user_data))?;
        }
        Ok(self.ring.submit()?)
    }

    /// The next `count` completions, whole. Submits nothing; fails if there are more.
    pub(crate) fn take_whole(&mut self, count: usize) -> Result<Vec<Done>, Stop> {
        let mut all = self.ready();
        while all.len() < count {
            self.enter(0, 1)?;
            all.extend(self.ready());
        }
        assert_eq!(all.len(), count, "more completions than expected: {all:?}");
        Ok(all)
    }

    /// User data and results of the next `count` completions, which have no flags.
    #[track_caller]
    pub(crate) fn take(&mut self, count: usize) -> Result<Vec<(u64, i32)>, Stop> {
        let all = self.take_whole(count)?;
        assert!(all.iter().all(|done| done.flags == 0), "{all:?}");
        Ok(all.iter().map(|done| (done.user_data, done.res)).collect())
    }

    /// As [`take`](Self::take), with as many as are there.
    #[track_caller]
    pub(crate) fn take_at_least(&mut self, count: usize) -> Result<Vec<(u64, i32)>, Stop> {
        let mut all = self.ready();
        while all.len() < count {
            self.enter(0, 1)?;
            all.extend(self.ready());
        }
        assert!(all.iter().all(|done| done.flags == 0), "{all:?}");
        Ok(all.iter().map(|done| (done.user_data, done.res)).collect())
    }

    /// Submits `entries`, all of which are to be consumed, and answers their results in their order.
    #[track_caller]
    pub(crate) fn results(&mut self, entries: &[Entry]) -> Result<Vec<i32>, Stop> {
        assert_eq!(self.send(0, entries)?, entries.len(), "entries submitted");
        let done = sorted(self.take(entries.len())?);
        assert!(done.iter().zip(0..).all(|(done, i)| done.0 == i), "one completion each: {done:?}");
        Ok(done.iter().map(|done| done.1).collect())
    }

    /// Fails unless entering the ring finds no completion.
    #[track_caller]
    pub(crate) fn quiet(&mut self) -> Result<(), Stop> {
        self.enter(0, 0)?;
        assert_eq!(self.ready(), []);
        Ok(())
    }

    /// Fails unless the ring is quiet and still does what it is told.
    #[track_caller]
    pub(crate) fn works(&mut self) -> Result<(), Stop> {
        self.quiet()?;
        assert_eq!(self.one(nop())?, 0);
        Ok(())
    }

    /// Enters the ring for completions.
    pub(crate) fn enter(&mut self, to_submit: u32, min_complete: u32) -> Result<usize, Stop> {
        // SAFETY: no argument.
        Ok(unsafe { self.ring.submitter().enter(to_submit, min_complete, GETEVENTS, None::<&()>) }?)
    }

    /// A timespec in memory of the program, for a timeout; kept until the ring is gone.
    pub(crate) fn timespec(&mut self, seconds: i64, nanoseconds: i64) -> raw::Memory {
        let memory = self.plain(16);
        memory.write(&seconds.to_ne_bytes());
        memory.part(8, 8).write(&nanoseconds.to_ne_bytes());
        memory
    }

    /// As [`timespec`](Self::timespec), of a span, as entries take it.
    pub(crate) fn span(&mut self, span: Duration) -> *const types::Timespec {
        self.timespec(span.as_secs() as i64, i64::from(span.subsec_nanos())).ptr().cast()
    }

    /// TIMEOUT after `span`.
    pub(crate) fn timeout(&mut self, span: Duration) -> Entry {
        opcode::Timeout::new(self.span(span)).build()
    }

    /// TIMEOUT that ends with the `count`th completion from now on.
    pub(crate) fn counted(&mut self, count: u32) -> Entry {
        opcode::Timeout::new(self.span(LONG)).count(count).build()
    }
}
