//! Owns the memory of the blocks in flight and the rings that move them.
//!
//! Each slot has two parts of equal length: the data, and room for what is read back from the
//! destination. Where both sides are devices of ours one ring serves both, so that their completions come
//! at one place; otherwise each side has a ring of its own. All memory is one buffer of the pool of a
//! device's ring, where there is one, registered with every ring: whatever one side has read, the other
//! writes in place.
#![expect(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::thread;

use anyhow::Context;
use dmaring::{Backend, CompletionMode, DmaBuf, Ring};
use dmaring_dma::DmaPool;
use io_uring::{opcode, squeue, types};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::job::Completion;
use crate::lanes::Kind;
use crate::target::Target;

/// The one registered buffer.
const BUFFER: u16 = 0;
/// A device that has fallen silent raises nothing; its ring finds that out when it is asked.
const ASK_AGAIN_MS: u16 = 1000;

/// A side of the copy that a ring serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    ring: usize,
    file: u32,
}

/// A part of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What is copied.
    Data,
    /// What was read from the destination.
    Back,
}

/// One I/O.
#[derive(Debug, Clone, Copy)]
pub struct Transfer {
    pub kind: Kind,
    pub port: Port,
    pub part: Part,
    /// First byte in the part.
    pub at: usize,
    pub len: usize,
    /// Byte offset at the side.
    pub offset: u64,
}

/// The rings, and memory for the blocks in flight.
pub struct Mover {
    /// Before the memory, as they may still be told to write to it.
    rings: Vec<Ring>,
    in_flight: Vec<usize>,
    /// Nothing only while it is dropped.
    memory: Option<DmaBuf>,
    part_bytes: usize,
    busy: Vec<bool>,
}

/// Rings on the sides that are no streams.
pub struct Rings {
    rings: Vec<Ring>,
    pub from: Option<Port>,
    pub to: Option<Port>,
}

impl Rings {
    /// Opens what is needed for `slots` blocks in flight; `completion` is that of devices.
    ///
    /// # Errors
    /// Why a ring cannot be had.
    pub fn open(
        from: Option<&Target>,
        to: Option<&Target>,
        slots: u32,
        completion: Completion,
    ) -> anyhow::Result<Self> {
        let mut rings = Vec::new();
        let mut open = |target: &Target| {
            // The kernel polls only what was set up for it, and for reads and writes only.
            let completion = if target.is_device() { completion } else { Completion::Interrupt };
            rings.push(target.ring(slots, completion)?);
            Ok::<_, anyhow::Error>(Port { ring: rings.len() - 1, file: 0 })
        };
        let from_port = from.map(&mut open).transpose()?;
        let to_port = match (from.and_then(Target::device), to.and_then(Target::device)) {
            (Some(_), Some((device, nsid))) => {
                let file = rings.first().context("a ring on the source")?.add_device(device, nsid)?;
                Some(Port { ring: 0, file: file.0 })
            }
            _ => to.map(&mut open).transpose()?,
        };
        Ok(Self { rings, from: from_port, to: to_port })
    }
}

impl Mover {
    /// Memory for `slots` blocks, with `part_bytes` for each part.
    ///
    /// # Errors
    /// The memory cannot be had or registered.
    pub fn new(rings: Rings, slots: u32, part_bytes: usize) -> anyhow::Result<Self> {
        let rings = rings.rings;
        let len = 2 * part_bytes * slots as usize;
        let device = rings.iter().find(|ring| ring.backend() == Backend::Nvme).or(rings.first());
        let mut memory = match device {
            Some(ring) => ring.alloc(len)?,
            // Between two streams nothing but the processor touches it.
            None => {
                let pool = DmaPool::new();
                pool.grow(len)?;
                pool.try_alloc(len).context("no buffer of that length is possible")?
            }
        };
        let iovec = libc::iovec { iov_base: memory.as_mut_ptr().cast(), iov_len: len };
        for ring in &rings {
            // SAFETY: `memory` is kept until the rings, in an earlier field, have been dropped.
            let registered = unsafe { ring.submitter().register_buffers(&[iovec]) };
            registered.with_context(|| {
                format!("registering {len} bytes of buffers (--iodepth or --bs may be too large, `ulimit -l` too low)")
            })?;
        }
        let in_flight = vec![0; rings.len()];
        Ok(Self { rings, in_flight, memory: Some(memory), part_bytes, busy: vec![false; slots as usize] })
    }

    /// I/Os begun and not ended.
    pub fn in_flight(&self) -> usize {
        self.in_flight.iter().sum()
    }

    /// Puts an I/O of an idle slot into its ring.
    ///
    /// # Panics
    /// If the slot is busy or the range is not in it, which is a mistake in this program.
    pub fn begin(&mut self, slot: usize, transfer: Transfer) {
        assert!(!self.busy[slot]);
        let start = self.start_of(slot, transfer.part, transfer.at, transfer.len);
        let (memory, ring) = (self.memory.as_mut(), transfer.port.ring);
        let Some(memory) = memory else { unreachable!("memory goes with the last use") };
        let pointer = memory.as_mut_ptr().wrapping_add(start);
        let (file, len, offset) = (types::Fixed(transfer.port.file), transfer.len as u32, transfer.offset);
        let entry = match transfer.kind {
            Kind::Read => opcode::ReadFixed::new(file, pointer, len, BUFFER).offset(offset).build(),
            Kind::Write => opcode::WriteFixed::new(file, pointer, len, BUFFER).offset(offset).build(),
            Kind::Nop => opcode::Nop::new().build(),
        };
        self.busy[slot] = true;
        self.push(ring, &entry.user_data(slot as u64));
    }

