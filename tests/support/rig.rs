//! A ring and the memory that its operations use.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::time::Duration;

use dmaring::{PushError, Ring};
use io_uring::squeue::Entry;
use io_uring::{cqueue, opcode, squeue, types};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::pattern;
use super::raw::{self, Memory};
use crate::case::Stop;

/// Fixed file 0: what the ring was opened on.
pub(crate) const FILE: types::Fixed = types::Fixed(0);

/// A ring with memory that outlives it (fields drop in order).
#[derive(Debug)]
pub(crate) struct Rig<S: squeue::EntryMarker = Entry, C: Completion = cqueue::Entry> {
    pub(crate) ring: Ring<S, C>,
    memory: Vec<Memory>,
    iovecs: Vec<Memory>,
    next: u64,
}

/// A completion entry of either length.
pub(crate) trait Completion: cqueue::EntryMarker {
    /// The bytes beyond the first 16, zeroes where there are none.
    fn extra(&self) -> [u64; 2];
}

impl Completion for cqueue::Entry {
    fn extra(&self) -> [u64; 2] {
        [0; 2]
    }
}

impl Completion for cqueue::Entry32 {
    fn extra(&self) -> [u64; 2] {
        *self.big_cqe()
    }
}

/// A completion: user data, result, flags, and what follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) user_data: u64,
    pub(crate) res: i32,
    pub(crate) flags: u32,
    pub(crate) extra: [u64; 2],
}

impl<S: squeue::EntryMarker, C: Completion> Rig<S, C> {
    pub(crate) fn new(ring: Ring<S, C>) -> Self {
        Self { ring, memory: Vec::new(), iovecs: Vec::new(), next: 0xd0_0000_0000 }
    }

    /// Keeps memory until the ring is gone.
    pub(crate) fn keep(&mut self, memory: Memory) -> Memory {
        self.memory.push(memory.clone());
        memory
    }

    /// Plain memory, zeroed, aligned to a page.
    pub(crate) fn plain(&mut self, len: usize) -> Memory {
        self.keep(Memory::plain(len))
    }

    /// Memory of the ring, which the device reaches in place.
    pub(crate) fn alloc(&mut self, len: usize) -> Result<Memory, Stop> {
        let buffer = self.ring.alloc(len)?;
        Ok(self.keep(Memory::of_ring(buffer)))
    }

    /// Plain memory that holds what `seed` puts at `offset`.
    pub(crate) fn filled(&mut self, seed: u64, offset: u64, len: usize) -> Memory {
        let memory = self.plain(len);
        memory.write(&pattern::bytes(seed, offset, len));
        memory
    }

    pub(crate) fn iovecs(&mut self, iovecs: &[libc::iovec]) -> *const libc::iovec {
        let memory = Memory::of_iovecs(iovecs);
        self.iovecs.push(memory.clone());
        memory.ptr().cast()
    }

    /// Lets go of arrays of iovecs; nothing may be in flight.
    pub(crate) fn forget_iovecs(&mut self) {
        self.iovecs.clear();
    }

    pub(crate) fn size(&self) -> u64 {
        self.ring.target().size_bytes
    }

    pub(crate) fn push(&mut self, entry: &S) -> Result<(), PushError> {
        raw::push(&mut self.ring, entry)
    }

    pub(crate) fn register(&self, buffers: &[&Memory]) -> std::io::Result<()> {
        let iovecs: Vec<_> = buffers.iter().map(|memory| memory.iovec()).collect();
        raw::register_buffers(&self.ring, &iovecs)
    }

    /// Takes the completions that are there.
    pub(crate) fn ready(&mut self) -> Vec<Done> {
        let done = |cqe: C| {
            let extra = cqe.extra();
            let cqe: cqueue::Entry = cqe.into();
            Done { user_data: cqe.user_data(), res: cqe.result(), flags: cqe.flags(), extra }
        };
        self.ring.completion().map(done).collect()
    }

