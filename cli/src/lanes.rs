//! Owns the memory of I/Os in flight: a ring, a buffer of as many slots as I/Os, and which are busy.
#![expect(unsafe_code)]

mod bare;
mod provided;
mod together;

use std::io;

use anyhow::Context;
use dmaring::{Backend, DmaBuf, Ring, SubmissionQueue};
use io_uring::{opcode, squeue, types};

use crate::job::Data;

pub use bare::{Bare, Came};
pub use together::Together;

/// The device that a ring was opened on.
const DEVICE: types::Fixed = types::Fixed(0);
/// The one registered buffer.
const BUFFER: u16 = 0;
const PAGE: usize = 4096;

/// What one I/O does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// From the device into the slot.
    Read,
    /// From the slot to the device.
    Write,
    /// Nowhere.
    Nop,
}

/// One I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op {
    pub kind: Kind,
    /// Byte offset on the device.
    pub offset: u64,
}

/// A ring with memory for its I/Os.
///
/// Slot `i` is the bytes from `i * slot_bytes`; it is busy from [`Batch::push`] until its completion
/// is taken by [`Lanes::reap`]. Only idle slots can be read or filled by the program.
pub struct Lanes {
    /// Before the memory, as it may still be told to write to it.
    ring: Ring,
    slots: Slots,
    /// Buffers that the ring picks, where it does.
    provided: Option<provided::BufferRing>,
}

struct Slots {
    memory: Memory,
    slot_bytes: usize,
    busy: Vec<bool>,
    in_flight: usize,
    /// Flags of writes, such as RWF_DSYNC.
    write_flags: i32,
}

/// I/Os on their way into the submission ring, which they all enter when this is dropped.
pub struct Batch<'a> {
    entries: SubmissionQueue<'a>,
    slots: &'a mut Slots,
}

enum Memory {
    /// Reachable by the device; registered or not.
    Dma { buffer: DmaBuf, registered: bool },
    /// Any memory; aligned to pages, as the kernel may want for O_DIRECT.
    Plain(Vec<Page>),
}

#[derive(Clone)]
#[repr(C, align(4096))]
struct Page([u8; PAGE]);

impl Memory {
    fn base(&mut self) -> *mut u8 {
        match self {
            Self::Dma { buffer, .. } => buffer.as_mut_ptr(),
            Self::Plain(pages) => pages.as_mut_ptr().cast(),
        }
    }

    fn is_registered(&self) -> bool {
        matches!(self, Self::Dma { registered: true, .. })
    }
}

/// How [`Lanes`] are made.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Most I/Os in flight.
    pub slots: u32,
    /// Most bytes of one I/O.
    pub slot_bytes: usize,
    /// Where the slots are.
    pub data: Data,
    /// Write through any volatile cache.
    pub fua: bool,
}

impl Lanes {
    /// Memory for `options.slots` I/Os on `ring`, which has at least as many entries.
    ///
    /// # Errors
    /// The memory cannot be had or registered.
    pub fn new(ring: Ring, options: Options) -> anyhow::Result<Self> {
        let len = options.slots as usize * options.slot_bytes;
        let registered = options.data == Data::Registered;
        let memory = if options.data == Data::Ordinary {
            Memory::Plain(vec![Page([0; PAGE]); len.div_ceil(PAGE)])
        } else {
            Memory::Dma { buffer: ring.alloc(len)?, registered }
        };
        let mut slots = Slots {
            memory,
            slot_bytes: options.slot_bytes,
            busy: vec![false; options.slots as usize],
            in_flight: 0,
            write_flags: if options.fua { libc::RWF_DSYNC } else { 0 },
        };
        if registered {
            let iovec = libc::iovec { iov_base: slots.memory.base().cast(), iov_len: len };
            // SAFETY: the slots hold the buffer until the ring, an earlier field, has been dropped.
            let registered = unsafe { ring.submitter().register_buffers(&[iovec]) };
            registered.with_context(|| {
                format!("registering {len} bytes of buffers (--plain does without; `ulimit -l` may be too low)")
            })?;
        }
        Ok(Self { ring, slots, provided: None })
    }

