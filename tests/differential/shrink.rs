//! Making a program smaller as long as its two runs differ.

use std::time::{Duration, Instant};

use super::names;
use super::program::{Enter, Entry, Fd, Program, Word};

/// How long shrinking may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The smallest program found for which `differs` still holds.
pub(super) fn shrink(program: Program, mut differs: impl FnMut(&Program) -> bool) -> Program {
    let mut shrinker = Shrinker { best: program, differs: &mut differs, deadline: Instant::now() + LIMIT };
    loop {
        let before = shrinker.best.clone();
        shrinker.rounds();
        shrinker.segments();
        shrinker.entries();
        shrinker.setup();
        shrinker.fields();
        if shrinker.best == before || shrinker.is_late() {
            return shrinker.best;
        }
    }
}

struct Shrinker<'a> {
    best: Program,
    differs: &'a mut dyn FnMut(&Program) -> bool,
    deadline: Instant,
}

impl Shrinker<'_> {
    fn is_late(&self) -> bool {
        Instant::now() > self.deadline
    }

    /// Takes a change if the runs still differ.
    fn attempt(&mut self, change: impl FnOnce(&mut Program)) -> bool {
        let mut program = self.best.clone();
        change(&mut program);
        let better = program != self.best && !self.is_late() && (self.differs)(&program);
        if better {
            self.best = program;
        }
        better
    }

    fn rounds(&mut self) {
        for at in (0..self.best.rounds.len()).rev() {
            self.attempt(|program| {
                program.rounds.remove(at);
            });
        }
        self.attempt(|program| program.disputed.clear());
    }

    fn segments(&mut self) {
        for round in 0..self.best.rounds.len() {
            for at in (0..self.best.rounds[round].segments.len()).rev() {
                self.attempt(|program| {
                    program.rounds[round].segments.remove(at);
                });
            }
            // Two as one.
            for at in (1..self.best.rounds[round].segments.len()).rev() {
                self.attempt(|program| {
                    let second = program.rounds[round].segments.remove(at);
                    let first = &mut program.rounds[round].segments[at - 1];
                    first.entries.extend(second.entries);
                    first.supplies.extend(second.supplies);
                });
            }
        }
    }

    /// Takes entries away, many at a time at first.
    fn entries(&mut self) {
        for (round, segment) in self.places() {
            let mut size = self.best.rounds[round].segments[segment].entries.len().div_ceil(2);
            while size > 0 {
                let mut end = self.best.rounds[round].segments[segment].entries.len();
                while end > 0 {
                    let start = end.saturating_sub(size);
                    self.attempt(|program| {
                        program.rounds[round].segments[segment].entries.drain(start..end);
                    });
                    end = start;
                }
                size /= 2;
            }
            for at in (0..self.best.rounds[round].segments[segment].supplies.len()).rev() {
                self.attempt(|program| {
                    program.rounds[round].segments[segment].supplies.remove(at);
                });
            }
        }
    }

    fn places(&self) -> Vec<(usize, usize)> {
        let rounds = self.best.rounds.iter().enumerate();
        rounds.flat_map(|(round, r)| (0..r.segments.len()).map(move |segment| (round, segment))).collect()
    }

    fn setup(&mut self) {
        self.attempt(|program| program.setup.flags = 0);
        self.attempt(|program| program.setup.window = 64 << 10);
        self.attempt(|program| program.setup.cq_entries = 128);
        self.attempt(|program| program.setup.sq_entries = 32);
        self.attempt(|program| program.setup.files = vec![Fd::Device]);
        self.attempt(|program| program.setup.buffers.clear());
        for at in (0..self.best.setup.groups.len()).rev() {
            self.attempt(|program| {
                program.setup.groups.remove(at);
            });
        }
    }

    fn fields(&mut self) {
        for (round, segment) in self.places() {
            self.enter(|program| &mut program.rounds[round].segments[segment].enter);
            for at in 0..self.best.rounds[round].segments[segment].entries.len() {
                self.entry(|program| &mut program.rounds[round].segments[segment].entries[at]);
            }
        }
    }

    fn enter(&mut self, of: impl Fn(&mut Program) -> &mut Enter) {
        let keep = Enter { look: of(&mut self.best).look, ..Enter::default() };
        if !self.attempt(|program| *of(program) = keep) {
            self.attempt(|program| of(program).leave = false);
            self.attempt(|program| of(program).min_complete = 0);
        }
    }

    fn entry(&mut self, of: impl Fn(&mut Program) -> &mut Entry) {
        let user_data = of(&mut self.best).user_data;
        self.attempt(|program| *of(program) = Entry { opcode: names::NOP, user_data, ..Entry::default() });
        // Without FIXED_FILE the index would be a descriptor of ours.
        for bit in (1..8).rev().map(|bit| 1 << bit) {
            self.attempt(|program| of(program).flags &= !bit);
        }
        for bit in (0..32).map(|bit| 1 << bit) {
            if of(&mut self.best).op_flags & bit != 0 {
                self.attempt(|program| of(program).op_flags &= !bit);
            }
        }
        let is_transfer = names::is_transfer(of(&mut self.best).opcode);
        self.attempt(|program| of(program).ioprio = 0);
        self.attempt(|program| of(program).personality = 0);
        self.attempt(|program| of(program).file_index = 0);
        self.attempt(|program| of(program).attr_type_mask = 0);
        self.attempt(|program| of(program).allowed.clear());
        if of(&mut self.best).fd != Fd::Number(0) {
            self.attempt(|program| {
                let entry = of(program);
                (entry.flags, entry.fd) = (entry.flags | names::FIXED_FILE, Fd::Number(0));
            });
        }
        if is_transfer {
            self.attempt(|program| plain(of(program)));
            self.attempt(|program| of(program).off = Word::Number(0));
            self.attempt(|program| of(program).len = of(program).len.min(512));
            self.attempt(|program| {
                if let Word::Iovecs(iovecs) = &mut of(program).addr {
                    iovecs.truncate(1);
                    of(program).len = 1;
                }
            });
            self.attempt(|program| {
                if let Word::Memory(_, at) = &mut of(program).addr {
                    *at = 0;
                }
            });
        }
    }
}

