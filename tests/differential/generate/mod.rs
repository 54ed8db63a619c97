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
    /// Limits of such, by name.
    limits_that_wait: Vec<u64>,
    /// One of them counts completions.
    counting: bool,
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
            limits_that_wait: Vec::new(),
            counting: false,
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

    fn rounds(&mut self) {
        self.set_up_rings();
        let count = self.dice.within(1, 4);
        for _ in 0..count {
            self.uses.settle();
            self.round = Round::default();
            match self.dice.below(100) {
                0..15 if self.has(Feature::Overflow) => self.round_of_nops(),
                15..20 if self.has(Feature::Waits) => self.round_of_waits(),
                _ => self.round_of_units(),
            }
            let round = std::mem::take(&mut self.round);
            self.program.rounds.push(round);
        }
        self.uses.settle();
        self.farewell();
    }

    /// Entries that are all carried out while they are submitted, so that the ring can be looked at.
    fn round_of_nops(&mut self) {
        let segments = self.dice.within(1, 3);
        for _ in 0..segments {
            let most = u64::from(self.program.setup.sq_entries).min(12);
            let count = self.dice.within(1, most);
            let entries = (0..count).map(|_| self.nop()).collect();
            let leave = self.dice.percent(60);
            // After a drained entry the next one goes by way of task work (`io_drain_req`), and so does a timeout that
            // has counted enough.
            let look = !self.drains && !self.counting;
            let enter = Enter { look, leave, ..Enter::default() };
            self.round.segments.push(Segment { entries, enter, ..Segment::default() });
        }
    }

    /// Calls that submit nothing and wait for nothing that comes.
    fn round_of_waits(&mut self) {
        let timeout_us = Some(self.dice.pick(&[0, 1, 1000]));
        let min_complete = self.dice.pick(&[0, 1, 2, 1000]);
        let enter = Enter { min_complete, flags: ENTER_GETEVENTS, timeout_us, ..Enter::default() };
        if self.has(Feature::Malformed) && self.dice.percent(20) {
            let flags = self.dice.pick(&[1 << 20, 1 << 31, 1 << 20 | ENTER_GETEVENTS]);
            self.round.segments.push(Segment { enter: Enter { flags, ..Enter::default() }, ..Segment::default() });
        } else if self.dice.percent(50) {
            let beyond = self.dice.pick(&[0, 5]);
            self.round.segments.push(Segment { enter: Enter { beyond, ..enter }, ..Segment::default() });
        } else {
            self.round.segments.push(Segment { enter, ..Segment::default() });
            // With completions in the ring the same wait ends well. After a drained entry they may come later.
            let count = if self.drains { 0 } else { self.dice.within(1, 3) };
            let entries = (0..count).map(|_| self.plain_nop()).collect();
            let wait = Enter { min_complete: 100, ..enter };
            let submit = Enter { leave: true, ..Enter::default() };
            self.round.segments.push(Segment { entries, enter: submit, ..Segment::default() });
            self.round.segments.push(Segment { enter: wait, ..Segment::default() });
        }
    }

    fn round_of_units(&mut self) {
        let most = u64::from(self.program.setup.sq_entries).min(20);
        let count = self.dice.within(1, most) as usize;
        let cuts = if self.has(Feature::Partial) && self.dice.percent(30) { self.dice.within(1, 2) } else { 0 };
        let mut segments = vec![Segment::default(); 1 + cuts as usize];
        let per_segment = count.div_ceil(segments.len());
        for (at, segment) in segments.iter_mut().enumerate() {
            while segment.entries.len() < per_segment {
                let first = at == 0 && segment.entries.is_empty();
                let unit = self.unit(per_segment - segment.entries.len(), first);
                segment.entries.extend(unit.entries);
            }
            self.draw_enter(segment);
            // What is not issued at once may select later.
            if at == 0 || self.issues_in_order() {
                self.draw_supplies(segment);
            }
        }
        self.round.segments = segments;
    }

    fn draw_enter(&mut self, segment: &mut Segment) {
        let sure = |entry: &&Entry| {
            entry.flags & (SKIP | DRAIN | LINK | HARDLINK) == 0
                && entry.opcode != TIMEOUT
                && entry.opcode != ASYNC_CANCEL
        };
        let sure = segment.entries.iter().take_while(sure).count() as u64;
        if self.has(Feature::Waits) && self.dice.percent(30) && self.parked.is_empty() {
            let most = sure.min(self.program.setup.cq_entries.into());
            let min_complete = self.dice.below(most + 1) as u32;
            segment.enter = Enter { min_complete, flags: ENTER_GETEVENTS, ..Enter::default() };
        }
        segment.enter.leave = self.has(Feature::Overflow) && self.dice.percent(25);
        if self.has(Feature::Links) && self.dice.percent(8) {
            self.leave_open(segment);
        }
    }

    /// A chain ends with the call at the latest. The kernel gives one that is not closed to a worker
    /// (`io_submit_state_end`).
    fn leave_open(&mut self, segment: &mut Segment) {
        let Some((last, before)) = segment.entries.split_last_mut() else { return };
        let alone = before.last().is_none_or(|entry| entry.flags & (LINK | HARDLINK) == 0);
        let plain = last.opcode == NOP || names::is_transfer(last.opcode);
        let selects = last.flags & names::BUFFER_SELECT != 0;
        if alone && plain && !selects && self.uses.take(&[(Resource::Workers, false)]) {
            last.flags |= LINK;
        }
    }

    /// A unit of at most `room` entries; `first` when nothing of the round comes before it.
    fn unit(&mut self, room: usize, first: bool) -> Unit {
        self.uses.begin_unit();
        let has = |feature, weight| if self.has(feature) { weight } else { 0 };
        let several = |weight| if room >= 2 { weight } else { 0 };
        let drawn = self.dice.weighted(&[
            (50, Kind::Operation),
            (several(has(Feature::Links, 18)), Kind::Chain),
            (has(Feature::Timeouts, 10), Kind::Timeout),
            (has(Feature::Cancels, 6), Kind::Cancel),
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

    /// Long timeouts are taken back, which also shows which there are.
    fn farewell(&mut self) {
        let parked = std::mem::take(&mut self.parked);
        if parked.is_empty() {
            return;
        }
        let entries: Vec<Entry> = if self.has(Feature::Cancels) {
            let op_flags = names::CANCEL_ALL | names::CANCEL_ANY;
            vec![Entry { opcode: ASYNC_CANCEL, op_flags, user_data: self.name(), ..Entry::default() }]
        } else {
            let removal = |addr| Entry {
                opcode: names::TIMEOUT_REMOVE,
                addr: Word::Number(addr),
                user_data: self.name(),
                ..Entry::default()
            };
            parked.into_iter().map(removal).collect()
        };
        for entries in entries.chunks(self.program.setup.sq_entries as usize) {
            let segment = Segment { entries: entries.to_vec(), ..Segment::default() };
            self.program.rounds.push(Round { segments: vec![segment] });
        }
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