    /// The ring, for what it says of itself.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.slots.busy.len()
    }

    /// Number of I/Os pushed and not reaped.
    pub fn in_flight(&self) -> usize {
        self.slots.in_flight
    }

    /// Begins to push I/Os.
    #[inline]
    pub fn batch(&mut self) -> Batch<'_> {
        Batch { entries: self.ring.submission(), slots: &mut self.slots }
    }

    /// Submits what was pushed and waits for at least one completion.
    ///
    /// # Errors
    /// The ring's answer; a signal that cuts the wait short is none.
    #[inline]
    pub fn submit_and_wait(&mut self) -> io::Result<()> {
        self.submit_and_wait_for(1)
    }

    /// As [`submit_and_wait`](Self::submit_and_wait), for at least so many.
    #[inline]
    fn submit_and_wait_for(&mut self, completions: usize) -> io::Result<()> {
        match self.ring.submit_and_wait(completions) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            other => other.map(drop),
        }
    }

    /// Takes all completions there are, as slot and result.
    #[inline]
    pub fn reap(&mut self, mut each: impl FnMut(usize, i32)) {
        for completion in self.ring.completion() {
            let slot = completion.user_data() as usize;
            if let Some(busy) = self.slots.busy.get_mut(slot) {
                *busy = false;
            }
            self.slots.in_flight -= 1;
            each(slot, completion.result());
        }
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// What the device or the kernel answered.
    pub fn sync(&mut self) -> io::Result<()> {
        self.drain()?;
        let polled_kernel =
            self.ring.backend() == Backend::Kernel && self.ring.completion_mode() == dmaring::CompletionMode::Poll;
        if polled_kernel {
            // Such rings only read and write.
            return std::fs::File::open(&self.ring.target().name)?.sync_data();
        }
        let fsync = opcode::Fsync::new(DEVICE).flags(types::FsyncFlags::DATASYNC);
        self.batch().push_entry(&fsync.build().user_data(u64::MAX));
        let mut result = 0;
        while self.slots.in_flight > 0 {
            self.submit_and_wait()?;
            self.reap(|_, found| result = found);
        }
        check(result).map(drop)
    }

    /// Waits for everything in flight.
    ///
    /// # Errors
    /// The ring's answer.
    pub fn drain(&mut self) -> io::Result<()> {
        while self.slots.in_flight > 0 {
            self.submit_and_wait()?;
            self.reap(|_, _| {});
        }
        Ok(())
    }

    /// As [`Batch::write_slot`], with an idle slot to be pushed later.
    pub fn write_slot(&mut self, slot: usize, from: &[u8]) {
        self.slots.write(slot, from);
    }

    /// Copies the first bytes of an idle slot out.
    ///
    /// # Panics
    /// If the slot is busy or shorter.
    pub fn read_slot(&mut self, slot: usize, to: &mut [u8]) {
        self.slots.read(slot, to);
    }

    /// Keeps all slots busy with what `next` gives until it gives nothing, and hands every completion
    /// to `done`, with the slot idle.
    ///
    /// # Errors
    /// The ring's, or `done`'s; nothing is in flight then, unless the ring itself failed.
    pub fn pump(
        &mut self,
        mut next: impl FnMut(&mut Self, usize) -> Option<Op>,
        mut done: impl FnMut(&mut Self, usize, Op, i32) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut idle: Vec<usize> = (0..self.slots()).rev().collect();
        let mut ops = vec![None; self.slots()];
        let mut results = Vec::with_capacity(self.slots());
        let mut more = true;
        loop {
            while more && let Some(&slot) = idle.last() {
                match next(self, slot) {
                    Some(op) => {
                        idle.pop();
                        ops[slot] = Some(op);
                        self.batch().push(slot, op);
                    }
                    None => more = false,
                }
            }
            if self.slots.in_flight == 0 {
                return Ok(());
            }
            self.submit_and_wait()?;
            results.clear();
            self.reap(|slot, result| results.push((slot, result)));
            for &(slot, result) in &results {
                idle.push(slot);
                if let Some(op) = ops[slot].take()
                    && let Err(error) = done(self, slot, op, result)
                {
                    self.drain()?;
                    return Err(error);
                }
            }
        }
    }

    /// Reads `len` bytes at `offset` into slot 0 and copies them out.
    ///
    /// # Errors
    /// The ring's answer, the result, or [`io::ErrorKind::UnexpectedEof`] if fewer came.
    pub fn read_at(&mut self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        self.drain()?;
        let kind = Kind::Read;
        self.batch().push_some(0, Op { kind, offset }, to.len());
        let mut result = 0;
        while self.slots.in_flight > 0 {
            self.submit_and_wait()?;
            self.reap(|_, found| result = found);
        }
        if check(result)? < to.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_slot(0, to);
        Ok(())
    }
}

