//! Streams, whose bytes come and go one after the other.

use std::io::ErrorKind;

use anyhow::anyhow;

use super::{Flight, Halt, Pass, Sink, Source, Step, failed};
use crate::copy::mover::Part;
use crate::copy::plan::Block;
use crate::copy::stream::Moved;

impl Pass<'_> {
    /// Fills a slot from the stream.
    pub(super) fn take_in(&mut self, slot: usize) -> Result<(), Halt> {
        let Source::Stream(input) = &mut *self.sides.from else { return Ok(()) };
        let block = self.sides.plan.block(self.next, &mut self.holes);
        let at_end = self.sides.plan.total == Some(self.next);
        let wanted = match block {
            Some(block) => block.len as usize,
            None if at_end => 0,
            // The destination is full; that is no failure if the stream ends here too.
            None => 1,
        };
        let name = self.sides.names.0;
        let got = match input.fill(&mut self.scratch[..wanted], self.stop) {
            Moved::Bytes(got) => got,
            Moved::Stopped(_) => return Err(Halt::Stopped),
            Moved::Failed(_, error) => return Err(failed(error, &format!("reading {name}"))),
        };
        self.exhausted = got < wanted || wanted == 0;
        let Some(block) = block else {
            let (room, to) = (self.next, self.sides.names.1);
            return match got {
                0 => Ok(()),
                _ => Err(Halt::Failed(anyhow!("{to} is full: it took {room} bytes, and {name} has more"))),
            };
        };
        if got > 0 {
            let block = Block { len: got as u64, ..block };
            self.claim(slot, block);
            self.sides.mover.write(slot, Part::Data, self.sides.plan.to(block).shift, &self.scratch[..got]);
            self.filled(slot, block)?;
        }
        Ok(())
    }

    /// Writes what is next in the stream, as far as it is there.
    pub(super) fn put_out(&mut self) -> Result<(), Halt> {
        while let Sink::Stream(output) = &mut *self.sides.to
            && let Some(&slot) = self.queue.front()
            && let Some(Flight { block, step: Step::Queued, moved, .. }) = self.flights[slot]
            && moved as u64 == block.len
        {
            self.sides.mover.read(slot, Part::Data, 0, &mut self.scratch[..moved]);
            let (put, halt) = match output.put(&self.scratch[..moved], self.stop) {
                Moved::Bytes(_) => {
                    self.queue.pop_front();
                    self.finish(slot, block);
                    continue;
                }
                Moved::Stopped(put) => (put, Halt::Stopped),
                Moved::Failed(put, error) if error.kind() == ErrorKind::BrokenPipe => (put, Halt::ReaderGone),
                Moved::Failed(put, error) => (put, failed(error, &format!("writing to {}", self.sides.names.1))),
            };
            self.part_put = put as u64;
            return Err(halt);
        }
        Ok(())
    }
}
