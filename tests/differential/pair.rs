//! The two sides, and the verdict on a program.

use std::thread;
use std::time::Duration;

use super::compare::differences;
use super::histogram::Histogram;
use super::order::violations;
use super::program::Program;
use super::run::{Patience, Record, run};
use super::shrink::shrink;
use super::side::{Side, enters};
use crate::case::Stop;

/// How often the kernel runs a program again for which the two sides differ: it may have more than one answer.
const AGAIN: usize = 20;

const PATIENT: Patience = Patience { hang: Duration::from_secs(10), grace: Duration::from_millis(60) };

/// A kernel and what is compared with it.
#[derive(Debug)]
pub(super) struct Pair {
    kernel: Side,
    kernel_enters: bool,
    /// One is chosen by the seed.
    others: Vec<(Side, bool)>,
    pub(super) histogram: Histogram,
}

/// What is found of a program.
#[derive(Debug)]
pub(super) enum Verdict {
    Same,
    /// The other's outcome is one that the kernel has as well, at times.
    Race(Vec<String>),
    Differs(Vec<String>),
}

impl Pair {
    pub(super) fn new(kernel: Side, others: Vec<Side>) -> Result<Self, Stop> {
        let kernel_enters = enters(&kernel)?;
        let with_enters = |side: Side| enters(&side).map(|enters| (side, enters));
        let others = others.into_iter().map(with_enters).collect::<Result<_, _>>()?;
        Ok(Self { kernel, kernel_enters, others, histogram: Histogram::default() })
    }

    fn on_kernel(&mut self, program: &Program, patience: Patience) -> Result<Record, Stop> {
        apart(|| run(program, &mut self.kernel, self.kernel_enters, patience))
    }

    fn on_other(&mut self, program: &Program, patience: Patience) -> Result<Record, Stop> {
        let at = (program.seed % self.others.len() as u64) as usize;
        let (side, enters) = &mut self.others[at];
        apart(|| run(program, side, *enters, patience))
    }

    /// What comes of a program on both sides, in words.
    pub(super) fn show(&mut self, program: &Program) -> Result<String, Stop> {
        let (expected, got) = (self.on_kernel(program, PATIENT)?, self.on_other(program, PATIENT)?);
        Ok(format!("on the kernel:\n{expected}on the other:\n{got}"))
    }

    pub(super) fn judge(&mut self, program: &Program) -> Result<Verdict, Stop> {
        let patience = PATIENT;
        let expected = self.on_kernel(program, patience)?;
        let got = self.on_other(program, patience)?;
        self.histogram.count(program, &expected);
        let found = compare(program, &expected, &got);
        if found.is_empty() {
            return Ok(Verdict::Same);
        }
        // What hangs, or floods, is wrong whatever else the kernel may do.
        if expected.has_ended() && got.has_ended() {
            for _ in 0..AGAIN {
                let again = self.on_kernel(program, patience)?;
                if compare(program, &again, &got).is_empty() {
                    return Ok(Verdict::Race(found));
                }
            }
        }
        Ok(Verdict::Differs(found))
    }

    /// The smallest program that still differs, and how.
    pub(super) fn shrink(&mut self, program: &Program, found: Vec<String>) -> (Program, Vec<String>) {
        let patience = Patience { hang: Duration::from_millis(500), ..PATIENT };
        let mut last = self.stable_difference(program, patience);
        if last.is_empty() {
            // It does not come again.
            return (program.clone(), found);
        }
        let kinds: Vec<String> = last.iter().map(|line| kind(line)).collect();
        let small = shrink(program.clone(), |program| {
            let found = self.stable_difference(program, patience);
            // It must not become another difference on the way.
            let differs = found.iter().any(|line| kinds.contains(&kind(line)));
            if differs {
                last = found;
            }
            differs
        });
        (small, last)
    }

    /// What differs between the sides and not between two runs of the kernel.
    fn stable_difference(&mut self, program: &Program, patience: Patience) -> Vec<String> {
        let Ok(first) = self.on_kernel(program, patience) else { return Vec::new() };
        if !first.has_ended() {
            return Vec::new();
        }
        let Ok(got) = self.on_other(program, patience) else { return Vec::new() };
        let found = compare(program, &first, &got);
        if found.is_empty() {
            return found;
        }
        let Ok(second) = self.on_kernel(program, patience) else { return Vec::new() };
        if compare(program, &first, &second).is_empty() { found } else { Vec::new() }
    }
}

/// Runs one side on a thread of its own: a kernel ring that goes interrupts a sleep of the thread that used it,
/// later (`io_ring_exit_work`), and the other side's sleeps are to be what they are without it.
pub(super) fn apart<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    let ended = thread::scope(|scope| scope.spawn(body).join());
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What a line says, without what changes as a program becomes smaller.
fn kind(line: &str) -> String {
    match line.strip_prefix("user_data ").and_then(|rest| rest.split_once(": ")) {
        Some((_, what)) => what.split_whitespace().filter(|word| word.parse::<u32>().is_err()).collect(),
        None => line.split_whitespace().take(2).filter(|word| word.parse::<u32>().is_err()).collect(),
    }
}

fn compare(program: &Program, expected: &Record, got: &Record) -> Vec<String> {
    let mut found = differences(program, expected, got);
    found.extend(violations(program, expected).into_iter().map(|text| format!("the kernel: {text}")));
    found.extend(violations(program, got));
    found
}
