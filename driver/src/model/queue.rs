//! Submission and completion queues as the model keeps them.

use super::memory::{DmaFault, Memory};
use crate::spec::command::Command;
use crate::spec::status::Status;
use zerocopy::FromBytes;

/// A submission queue.
#[derive(Debug)]
pub(super) struct Sq {
    pub(super) base: u64,
    pub(super) entries: u32,
    pub(super) head: u32,
    pub(super) cq: u16,
    /// With shadow doorbells: the register was written since the queue was last seen empty.
    pub(super) awake: bool,
    /// Its doorbell was given an index that it does not have.
    pub(super) astray: bool,
}

/// A completion queue.
#[derive(Debug)]
pub(super) struct Cq {
    pub(super) base: u64,
    pub(super) entries: u32,
    pub(super) tail: u32,
    pub(super) phase: bool,
    pub(super) vector: Option<u16>,
    /// With shadow doorbells: the driver's head as far as it is known.
    pub(super) head: u32,
    /// With shadow doorbells: the queue was not full when it was last looked at, or the register was written
    /// since.
    pub(super) awake: bool,
}

/// A completion to be posted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) sq: u16,
    pub(super) sq_head: u16,
    pub(super) cid: u16,
    pub(super) status: Status,
    pub(super) dw0: u32,
}

impl Sq {
    pub(super) fn new(base: u64, entries: u32, cq: u16) -> Self {
        Self { base, entries, head: 0, cq, awake: true, astray: false }
    }

    /// Copies the next entry, if the doorbell is beyond it.
    pub(super) fn fetch(&mut self, tail: u32, memory: &Memory) -> Option<Result<Command, DmaFault>> {
        if tail == self.head {
            return None;
        }
        let mut bytes = [0; 64];
        let at = self.base + u64::from(self.head) * 64;
        self.head = (self.head + 1) % self.entries;
        Some(memory.read(at, &mut bytes).map(|()| Command::read_from_bytes(&bytes).expect("64 bytes")))
    }
}

impl Cq {
    pub(super) fn new(base: u64, entries: u32, vector: Option<u16>) -> Self {
        Self { base, entries, tail: 0, phase: true, vector, head: 0, awake: true }
    }

    /// Entries that are free, given the head doorbell. One always stays empty.
    pub(super) fn room(&self, head: u32) -> u32 {
        (self.entries + head - self.tail - 1) % self.entries
    }

    /// Whether an entry is free.
    pub(super) fn has_room(&self, head: u32) -> bool {
        self.room(head) > 0
    }

    pub(super) fn post(&mut self, answer: &Answer, memory: &Memory) -> Result<(), DmaFault> {
        let at = self.base + u64::from(self.tail) * 16;
        let mut words = [0; 12];
        words[..4].copy_from_slice(&answer.dw0.to_le_bytes());
        words[8..].copy_from_slice(&(u32::from(answer.sq) << 16 | u32::from(answer.sq_head)).to_le_bytes());
        memory.write(at, &words)?;
        let status = u32::from(answer.status.bits()) << 17;
        memory.publish(at + 12, status | u32::from(self.phase) << 16 | u32::from(answer.cid))?;
        self.tail += 1;
        if self.tail == self.entries {
            self.tail = 0;
            self.phase = !self.phase;
        }
        Ok(())
    }
}
