//! Running a program on one side.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use io_uring::squeue;

use super::ledger::{Ledger, Need};
use super::names::{ENTER_GETEVENTS, SETUP_DEFER_TASKRUN, of_result};
use super::program::{Area, Entry, Program, Segment};
use super::side::{Resolver, Side, device_fd};
use crate::case::Stop;
use crate::support::raw::Memory;
use crate::support::rig::Rig;
use crate::support::syscalls;

/// What was seen of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// What calls answered: a count, or an errno below 0.
    pub(super) answers: Vec<Answer>,
    /// Completions, as they were taken.
    pub(super) seen: Vec<Seen>,
    pub(super) looks: Vec<Look>,
    /// User data of entries that should have completed and have not.
    pub(super) missing: Vec<u64>,
    /// Completions come without end.
    pub(super) flooded: bool,
    pub(super) window: Vec<u8>,
    pub(super) areas: Vec<(Area, Vec<u8>)>,
}

impl Record {
    /// Whether everything has completed, and nothing more comes.
    pub(super) fn has_ended(&self) -> bool {
        self.missing.is_empty() && !self.flooded
    }
}

/// A call that submits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) round: usize,
    pub(super) segment: usize,
    pub(super) answer: i32,
}

/// A completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) round: usize,
    pub(super) user_data: u64,
    pub(super) res: i32,
    pub(super) flags: u32,
}

/// What a ring says of itself when nothing is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) round: usize,
    pub(super) segment: usize,
    pub(super) ready: usize,
    pub(super) overflow: bool,
}

/// Many more completions than any program has.
const FLOOD: usize = 20_000;

/// How long completions are waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For one that must come: it bounds a hang.
    pub(super) hang: Duration,
    /// For one that may.
    pub(super) grace: Duration,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Answer { round, segment, answer } in &self.answers {
            writeln!(f, "  enter of round {round}, segment {segment}: {}", of_result(*answer))?;
        }
        for Seen { round, user_data, res, flags } in &self.seen {
            writeln!(f, "  completion in round {round}: user_data={user_data} {} flags={flags:#x}", of_result(*res))?;
        }
        self.missing.iter().try_for_each(|user_data| writeln!(f, "  none of user_data={user_data}"))
    }
}

/// Runs a program from the first state of window and memory to its end.
pub(super) fn run(program: &Program, side: &mut Side, enters: bool, patience: Patience) -> Result<Record, Stop> {
    side.reset(&program.setup)?;
    let rig = side.open(program)?;
    let device = device_fd(&rig.ring)?;
    let mut runner = Runner {
        rig,
        ledger: Ledger::default(),
        record: Record::default(),
        enters,
        defers: program.setup.flags & SETUP_DEFER_TASKRUN != 0,
        patience,
        round: 0,
        pushed: VecDeque::new(),
        provided: Vec::new(),
    };
    let mut resolver = Resolver::new(side, device);
    runner.provide(program, &mut resolver)?;
    for (round, segments) in program.rounds.iter().map(|round| &round.segments).enumerate() {
        runner.round = round;
        let fits = segments.iter().map(|segment| segment.entries.len()).sum::<usize>() <= runner.room();
        if fits {
            segments.iter().try_for_each(|segment| runner.push(segment, &mut resolver))?;
        }
        for (at, segment) in segments.iter().enumerate() {
            if !fits {
                runner.push(segment, &mut resolver)?;
            }
            runner.supply(segment, &mut resolver)?;
            runner.submit(at, segment)?;
        }
        if !runner.settle()? {
            break;
        }
    }
    let Runner { rig, mut record, .. } = runner;
    drop(rig);
    record.window = side.window(&program.setup)?;
    record.areas = side.areas(&program.setup);
    if !record.has_ended() {
        side.abandon_memory();
    }
    Ok(record)
}

struct Runner {
    rig: Rig,
    ledger: Ledger,
    record: Record,
    /// The ring takes raw calls.
    enters: bool,
    /// It defers its task work.
    defers: bool,
    patience: Patience,
    round: usize,
    /// Entries in the submission ring.
    pushed: VecDeque<Entry>,
    /// Rings of provided buffers: group, memory, tail.
    provided: Vec<(u16, Memory, u16)>,
}

impl Runner {
    fn room(&mut self) -> usize {
        let queue = self.rig.ring.submission();
        queue.capacity() - queue.len()
    }

    fn push(&mut self, segment: &Segment, resolver: &mut Resolver<'_>) -> Result<(), Stop> {
        for entry in &segment.entries {
            let sqe = squeue::Entry::from(resolver.sqe(entry));
            self.rig.push(&sqe)?;
            self.pushed.push_back(entry.clone());
        }
        Ok(())
    }

