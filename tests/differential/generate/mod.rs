//! Drawing programs.
//!
//! A program is made of rounds, a round of units (an entry, or a chain), and units are drawn so that what comes
//! of them does not depend on which of them is faster: what one changes, no other in flight at the same time
//! touches ([`uses`]). Where something that races is wanted, the entries say what else is allowed.

mod buffers;
mod chains;
mod controls;
mod files;
mod malformed;
mod races;
mod rounds;
mod timeouts;
mod transfers;
mod uses;

use self::uses::{Resource, Uses};
use super::feature::{Feature, Features};
use super::names::{self, ASYNC, ASYNC_CANCEL, DRAIN, ENTER_GETEVENTS, HARDLINK, LINK, NOP, SKIP, TIMEOUT};
use super::program::{Area, Enter, Entry, Fd, Program, Round, Segment, Setup, Word};
use super::random::Dice;

/// What a program may be, by what it is to run on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) features: Features,
    /// Alignment of memory that both sides take, in bytes.
    pub(super) memory_alignment: u32,
    /// The kernel's side is an NVMe device, which asks for memory aligned to dwords (a loop device asks for what
    /// its file asks for), and takes atomic writes.
    pub(super) nvme: bool,
}

/// Completion entries that a program cannot fill.
pub(super) const ROOMY: u32 = 128;

/// Draws the program of a seed.
pub(super) fn generate(seed: u64, limits: Limits) -> Program {
    let mut dice = Dice::new(seed);
    let setup = setup(&mut dice, limits);
    let drains = limits.features.has(Feature::Drains) && (!limits.features.has(Feature::Skips) || dice.percent(60));
    let cached = limits.features.has(Feature::Advice) && dice.percent(20);
    let program = Program { seed, setup, ..Program::default() };
    let mut generator = Generator { dice, limits, drains, cached, program, ..Generator::new() };
    generator.rounds();
    generator.program
}

fn setup(dice: &mut Dice, limits: Limits) -> Setup {
    let has = |feature| limits.features.has(feature);
    let sq_entries = dice.pick(&[4, 8, 16, 32]);
    let cq_entries = if has(Feature::Overflow) && dice.percent(30) { sq_entries } else { ROOMY };
    let mut flags = 0;
    if has(Feature::SubmitAll) && dice.percent(30) {
        flags |= names::SETUP_SUBMIT_ALL;
    }
    if has(Feature::TaskRun) {
        flags |= dice.pick(&[
            0,
            0,
            names::SETUP_COOP_TASKRUN,
            names::SETUP_COOP_TASKRUN | names::SETUP_TASKRUN_FLAG,
            names::SETUP_SINGLE_ISSUER,
            names::SETUP_SINGLE_ISSUER | names::SETUP_DEFER_TASKRUN,
            names::SETUP_SINGLE_ISSUER | names::SETUP_DEFER_TASKRUN | names::SETUP_TASKRUN_FLAG,
        ]);
    }
    let window = dice.weighted(&[(6, 64 << 10), (3, 256 << 10), (1, 1 << 20)]);
    let mut files = vec![Fd::Device];
    if has(Feature::Files) {
        files.extend((0..3).map(|_| if dice.percent(40) { Fd::Number(-1) } else { Fd::Device }));
    }
    let buffers = vec![64 << 10, dice.pick(&[4096, 16384]), 0, 8192];
    Setup { sq_entries, cq_entries, flags, window, files, buffers, groups: Vec::new() }
}

/// Draws one program.
struct Generator {
    dice: Dice,
    limits: Limits,
    /// The program has drained entries, and so none that skip their completion: the kernel refuses one with
    /// the other.
    drains: bool,
    /// What the program reads may be in the kernel's page cache: what meets it there goes to a worker.
    cached: bool,
    /// What is refused while it is prepared is not drained, nor drains.
    well_formed: bool,
    program: Program,
    uses: Uses,
    next_name: u64,
    /// Long timeouts that wait, by name.
    parked: Vec<u64>,
    /// Names that keep their times: of several, which one is set anew is not known.
    lasting: Vec<u64>,
    /// Limits of such, by name.
    limits_that_wait: Vec<u64>,
    /// One of them counts completions.
    counting: bool,
    /// Names of those that do.
    counts: Vec<u64>,
    /// Nothing is in flight: what has been counted is certain.
    at_rest: bool,
    groups: buffers::Groups,
    round: Round,
}

/// Entries that run one after the other.
#[derive(Debug, Default)]
struct Unit {
    entries: Vec<Entry>,
}

impl Generator {
    fn new() -> Self {
        Self {
            dice: Dice::new(0),
            limits: Limits { features: Features::NONE, memory_alignment: 512, nvme: false },
            drains: false,
            cached: false,
            well_formed: false,
            program: Program::default(),
            uses: Uses::default(),
            next_name: 1,
            parked: Vec::new(),
            lasting: Vec::new(),
            limits_that_wait: Vec::new(),
            counting: false,
            counts: Vec::new(),
            at_rest: true,
            groups: buffers::Groups::default(),
            round: Round::default(),
        }
    }

    fn has(&self, feature: Feature) -> bool {
        let may = !self.well_formed || !matches!(feature, Feature::Malformed);
        may && self.limits.features.has(feature)
    }

    /// Whether entries that head their chain are issued while they are submitted. What comes after a drained one
    /// goes to a worker, where cancellations find it.
    fn issues_in_order(&self) -> bool {
        !self.drains && !self.cached
    }

