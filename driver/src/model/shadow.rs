//! Shadow doorbells (Doorbell Buffer Config, section 5.8, and annex B.5): the driver stores its indexes in
//! memory, and writes a register only when that passes the index that stands in EventIdx.
//!
//! The model keeps to the letter of it. A queue is *awake* from a write of its register until it is found
//! empty (a completion queue: until it is found full); the model then stores EventIdx, fences, and looks at
//! the doorbell once more. A queue that is not awake is left alone whatever stands in memory, so a driver that
//! spares one write too many hangs here as it would on a device that sleeps.

use std::sync::atomic::{Ordering, fence};

use super::controller::Controller;
use super::doorbells::Doorbells;
use super::memory::{DmaFault, Memory};
use super::queue::{Cq, Sq};
use crate::spec::command::Command;
use crate::spec::status::Status;

/// Where both buffers are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shadow {
    doorbells: u64,
    events: u64,
}

impl Shadow {
    /// The tail and head of a queue pair, as far as the driver lets them be known.
    pub(super) fn look(
        &self,
        registers: &Doorbells,
        memory: &Memory,
        (qid, sq): (u16, &mut Sq),
        (cqid, cq): (u16, &mut Cq),
    ) -> Result<(u32, u32), DmaFault> {
        sq.awake |= registers.was_rung(qid, false);
        if !sq.awake {
            return Ok((sq.head, cq.head));
        }
        let at = registers.index(qid, false);
        let mut tail = self.doorbell(memory, at)?;
        if tail == sq.head {
            tail = self.ask(memory, at, tail)?;
            sq.awake = tail != sq.head;
        }
        Ok((tail, self.head(registers, memory, cqid, cq)?))
    }

    /// The head of a completion queue, as far as it has to be known.
    pub(super) fn head(&self, registers: &Doorbells, memory: &Memory, cqid: u16, cq: &mut Cq) -> Result<u32, DmaFault> {
        cq.awake |= registers.was_rung(cqid, true);
        if cq.awake && !cq.has_room(cq.head) {
            let at = registers.index(cqid, true);
            cq.head = self.doorbell(memory, at)?;
            if !cq.has_room(cq.head) {
                cq.head = self.ask(memory, at, cq.head)?;
                cq.awake = cq.has_room(cq.head);
            }
        }
        Ok(cq.head)
    }

    fn doorbell(&self, memory: &Memory, word: usize) -> Result<u32, DmaFault> {
        memory.load(self.doorbells + 4 * word as u64)
    }

    /// Asks for a register write at the next step beyond `index`. Answers what the doorbell says after that.
    fn ask(&self, memory: &Memory, word: usize, index: u32) -> Result<u32, DmaFault> {
        memory.publish(self.events + 4 * word as u64, index)?;
        // Pairs with the driver's fence between its store of the doorbell and its load of EventIdx.
        fence(Ordering::SeqCst);
        self.doorbell(memory, word)
    }
}

impl Controller {
    /// Doorbell Buffer Config.
    pub(super) fn share_doorbells(&mut self, command: &Command) -> Result<(), Status> {
        let page = |address: u64| address != 0 && address.is_multiple_of(4096);
        if !page(command.prp1) || !page(command.prp2) {
            return Err(Status::INVALID_FIELD);
        }
        self.shadow = Some(Shadow { doorbells: command.prp1, events: command.prp2 });
        // The admin queue's registers are always written, and go on to be what counts.
        self.sqs.iter_mut().flatten().for_each(|sq| sq.awake = true);
        self.cqs.iter_mut().flatten().for_each(|cq| cq.awake = true);
        Ok(())
    }
}