/// READ or WRITE instead of another transfer.
fn plain(entry: &mut Entry) {
    entry.opcode = if names::is_write(entry.opcode) { names::WRITE } else { names::READ };
    if let Word::Iovecs(iovecs) = &entry.addr
        && let Some((address, len)) = iovecs.first().cloned()
    {
        (entry.addr, entry.len) = (address, len as u32);
    }
    if entry.flags & names::BUFFER_SELECT == 0 {
        entry.buf_index = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::feature::Features;
    use crate::differential::generate::{Limits, generate};

    #[test]
    fn a_program_shrinks_to_what_matters() {
        let limits = Limits { features: Features::ALL, memory_alignment: 512, nvme: true };
        let culprit = |entry: &Entry| names::is_write(entry.opcode) && entry.flags & names::LINK != 0;
        let guilty = |program: &Program| program.entries().any(culprit);
        let mut seen = 0;
        for program in (0..100).map(|seed| generate(seed, limits)).filter(|program| guilty(program)) {
            let small = shrink(program, guilty);
            seen += 1;
            assert_eq!((small.rounds.len(), small.rounds[0].segments.len(), small.entries().count()), (1, 1, 1));
            let entry = small.entries().next().unwrap();
            assert_eq!((entry.opcode, entry.flags), (names::WRITE, names::LINK | names::FIXED_FILE), "{small}");
            assert_eq!((entry.len, &entry.off), (512.min(entry.len), &Word::Number(0)), "{small}");
        }
        assert!(seen > 10);
    }
}