    /// User data of the next entry.
    fn name(&mut self) -> u64 {
        self.next_name += 1;
        self.next_name - 1
    }

    /// A unit of at most `room` entries; `first` when nothing of the round comes before it.
    fn unit(&mut self, room: usize, first: bool) -> Unit {
        self.uses.begin_unit();
        self.at_rest = first;
        let has = |feature, weight| if self.has(feature) { weight } else { 0 };
        let several = |weight| if room >= 2 { weight } else { 0 };
        let drawn = self.dice.weighted(&[
            (50, Kind::Operation),
            (several(has(Feature::Links, 18)), Kind::Chain),
            // More where there is something to find, and when what they find is certain.
            (has(Feature::Timeouts, if self.parked.is_empty() { 10 } else { 20 }), Kind::Timeout),
            (has(Feature::Cancels, if first { 16 } else { 6 }), Kind::Cancel),
            (has(Feature::Groups, 6), Kind::Group),
            (has(Feature::BufferRings, 6), Kind::Ring),
            (has(Feature::Files, 3), Kind::Files),
            (if room >= 3 && !self.drains { has(Feature::Races, 3) } else { 0 }, Kind::Race),
        ]);
        let drain = self.drains && self.parked.is_empty() && !matches!(drawn, Kind::Timeout) && self.dice.percent(8);
        if drain {
            self.uses.drain();
        }
        self.well_formed = drain;
        let mut unit = match drawn {
            Kind::Operation => self.single(),
            Kind::Chain => self.chain(room),
            Kind::Timeout => self.timeout_unit(room, first),
            Kind::Cancel => self.cancel_unit(),
            Kind::Group => self.group_unit(room),
            Kind::Ring => self.ring_unit(room),
            Kind::Files => self.files_unit(),
            Kind::Race => self.race(),
        };
        self.well_formed = false;
        if drain {
            let at = self.dice.below(unit.entries.len() as u64) as usize;
            unit.entries[at].flags |= DRAIN;
            self.uses.drained();
        }
        unit
    }

    fn single(&mut self) -> Unit {
        let mut entry = self.operation();
        // Nothing says when a transfer is done that skips its completion.
        let quiet = !names::is_transfer(entry.opcode) && entry.opcode != names::FALLOCATE;
        if self.has(Feature::Skips) && !self.drains && quiet && self.dice.percent(15) {
            entry.flags |= SKIP;
            if self.has(Feature::Drains) && self.has(Feature::Malformed) && self.dice.percent(20) {
                // A ring that has seen one that skips refuses those that are drained.
                entry.flags |= DRAIN;
            }
        }
        Unit { entries: vec![entry] }
    }

    /// One operation that needs no other.
    fn operation(&mut self) -> Entry {
        let has = |feature, weight| if self.has(feature) { weight } else { 0 };
        let drawn = self.dice.weighted(&[
            (45, 0),
            (20, 1),
            (8, 2),
            (has(Feature::Advice, 4), 3),
            (has(Feature::Fallocate, 5), 4),
            (has(Feature::Malformed, 8), 5),
        ]);
        let mut entry = match drawn {
            0 => self.transfer(),
            1 if self.has(Feature::NopFlags) && self.dice.percent(8) => {
                // By way of task work.
                Entry { op_flags: names::NOP_TW, ..self.plain_nop() }
            }
            1 => self.nop(),
            2 => self.fsync(),
            3 => self.advice(),
            4 => self.fallocate(),
            _ => self.malformed(),
        };
        if self.has(Feature::Async) && self.dice.percent(10) && self.uses.allows(&[(Resource::Workers, false)]) {
            self.uses.note(Resource::Workers, false);
            entry.flags |= ASYNC;
        }
        entry
    }

    fn plain_nop(&mut self) -> Entry {
        Entry { opcode: NOP, user_data: self.name(), ..Entry::default() }
    }

    /// Memory of an area, for the use of one entry.
    fn memory(area: Area, at: u64) -> Word {
        Word::Memory(area, at as u32)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Operation,
    Chain,
    Timeout,
    Cancel,
    Group,
    Ring,
    Files,
    Race,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Limits = Limits { features: Features::ALL, memory_alignment: 512, nvme: true };

    #[test]
    fn a_seed_is_one_program() {
        assert!((0..200).all(|seed| generate(seed, ALL) == generate(seed, ALL)));
        assert_ne!(generate(1, ALL).rounds, generate(2, ALL).rounds);
    }

    #[test]
    fn what_is_left_out_is_not_in_any() {
        let without = |feature| Limits { features: Features::ALL.without(Features::of(&[feature])), ..ALL };
        let none =
            |limits: Limits, has: fn(&Entry) -> bool| (0..300).all(|seed| !generate(seed, limits).entries().any(has));
        assert!(none(without(Feature::Drains), |entry| entry.flags & DRAIN != 0));
        assert!(none(without(Feature::Async), |entry| entry.flags & ASYNC != 0));
        assert!(none(without(Feature::Skips), |entry| entry.flags & SKIP != 0));
        assert!(none(without(Feature::Timeouts), |entry| entry.opcode == TIMEOUT));
        assert!(none(without(Feature::Cancels), |entry| entry.opcode == ASYNC_CANCEL));
        let plain = Limits { features: Features::NONE, ..ALL };
        assert!(none(plain, |entry| entry.flags & !names::FIXED_FILE != 0 || entry.opcode == names::FALLOCATE));
    }
}
