//! A prepared copy at work, and what it says in the end.

use std::fs::File;
use std::io;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use signal_hook::consts::SIGPIPE;

use super::holes::Holes;
use super::pass::{Halt, Outcome, Pass, Sides, Sink, Source, Work};
use super::prepare::Prepared;
use super::progress::{Progress, bytes, rate};
use super::stream::Moved;
use crate::interrupt::{self, Interrupt};
use crate::output;

impl Prepared<'_> {
    /// Copies, flushes, verifies, and tells.
    ///
    /// # Errors
    /// What kept a byte from its place, with how many have come there.
    pub fn copy(mut self, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
        let stop = interrupt.flag();
        let begin = Instant::now();
        if let Err(halt) = self.pass_over(stop) {
            return self.tell_halt(halt, 0, None, interrupt);
        }
        let base = self.cut().with_context(|| format!("cannot cut {}", self.command.to))?;
        if let Some(made) = self.made.take() {
            made.keep();
        }
        let mut outcome = self.move_all(stop);
        if outcome.halt.is_none()
            && let Some((error, sure)) = self.what_is_missing(outcome.sure)
        {
            (outcome.halt, outcome.sure) = (Some(Halt::Failed(error)), sure);
        }
        let flushed = self.settle(base, outcome.sure);
        let moved = outcome.sure;
        let halted = match (outcome.halt.take(), flushed) {
            (Some(halt), flushed) => Some((halt, flushed.err())),
            (None, Err(error)) => Some((Halt::Failed(anyhow!("flushing {}", self.command.to)), Some(error))),
            (None, Ok(())) => None,
        };
        if let Some((halt, unsafe_because)) = halted {
            return self.tell_halt(halt, moved, unsafe_because, interrupt);
        }
        let differences = match self.command.verify && matches!(self.from, Source::Ring(_)) {
            true => {
                let checked = self.check_all(stop);
                match checked.halt {
                    Some(Halt::Failed(error)) => {
                        bail!("{error:#}; {moved} bytes were copied, {} verified", checked.sure)
                    }
                    Some(_) => return Ok(self.tell_stopped_check(checked.sure, moved, interrupt)),
                    None => checked.differences,
                }
            }
            false => outcome.differences,
        };
        if let Some(first) = differences.first {
            let (wrong, to) = (differences.wrong, &self.command.to);
            bail!("verification failed: {wrong} of {moved} bytes of {to} differ; the first at {first}");
        }
        self.tell_success(moved, outcome.holes, begin.elapsed());
        Ok(ExitCode::SUCCESS)
    }

    /// Lets a file end at `--seek`, and answers how long it is then.
    fn cut(&self) -> io::Result<u64> {
        let Some(file) = &self.to_file else { return Ok(0) };
        if !self.command.notrunc {
            file.set_len(self.plan.seek)?;
        }
        Ok(file.metadata()?.len())
    }

    /// Drops the begin of a stream.
    fn pass_over(&mut self, stop: &AtomicBool) -> Result<(), Halt> {
        let Source::Stream(input) = &mut self.from else { return Ok(()) };
        let mut left = self.plan.skip;
        let mut scratch = vec![0; left.min(self.plan.step) as usize];
        while left > 0 {
            let wanted = left.min(scratch.len() as u64) as usize;
            let (name, skip) = (&self.command.from, self.plan.skip);
            match input.fill(&mut scratch[..wanted], stop) {
                Moved::Bytes(got) if got == wanted => left -= got as u64,
                Moved::Bytes(got) => {
                    let ended = skip - left + got as u64;
                    return Err(Halt::Failed(anyhow!("{name} ended after {ended} bytes, before --skip {skip}")));
                }
                Moved::Stopped(_) => return Err(Halt::Stopped),
                Moved::Failed(_, error) => return Err(Halt::Failed(anyhow!(error).context(format!("reading {name}")))),
            }
        }
        Ok(())
    }

    fn move_all(&mut self, stop: &AtomicBool) -> Outcome {
        let to_cut_file = self.to_file.is_some() && !self.command.notrunc;
        let work = Work {
            write: true,
            check: self.command.verify && matches!(self.from, Source::Stream(_)),
            leave_holes: to_cut_file,
            leave_zeros: to_cut_file && self.command.sparse,
        };
        self.pass("copied", work, stop)
    }

    fn check_all(&mut self, stop: &AtomicBool) -> Outcome {
        // What was read without direct I/O shall come from the disk, not from memory.
        if let Some(file) = &self.to_file {
            let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        }
        self.pass("verified", Work { write: false, check: true, leave_holes: false, leave_zeros: false }, stop)
    }

    fn pass(&mut self, verb: &'static str, work: Work, stop: &AtomicBool) -> Outcome {
        let holes = Holes::of(self.from_file.as_ref().and_then(|file| file.try_clone().ok()));
        let mut progress = Progress::start(verb, self.plan.total, self.command.progress);
        let sides = Sides {
            plan: &self.plan,
            mover: &mut self.mover,
            from: &mut self.from,
            to: &mut self.to,
            names: (&self.command.from, &self.command.to),
            slots: self.slots,
        };
        let outcome = Pass::new(sides, work, holes, stop, &mut progress).run();
        progress.finish(outcome.sure);
        outcome
    }

    /// Gives a file its length and makes what was written durable.
    fn settle(&mut self, base: u64, sure: u64) -> io::Result<()> {
        match (&self.to, &self.to_file) {
            (Sink::Ring(_), Some(file)) => {
                file.set_len(base.max(self.plan.seek + sure))?;
                file.sync_all()
            }
            (Sink::Ring(port), None) => self.mover.sync(*port),
            (Sink::Stream(_), _) => Ok(()),
        }
    }

    /// Whether the source had less than was wanted, and how much of what was moved it had.
    fn what_is_missing(&self, moved: u64) -> Option<(anyhow::Error, u64)> {
        let (name, total) = (&self.command.from, self.plan.total?);
        if moved < total {
            return Some((anyhow!("{name} ended after {moved} bytes; --size asked for {total}"), moved));
        }
        // Its end may have been taken for a hole.
        let now = self.from_file.as_ref().and_then(|file: &File| file.metadata().ok())?.len();
        let end = self.plan.skip + total;
        let error = || anyhow!("{name} ends at {now}, not at {end}: it was cut while it was read");
        (now < end).then(|| (error(), now.saturating_sub(self.plan.skip)))
    }

    fn tell_success(&self, moved: u64, holes: u64, time: Duration) {
        let mut text = format!("{} copied in {:.1} s, {}", bytes(moved), time.as_secs_f64(), rate(moved, time));
        if holes > 0 {
            text += &format!("; {holes} of them left out as holes");
        }
        if self.command.verify {
            text += "; read back and compared";
        }
        output::note(&text);
    }

    fn tell_halt(
        &self,
        halt: Halt,
        sure: u64,
        unsafe_because: Option<io::Error>,
        interrupt: &Interrupt,
    ) -> anyhow::Result<ExitCode> {
        let rest = match unsafe_because {
            Some(error) => format!("flushing {} failed, so none of it is sure: {error}", self.command.to),
            None => self.how_to_go_on(sure),
        };
        match halt {
            // As a program that the signal ends, which is what pipes are made for.
            Halt::ReaderGone => Ok(ExitCode::from(128 + SIGPIPE as u8)),
            Halt::Failed(error) => bail!("{error:#}; {rest}"),
            Halt::Stopped => {
                let status = interrupt.status().unwrap_or(1);
                output::note(&format!("ended early by {}; {rest}", interrupt::name(status)));
                Ok(ExitCode::from(status))
            }
        }
    }

    fn tell_stopped_check(&self, checked: u64, moved: u64, interrupt: &Interrupt) -> ExitCode {
        let status = interrupt.status().unwrap_or(1);
        let signal = interrupt::name(status);
        output::note(&format!("ended early by {signal}; all {moved} bytes were copied, the first {checked} verified"));
        ExitCode::from(status)
    }

    /// What is at the destination for sure, and the options that copy the rest.
    fn how_to_go_on(&self, sure: u64) -> String {
        let to = &self.command.to;
        if self.to_model {
            return format!("{sure} bytes had been copied to {to}, which is gone now");
        }
        if sure == 0 {
            return format!("nothing is at {to} for sure");
        }
        let mut options = format!("--skip {}", self.plan.skip + sure);
        if matches!(self.to, Sink::Ring(_)) {
            options += &format!(" --seek {}", self.plan.seek + sure);
        }
        if let Some(size) = self.command.size {
            options += &format!(" --size {}", size.saturating_sub(sure));
        }
        // The begin of the copy may be what --force is asked for.
        if matches!(self.to, Sink::Ring(_)) && self.to_file.is_none() && !self.command.force {
            options += " --force";
        }
        format!("the first {sure} bytes are at {to}; to go on: the same command with {options}")
    }
}
