//! Rounds: units, cut into segments, and rounds of other kinds.

use super::timeouts::LONG;
use super::uses::Resource;
use super::{
    ASYNC_CANCEL, DRAIN, ENTER_GETEVENTS, Enter, Entry, Feature, Generator, HARDLINK, LINK, NOP, Round, SKIP, Segment,
    TIMEOUT, Word, names,
};

impl Generator {
    pub(super) fn rounds(&mut self) {
        self.set_up_rings();
        let count = self.dice.within(1, 4);
        for _ in 0..count {
            self.uses.settle();
            self.round = Round::default();
            match self.dice.below(100) {
                0..15 if self.has(Feature::Overflow) => self.round_of_nops(),
                15..20 if self.has(Feature::Waits) => self.round_of_waits(),
                20..26 if self.has(Feature::Timeouts) && !self.drains && !self.counting => self.round_of_counts(),
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

    /// A timeout that counts, about as many completions, and its removal, which shows whether it has ended.
    fn round_of_counts(&mut self) {
        let most = u64::from(self.program.setup.sq_entries).min(7) - 1;
        let count = self.dice.within(1, most);
        let mut timeout = self.timeout(LONG);
        timeout.off = Word::Number(count);
        let opcode = names::TIMEOUT_REMOVE;
        let removal =
            Entry { opcode, addr: Word::Number(timeout.user_data), user_data: self.name(), ..Entry::default() };
        let nops = self.dice.pick(&[count - 1, count, count, count + 1]);
        let nops = (0..nops).map(|_| self.plain_nop()).collect();
        for entries in [vec![timeout], nops, vec![removal]] {
            self.round.segments.push(Segment { entries, ..Segment::default() });
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

    /// Long timeouts are taken back, which also shows which there are.
    fn farewell(&mut self) {
        let parked = std::mem::take(&mut self.parked);
        if parked.is_empty() {
            return;
        }
        let entries: Vec<Entry> = if self.has(Feature::Cancels) {
            let every = if self.uses.worked() { names::CANCEL_OP } else { names::CANCEL_ANY };
            let (op_flags, len) = (names::CANCEL_ALL | every, TIMEOUT.into());
            vec![Entry { opcode: ASYNC_CANCEL, op_flags, len, user_data: self.name(), ..Entry::default() }]
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
}