    fn provide(&mut self, program: &Program, _resolver: &mut Resolver<'_>) -> Result<(), Stop> {
        for ring in &program.setup.groups {
            let memory = self.rig.plain(16 * usize::from(ring.entries));
            syscalls::register_buffer_ring(&self.rig.ring, &memory, ring.entries, ring.group, ring.flags)?;
            self.provided.push((ring.group, memory, 0));
        }
        Ok(())
    }

    fn supply(&mut self, segment: &Segment, resolver: &mut Resolver<'_>) -> Result<(), Stop> {
        for supply in &segment.supplies {
            let address = resolver.side.memory(Area::Pool).address() + u64::from(supply.at);
            let ring = self.provided.iter_mut().find(|(group, ..)| *group == supply.group);
            let (_, memory, tail) = ring.ok_or(Stop::Fail(format!("no ring of group {}", supply.group)))?;
            let entries = memory.len() / 16;
            let slot = memory.part(usize::from(*tail) % entries * 16, 14);
            let mut bytes = address.to_ne_bytes().to_vec();
            bytes.extend(supply.len.to_ne_bytes());
            bytes.extend(supply.id.to_ne_bytes());
            slot.write(&bytes);
            // `struct io_uring_buf_ring`: the tail is the last member of the first entry.
            *tail = tail.wrapping_add(1);
            memory.part(14, 2).write(&tail.to_ne_bytes());
        }
        Ok(())
    }

    /// Submits the entries of a segment, by as many calls as it takes: one that is refused ends a call.
    fn submit(&mut self, at: usize, segment: &Segment) -> Result<(), Stop> {
        let enter = segment.enter;
        let mut left = segment.entries.len() as u32;
        let mut first = true;
        while first || left > 0 {
            let (min, flags) = if first { (enter.min_complete, enter.flags) } else { (0, 0) };
            let limit = enter.timeout_us.map(|us| Duration::from_micros(us.into()));
            let limit = if first { limit } else { None };
            let answer = self.enter(left + if first { enter.beyond } else { 0 }, min, flags, limit)?;
            first = false;
            self.record.answers.push(Answer { round: self.round, segment: at, answer });
            let consumed = answer.clamp(0, left as i32) as u32;
            let entries: Vec<Entry> = self.pushed.drain(..consumed as usize).collect();
            self.ledger.submitted(entries.iter());
            left -= consumed;
            if consumed == 0 {
                break;
            }
        }
        if enter.look {
            let overflow = self.rig.ring.submission().cq_overflow();
            let ready = if overflow { 0 } else { self.rig.ring.completion().len() };
            self.record.looks.push(Look { round: self.round, segment: at, ready, overflow });
        }
        // A look at a device ring does its task work, one at a ring of the kernel's that defers it does not.
        if !enter.leave && !self.defers {
            self.take();
        }
        Ok(())
    }

    /// What a call answers: a count, or an errno below 0.
    fn enter(&mut self, to_submit: u32, min: u32, flags: u32, limit: Option<Duration>) -> Result<i32, Stop> {
        let answer = if self.enters {
            // Waits that hang must end, so each has a limit.
            let bound = (flags & ENTER_GETEVENTS != 0 && min > 0).then_some(self.patience.hang);
            syscalls::enter(&self.rig.ring, to_submit, min, flags, limit.or(bound))
        } else {
            self.rig.ring.submit_and_wait(if flags & ENTER_GETEVENTS != 0 { min as usize } else { 0 })
        };
        match answer {
            Ok(count) => Ok(count as i32),
            Err(error) => error.raw_os_error().map_or(Err(error.into()), |errno| Ok(-errno)),
        }
    }

    fn take(&mut self) -> usize {
        let mut count = 0;
        loop {
            let ready = self.rig.ready();
            if ready.is_empty() {
                return count;
            }
            count += ready.len();
            if self.record.seen.len() > FLOOD {
                return count;
            }
            for done in ready {
                self.ledger.completed(done.user_data, done.res, done.flags);
                let (user_data, res, flags) = (done.user_data, done.res, done.flags);
                self.record.seen.push(Seen { round: self.round, user_data, res, flags });
            }
        }
    }

    /// Waits until everything that can complete has; false when something did not.
    fn settle(&mut self) -> Result<bool, Stop> {
        loop {
            self.take();
            if self.record.seen.len() > FLOOD {
                self.record.flooded = true;
                return Ok(false);
            }
            let limit = match self.ledger.need() {
                Need::Nothing => return Ok(true),
                Need::Time => self.patience.grace,
                Need::Completion => self.patience.hang,
            };
            let answer = self.enter(0, 1, ENTER_GETEVENTS, Some(limit))?;
            if self.take() > 0 {
                continue;
            }
            match (self.ledger.need(), answer) {
                (Need::Nothing, _) => return Ok(true),
                (Need::Time, _) => return Ok(true),
                // A ring without raw calls does not wait when there is nothing to wait for.
                (Need::Completion, 0) if self.enters => {}
                (Need::Completion, _) => {
                    self.record.missing = self.ledger.missing();
                    return Ok(false);
                }
            }
        }
    }
}