    fn push(&mut self, ring: usize, entry: &squeue::Entry) {
        self.in_flight[ring] += 1;
        // SAFETY: the entry names a range of a slot, checked by `start_of`, or no memory; no one touches a
        // busy slot, and the memory outlives the ring.
        let pushed = unsafe { self.rings[ring].submission().push(entry) };
        assert!(pushed.is_ok(), "more I/Os than entries");
    }

    /// Hands over what was begun and takes what has ended, without waiting.
    ///
    /// # Errors
    /// A ring's own failure.
    pub fn look(&mut self, ended: &mut Vec<(usize, i32)>) -> io::Result<()> {
        for ring in &self.rings {
            harmless(ring.submit())?;
        }
        self.reap(ended);
        Ok(())
    }

    /// Hands over what was begun, waits until something has ended or a signal has come, and takes it as
    /// slot and result.
    ///
    /// # Errors
    /// A ring's own failure.
    pub fn wait(&mut self, ended: &mut Vec<(usize, i32)>) -> io::Result<()> {
        let waiting = |ring: &usize| self.in_flight[*ring] > 0;
        match (0..self.rings.len()).filter(waiting).collect::<Vec<_>>()[..] {
            [] => {}
            [only] => harmless(self.rings[only].submit_and_wait(1))?,
            _ => {
                for ring in &self.rings {
                    harmless(ring.submit())?;
                }
                self.wait_for_any()?;
            }
        }
        self.reap(ended);
        Ok(())
    }

    fn wait_for_any(&mut self) -> io::Result<()> {
        let polls = |ring: &Ring| ring.backend() == Backend::Nvme && ring.completion_mode() == CompletionMode::Poll;
        let polled = self.rings.iter().any(polls);
        loop {
            if self.rings.iter_mut().any(|ring| !ring.completion().is_empty()) {
                return Ok(());
            }
            if polled {
                thread::yield_now();
                continue;
            }
            let mut fds: Vec<_> = self.rings.iter().map(|ring| PollFd::new(ring.as_fd(), PollFlags::POLLIN)).collect();
            match poll(&mut fds, PollTimeout::from(ASK_AGAIN_MS)) {
                Err(Errno::EINTR) => return Ok(()),
                other => other.map(drop)?,
            }
        }
    }

    fn reap(&mut self, ended: &mut Vec<(usize, i32)>) {
        for (ring, in_flight) in self.rings.iter_mut().zip(&mut self.in_flight) {
            for completion in ring.completion() {
                *in_flight -= 1;
                let slot = completion.user_data() as usize;
                if let Some(busy) = self.busy.get_mut(slot) {
                    *busy = false;
                }
                ended.push((slot, completion.result()));
            }
        }
    }

    /// Makes what was written durable; nothing else is in flight.
    ///
    /// # Errors
    /// What the device or the kernel answered.
    pub fn sync(&mut self, port: Port) -> io::Result<()> {
        let entry = opcode::Fsync::new(types::Fixed(port.file)).build();
        self.push(port.ring, &entry.user_data(u64::MAX));
        let mut ended = Vec::new();
        while self.in_flight() > 0 {
            self.wait(&mut ended)?;
        }
        match ended.last() {
            Some((_, result)) if *result < 0 => Err(io::Error::from_raw_os_error(-*result)),
            _ => Ok(()),
        }
    }

    /// Copies bytes out of an idle slot.
    ///
    /// # Panics
    /// If the slot is busy or the range is not in it.
    pub fn read(&self, slot: usize, part: Part, at: usize, to: &mut [u8]) {
        assert!(!self.busy[slot]);
        let start = self.start_of(slot, part, at, to.len());
        if let Some(memory) = &self.memory {
            memory.read(start, to);
        }
    }

    /// Copies bytes into an idle slot.
    ///
    /// # Panics
    /// If the slot is busy or the range is not in it.
    pub fn write(&mut self, slot: usize, part: Part, at: usize, from: &[u8]) {
        assert!(!self.busy[slot]);
        let start = self.start_of(slot, part, at, from.len());
        if let Some(memory) = &mut self.memory {
            memory.write(start, from);
        }
    }

    fn start_of(&self, slot: usize, part: Part, at: usize, len: usize) -> usize {
        assert!(slot < self.busy.len() && at <= self.part_bytes && len <= self.part_bytes - at);
        let part = match part {
            Part::Data => 0,
            Part::Back => 1,
        };
        (2 * slot + part) * self.part_bytes + at
    }
}

impl Drop for Mover {
    /// The memory is about to go: nothing may be in flight.
    fn drop(&mut self) {
        let mut ended = Vec::new();
        while self.in_flight() > 0 {
            if self.wait(&mut ended).is_err() {
                // Somebody may write to it for ever.
                std::mem::forget(self.memory.take());
                return;
            }
        }
    }
}

/// A signal that cuts a wait short and a kernel that is short of memory for now are no failures: what was
/// not consumed stays in the ring.
fn harmless(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => Ok(()),
        other => other.map(drop),
    }
}
