//! The way of one block: from one of its steps to the next.

use anyhow::anyhow;

use super::{Flight, Halt, Pass, Sink, Source, Step, failed};
use crate::copy::mover::{Part, Transfer};
use crate::copy::plan::Block;
use crate::lanes::Kind;

impl Pass<'_> {
    /// The data of a block is in its slot, where its place on the destination wants it.
    pub(super) fn filled(&mut self, slot: usize, block: Block) -> Result<(), Halt> {
        if !self.work.write {
            self.begin(slot, block, Step::Check);
            return Ok(());
        }
        if matches!(self.sides.to, Sink::Stream(_)) {
            self.flights[slot] = Some(Flight { block, step: Step::Queued, transfer: None, moved: block.len as usize });
            return Ok(());
        }
        if self.work.leave_zeros && self.is_zero(slot, block) {
            self.left_out += block.len;
            self.written(slot, block);
            return Ok(());
        }
        let to = self.sides.plan.to(block);
        let is_whole = to.len as u64 == block.len;
        self.begin(slot, block, if is_whole { Step::Write } else { Step::Fetch });
        Ok(())
    }

    pub(super) fn begin(&mut self, slot: usize, block: Block, step: Step) {
        let (plan, kind) = (self.sides.plan, if step == Step::Write { Kind::Write } else { Kind::Read });
        let (from, to) = (plan.from(block), plan.to(block));
        let is_whole = to.len as u64 == block.len;
        let (span, part) = match step {
            Step::Read => (from, Part::Data),
            Step::Write if is_whole => (to, Part::Data),
            _ => (to, Part::Back),
        };
        let port = match (step, &*self.sides.from, &*self.sides.to) {
            (Step::Read, Source::Ring(port), _) => *port,
            (_, _, Sink::Ring(port)) => *port,
            _ => return,
        };
        let transfer = Transfer { kind, port, part, at: 0, len: span.len, offset: span.offset };
        self.flights[slot] = Some(Flight { block, step, transfer: Some(transfer), moved: 0 });
        self.sides.mover.begin(slot, transfer);
    }

    pub(super) fn advance(&mut self, slot: usize, result: i32) -> Result<(), Halt> {
        let Some(flight) = self.flights.get_mut(slot).and_then(Option::as_mut) else { return Ok(()) };
        let Some(transfer) = flight.transfer else { return Ok(()) };
        let Ok(came) = usize::try_from(result) else {
            let error = std::io::Error::from_raw_os_error(result.saturating_neg());
            let (verb, name) = match flight.step {
                Step::Read => ("reading", self.sides.names.0),
                Step::Write => ("writing", self.sides.names.1),
                _ => ("reading", self.sides.names.1),
            };
            let (len, offset) = (transfer.len, transfer.offset);
            return Err(failed(error, &format!("{verb} {len} bytes at {offset} of {name}")));
        };
        flight.moved += came;
        let (flight, plan) = (*flight, self.sides.plan);
        let (wanted, align) = match flight.step {
            Step::Read => (plan.from(flight.block).shift + flight.block.len as usize, plan.from_align),
            Step::Check => (plan.to(flight.block).shift + flight.block.len as usize, plan.to_align),
            _ => (transfer.len, plan.to_align),
        };
        // Cut short by nothing that lasts; at the end of a file nothing comes, or no whole block.
        if flight.moved < wanted && came > 0 && (flight.moved as u64).is_multiple_of(align) {
            let done = flight.moved;
            let (at, len) = (transfer.at + done, transfer.len - done);
            self.sides.mover.begin(slot, Transfer { at, len, offset: transfer.offset + done as u64, ..transfer });
            return Ok(());
        }
        self.step_done(slot, flight, wanted)
    }

    fn step_done(&mut self, slot: usize, flight: Flight, wanted: usize) -> Result<(), Halt> {
        let (block, plan, moved) = (flight.block, self.sides.plan, flight.moved);
        let (from, to, len) = (plan.from(block), plan.to(block), block.len as usize);
        match flight.step {
            Step::Read if moved < wanted => Err(self.source_ended(block.at + moved.saturating_sub(from.shift) as u64)),
            Step::Read | Step::Fetch if self.halt.is_some() => Ok(()),
            Step::Read => {
                if from.shift != to.shift {
                    self.sides.mover.read(slot, Part::Data, from.shift, &mut self.scratch[..len]);
                    self.sides.mover.write(slot, Part::Data, to.shift, &self.scratch[..len]);
                }
                self.filled(slot, block)
            }
            Step::Fetch => {
                // What lies beyond the end of a file is zeros.
                self.sides.mover.read(slot, Part::Back, 0, &mut self.scratch[..to.len]);
                self.scratch[moved.min(to.len)..to.len].fill(0);
                self.sides.mover.read(slot, Part::Data, to.shift, &mut self.scratch[to.shift..to.shift + len]);
                self.sides.mover.write(slot, Part::Back, 0, &self.scratch[..to.len]);
                self.begin(slot, block, Step::Write);
                Ok(())
            }
            Step::Write if moved < wanted => {
                let (name, offset) = (self.sides.names.1, to.offset);
                Err(Halt::Failed(anyhow!("writing {wanted} bytes at {offset} of {name}: only {moved} were taken")))
            }
            Step::Write => {
                self.written(slot, block);
                Ok(())
            }
            // A file that ends with zeros gets its length in the end.
            Step::Check if moved < wanted && !(self.work.write && self.work.leave_zeros) => {
                let (name, end) = (self.sides.names.1, to.offset + moved as u64);
                Err(Halt::Failed(anyhow!("verification cannot go on: {name} ends at {end}")))
            }
            Step::Check => {
                let missing = wanted.saturating_sub(moved);
                self.scratch[..missing].fill(0);
                self.sides.mover.write(slot, Part::Back, wanted - missing, &self.scratch[..missing]);
                let found = (to.shift, len, plan.seek + block.at);
                self.differences.look(self.sides.mover, slot, found);
                self.finish(slot, block);
                Ok(())
            }
            Step::Queued => Ok(()),
        }
    }

    /// The source is shorter than it was.
    fn source_ended(&self, after: u64) -> Halt {
        let (name, total) = (self.sides.names.0, self.sides.plan.total.unwrap_or(after));
        Halt::Failed(anyhow!("{name} ended after {after} of {total} bytes: it was cut while it was read"))
    }

    fn written(&mut self, slot: usize, block: Block) {
        if self.work.check && self.halt.is_none() {
            self.begin(slot, block, Step::Check);
        } else {
            self.finish(slot, block);
        }
    }

    pub(super) fn finish(&mut self, slot: usize, block: Block) {
        self.pending.remove(&block.at);
        self.flights[slot] = None;
        self.idle.push(slot);
    }

    fn is_zero(&mut self, slot: usize, block: Block) -> bool {
        let bytes = &mut self.scratch[..block.len as usize];
        self.sides.mover.read(slot, Part::Data, self.sides.plan.to(block).shift, bytes);
        bytes.iter().all(|byte| *byte == 0)
    }
}
