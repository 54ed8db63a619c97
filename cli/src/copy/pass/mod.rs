//! One pass over a copy: blocks read, written and compared, several at once.
//!
//! ```text
//!   read the source -> (fetch what shares a block of the destination) -> write -> (read back, compare)
//! ```
//! A pass that only compares goes from the first step to the last. Where a side is a stream its bytes
//! keep their order; everything else is in flight at once.

mod steps;
mod turns;

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::anyhow;

use super::differences::Differences;
use super::holes::Holes;
use super::mover::{Mover, Part, Port, Transfer};
use super::plan::{Block, Plan};
use super::progress::Progress;
use super::stream::{Input, Output};

/// Where bytes come from.
#[derive(Debug)]
pub enum Source {
    Ring(Port),
    Stream(Input),
}

/// Where bytes go.
#[derive(Debug)]
pub enum Sink {
    Ring(Port),
    Stream(Output),
}

/// What is done with every block.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Write it to the destination.
    pub write: bool,
    /// Read it back and compare it with what is in memory.
    pub check: bool,
    /// What was a hole need not be written: the destination is a file that ends before it.
    pub leave_holes: bool,
    /// Neither need zeros.
    pub leave_zeros: bool,
}

/// Why a pass ended before its end.
#[derive(Debug)]
pub enum Halt {
    /// The user wants it.
    Stopped,
    /// Nobody reads the stream any more.
    ReaderGone,
    Failed(anyhow::Error),
}

/// What a pass has come to.
#[derive(Debug)]
pub struct Outcome {
    /// Nothing if it came to its end.
    pub halt: Option<Halt>,
    /// The first so many bytes have been dealt with.
    pub sure: u64,
    /// Bytes left out as holes.
    pub holes: u64,
    /// What was compared and differs.
    pub differences: Differences,
}

/// What the copy is made of.
pub struct Sides<'a> {
    pub plan: &'a Plan,
    pub mover: &'a mut Mover,
    pub from: &'a mut Source,
    pub to: &'a mut Sink,
    /// As the user calls them.
    pub names: (&'a str, &'a str),
    pub slots: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Read,
    Fetch,
    Write,
    Check,
    /// Waits for its turn in a stream.
    Queued,
}

#[derive(Debug, Clone, Copy)]
struct Flight {
    block: Block,
    step: Step,
    /// The whole transfer of this step.
    transfer: Option<Transfer>,
    /// Bytes of it that have been moved.
    moved: usize,
}

/// A pass at work.
pub struct Pass<'a> {
    sides: Sides<'a>,
    work: Work,
    holes: Holes,
    stop: &'a AtomicBool,
    progress: &'a mut Progress,
    halt: Option<Halt>,
    /// The block that it came from; no other is before it if it came from elsewhere.
    halted_at: u64,
    /// First byte that no block has been made for.
    next: u64,
    exhausted: bool,
    idle: Vec<usize>,
    flights: Vec<Option<Flight>>,
    /// Blocks for a stream, in their order.
    queue: VecDeque<usize>,
    /// Where blocks begin that have not been dealt with.
    pending: BTreeSet<u64>,
    /// Bytes of the first of them that a stream has taken.
    part_put: u64,
    left_out: u64,
    differences: Differences,
    scratch: Vec<u8>,
}

impl<'a> Pass<'a> {
    /// A pass that has not begun.
    pub fn new(sides: Sides<'a>, work: Work, holes: Holes, stop: &'a AtomicBool, progress: &'a mut Progress) -> Self {
        let slots = sides.slots;
        let scratch = vec![0; sides.plan.most_bytes() as usize];
        Self {
            sides,
            work,
            holes,
            stop,
            progress,
            halt: None,
            halted_at: u64::MAX,
            next: 0,
            exhausted: false,
            idle: (0..slots).rev().collect(),
            flights: vec![None; slots],
            queue: VecDeque::new(),
            pending: BTreeSet::new(),
            part_put: 0,
            left_out: 0,
            differences: Differences::default(),
            scratch,
        }
    }

    /// Goes to the end, or to the first thing in the way; nothing is in flight afterwards, unless a ring
    /// has failed.
    pub fn run(mut self) -> Outcome {
        let mut ended = Vec::new();
        loop {
            if self.halt.is_none() {
                self.halt = self.start().and_then(|()| self.put_out()).err();
                self.halted_at = if self.halt.is_some() { 0 } else { u64::MAX };
            }
            if self.sides.mover.in_flight() == 0 {
                if self.halt.is_some() || (self.exhausted && self.pending.is_empty()) {
                    break;
                }
                continue;
            }
            ended.clear();
            let stream_goes_on = matches!(self.sides.from, Source::Stream(_)) && !self.exhausted;
            let result = match self.halt.is_none() && stream_goes_on && !self.idle.is_empty() {
                true => self.sides.mover.look(&mut ended),
                false => self.sides.mover.wait(&mut ended),
            };
            if let Err(error) = result {
                self.halt = Some(Halt::Failed(anyhow!(error).context("the ring has failed")));
                break;
            }
            for &(slot, result) in &ended {
                let at = self.flights.get(slot).and_then(|flight| Some((*flight)?.block.at));
                if let (Err(halt), Some(at)) = (self.advance(slot, result), at) {
                    // Of several failures the one that comes first in the data.
                    if at < self.halted_at {
                        (self.halt, self.halted_at) = (Some(halt), at);
                    }
                }
            }
            self.progress.show(self.sure());
        }
        let sure = self.sure();
        Outcome { halt: self.halt, sure, holes: self.left_out, differences: self.differences }
    }

    fn sure(&self) -> u64 {
        self.pending.first().map_or(self.next, |first| first + self.part_put)
    }

    /// Begins blocks: all that fit, or one of a stream, whose source may keep us waiting.
    fn start(&mut self) -> Result<(), Halt> {
        while !self.exhausted
            && let Some(&slot) = self.idle.last()
        {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Halt::Stopped);
            }
            if matches!(self.sides.from, Source::Stream(_)) {
                return self.take_in(slot);
            }
            let Some(block) = self.sides.plan.block(self.next, &mut self.holes) else {
                self.exhausted = true;
                break;
            };
            if block.hole && self.work.leave_holes && self.work.write {
                self.next += block.len;
                self.left_out += block.len;
                continue;
            }
            self.claim(slot, block);
            if block.hole {
                let len = block.len as usize;
                self.scratch[..len].fill(0);
                self.sides.mover.write(slot, Part::Data, self.sides.plan.to(block).shift, &self.scratch[..len]);
                self.filled(slot, block)?;
            } else {
                self.begin(slot, block, Step::Read);
            }
        }
        Ok(())
    }

    fn claim(&mut self, slot: usize, block: Block) {
        self.idle.pop();
        self.next = block.at + block.len;
        self.pending.insert(block.at);
        self.flights[slot] = Some(Flight { block, step: Step::Queued, transfer: None, moved: 0 });
        if matches!(self.sides.to, Sink::Stream(_)) {
            self.queue.push_back(slot);
        }
    }
}

fn failed(error: std::io::Error, doing: &str) -> Halt {
    Halt::Failed(anyhow!(error).context(doing.to_owned()))
}