impl Batch<'_> {
    /// I/Os pushed and not reaped.
    pub fn in_flight(&self) -> usize {
        self.slots.in_flight
    }

    /// Copies `from` to the begin of an idle slot.
    ///
    /// # Panics
    /// If the slot is busy or shorter.
    pub fn write_slot(&mut self, slot: usize, from: &[u8]) {
        self.slots.write(slot, from);
    }

    /// Puts an I/O of a whole slot into the submission ring.
    pub fn push(&mut self, slot: usize, op: Op) {
        self.push_some(slot, op, self.slots.slot_bytes);
    }

    /// Puts an I/O of the first `len` bytes of a slot into the submission ring.
    ///
    /// # Panics
    /// If the slot is busy or shorter, which is a mistake in this program.
    pub fn push_some(&mut self, slot: usize, op: Op, len: usize) {
        assert!(!self.slots.busy[slot] && len <= self.slots.slot_bytes);
        let registered = self.slots.memory.is_registered();
        let pointer = self.slots.memory.base().wrapping_add(slot * self.slots.slot_bytes);
        // A slot is at most 1 GiB (see `job`).
        let (len, offset) = (len as u32, op.offset);
        let entry = match (op.kind, registered) {
            (Kind::Read, true) => opcode::ReadFixed::new(DEVICE, pointer, len, BUFFER).offset(offset).build(),
            (Kind::Read, false) => opcode::Read::new(DEVICE, pointer, len).offset(offset).build(),
            (Kind::Write, true) => opcode::WriteFixed::new(DEVICE, pointer, len, BUFFER)
                .offset(offset)
                .rw_flags(self.slots.write_flags)
                .build(),
            (Kind::Write, false) => {
                opcode::Write::new(DEVICE, pointer, len).offset(offset).rw_flags(self.slots.write_flags).build()
            }
            (Kind::Nop, _) => opcode::Nop::new().build(),
        };
        self.slots.busy[slot] = true;
        self.push_entry(&entry.user_data(slot as u64));
    }

    fn push_entry(&mut self, entry: &squeue::Entry) {
        self.slots.in_flight += 1;
        // SAFETY: the entry names a slot, in range by the assertion in `push_some`, or no memory; no one
        // touches a busy slot, and the memory outlives the ring.
        let pushed = unsafe { self.entries.push(entry) };
        assert!(pushed.is_ok(), "more I/Os than entries");
    }
}

impl Slots {
    fn read(&mut self, slot: usize, to: &mut [u8]) {
        assert!(!self.busy[slot] && to.len() <= self.slot_bytes);
        let from = self.memory.base().wrapping_add(slot * self.slot_bytes);
        // SAFETY: in range by the assertion; idle, so nobody writes to it.
        unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
    }

    fn write(&mut self, slot: usize, from: &[u8]) {
        assert!(!self.busy[slot] && from.len() <= self.slot_bytes);
        let to = self.memory.base().wrapping_add(slot * self.slot_bytes);
        // SAFETY: in range by the assertion; idle, so nobody reads it.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
    }
}

impl Drop for Lanes {
    /// The memory is about to go: nothing may be in flight.
    fn drop(&mut self) {
        if self.drain().is_err() {
            // Somebody may write to it for ever.
            let memory = std::mem::replace(&mut self.slots.memory, Memory::Plain(Vec::new()));
            std::mem::forget(memory);
        }
    }
}

/// A completion's result as the number of bytes or the error.
///
/// # Errors
/// The errno in a negative result.
pub fn check(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(result.saturating_neg()))
}