    /// Whether the ring's descriptor is, or within `limit` becomes, readable.
    pub(crate) fn is_readable(&self, limit: Duration) -> Result<bool, Stop> {
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        loop {
            match poll(&mut [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)], timeout) {
                Err(Errno::EINTR) => {}
                raised => return Ok(raised? > 0),
            }
        }
    }

    /// Fails unless the descriptor is quiet after at most one more look: everything was taken and nothing
    /// is in flight, but an interrupt may come after its completion was found.
    pub(crate) fn settle(&mut self) -> Result<(), Stop> {
        if self.is_readable(Duration::from_millis(20))? {
            assert_eq!(self.ready(), []);
        }
        assert!(!self.is_readable(Duration::from_millis(20))?, "everything was taken");
        Ok(())
    }

    /// Takes `count` completions, waiting for them; what is pushed is submitted.
    pub(crate) fn wait(&mut self, count: usize) -> Result<Vec<Done>, Stop> {
        let mut all = self.ready();
        while all.len() < count {
            self.ring.submit_and_wait(1)?;
            all.extend(self.ready());
        }
        Ok(all)
    }

    /// Submits one entry with user data of its own and waits for its result.
    pub(crate) fn one(&mut self, entry: Entry) -> Result<i32, Stop> {
        let (res, extra) = self.command(entry.into())?;
        assert_eq!(extra, [0; 2], "only commands have more to say");
        Ok(res)
    }

    /// As [`one`](Self::one), with what follows the result.
    pub(crate) fn command(&mut self, mut entry: S) -> Result<(i32, [u64; 2]), Stop> {
        self.next += 1;
        entry.set_user_data(self.next);
        self.push(&entry)?;
        assert_eq!(self.ring.submit_and_wait(1)?, 1, "entries submitted");
        let done = self.wait(1)?;
        assert_eq!(done.len(), 1, "one entry gives one completion: {done:?}");
        assert_eq!((done[0].user_data, done[0].flags), (self.next, 0), "{done:?}");
        Ok((done[0].res, done[0].extra))
    }

    /// Submits all entries, as many at once as fit, and answers their results in their order.
    pub(crate) fn all(&mut self, entries: &[Entry]) -> Result<Vec<i32>, Stop> {
        let mut results = HashMap::new();
        let first = self.next + 1;
        let mut pushed = 0;
        while results.len() < entries.len() {
            while let Some(entry) = entries.get(pushed) {
                if self.push(&entry.clone().user_data(first + pushed as u64).into()).is_err() {
                    break;
                }
                pushed += 1;
            }
            self.ring.submit_and_wait(1)?;
            for done in self.ready() {
                assert_eq!(done.extra, [0; 2], "only commands have more to say");
                let before = results.insert(done.user_data, done.res);
                assert!(before.is_none(), "two completions of one entry: {done:?}");
            }
        }
        self.next += entries.len() as u64;
        let result = |i| results.get(&i).copied().expect("a completion of another entry");
        Ok((first..=self.next).map(result).collect())
    }

    /// Writes what `seed` puts at `offset`, from plain memory.
    #[track_caller]
    pub(crate) fn put(&mut self, seed: u64, offset: u64, len: usize) -> Result<(), Stop> {
        let memory = Memory::plain(len);
        memory.write(&pattern::bytes(seed, offset, len));
        let res = self.one(write(&memory, offset))?;
        assert_eq!(res, len as i32, "write of {len} at {offset:#x}");
        Ok(())
    }

    /// Reads `len` bytes at `offset` into plain memory.
    pub(crate) fn get(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, Stop> {
        let memory = Memory::plain(len);
        let res = self.one(read(&memory, offset))?;
        assert_eq!(res, len as i32, "read of {len} at {offset:#x}");
        Ok(memory.read())
    }

    /// Fails unless the device holds what `seed` puts at `offset`.
    pub(crate) fn expect(&mut self, seed: u64, offset: u64, len: usize) -> Result<(), Stop> {
        pattern::check(seed, offset, &self.get(offset, len)?);
        Ok(())
    }
}

/// READ into `memory`.
pub(crate) fn read(memory: &Memory, offset: u64) -> Entry {
    opcode::Read::new(FILE, memory.ptr(), memory.len() as u32).offset(offset).build()
}

/// WRITE of `memory`.
pub(crate) fn write(memory: &Memory, offset: u64) -> Entry {
    opcode::Write::new(FILE, memory.ptr(), memory.len() as u32).offset(offset).build()
}

/// READ_FIXED into `memory`, a part of registered buffer `index`.
pub(crate) fn read_fixed(memory: &Memory, index: u16, offset: u64) -> Entry {
    opcode::ReadFixed::new(FILE, memory.ptr(), memory.len() as u32, index).offset(offset).build()
}

/// WRITE_FIXED of `memory`, a part of registered buffer `index`.
pub(crate) fn write_fixed(memory: &Memory, index: u16, offset: u64) -> Entry {
    opcode::WriteFixed::new(FILE, memory.ptr(), memory.len() as u32, index).offset(offset).build()
}

/// The errno that a result is expected to be.
#[track_caller]
pub(crate) fn expect_errno(res: i32, errno: i32, what: &str) {
    let name = |code: i32| {
        if code < 0 { format!("{code} ({:?})", nix::errno::Errno::from_raw(-code)) } else { code.to_string() }
    };
    assert!(res == -errno, "{what}: {}, expected {}", name(res), name(-errno));
}
