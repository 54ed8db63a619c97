//! Provided buffers, in groups of the older kind and in rings.
//!
//! Which buffer a read gets depends on the order in which reads are issued: that of submission for entries that
//! head their chain and do not go to a worker. A place of the pool is handed out once as long as something may
//! be reading into it.

use super::transfers::Place;
use super::uses::Resource;
use super::{Area, Entry, Feature, Generator, LINK, Segment, Unit, Word, names};
use crate::differential::program::{BufferRing, POOL, Supply};

/// Bytes of a place of the pool.
const PLACE: u32 = 4096;
const PLACES: u32 = POOL / PLACE;
/// Groups of the older kind.
const CLASSIC: [u16; 2] = [1, 2];
/// The first group that is a ring.
const RINGS: u16 = 7;

/// What is known of groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Places of the pool that have been handed out.
    taken: u32,
    /// Buffer ids that have been handed out.
    ids: u16,
    /// Buffers that have been put into rings. None gets more than it has room for, whatever was consumed.
    supplied: [u16; 2],
}

impl Groups {
    fn place(&mut self) -> Option<u32> {
        (self.taken < PLACES).then(|| {
            self.taken += 1;
            (self.taken - 1) * PLACE
        })
    }
}

impl Generator {
    pub(super) fn set_up_rings(&mut self) {
        if !self.has(Feature::BufferRings) || self.dice.percent(50) {
            return;
        }
        for group in RINGS..RINGS + self.dice.within(1, 2) as u16 {
            let incremental = self.has(Feature::Incremental) && self.dice.percent(50);
            let flags = if incremental { names::RING_INC } else { 0 };
            let entries = self.dice.pick(&[4, 8, 16]);
            self.program.setup.groups.push(BufferRing { group, entries, flags });
        }
    }

    /// Buffers for the rings, before the segment is submitted.
    pub(super) fn draw_supplies(&mut self, segment: &mut Segment) {
        for ring in self.program.setup.groups.clone() {
            let count = self.dice.weighted(&[(5, 0), (3, 1), (3, 3)]);
            for _ in 0..count {
                let supplied = &mut self.groups.supplied[usize::from(ring.group - RINGS)];
                if *supplied == ring.entries {
                    break;
                }
                *supplied += 1;
                let Some(at) = self.groups.place() else { return };
                let len = self.dice.pick(&[PLACE, PLACE, PLACE / 2, 512]);
                self.groups.ids += 1;
                segment.supplies.push(Supply { group: ring.group, id: self.groups.ids, at, len });
            }
        }
    }

    pub(super) fn group_unit(&mut self, room: usize) -> Unit {
        let group = self.dice.pick(&CLASSIC);
        let entry = match self.dice.below(100) {
            0..35 => self.provide(group),
            35..50 => self.remove(group),
            _ => return self.selecting(group, room),
        };
        if !self.uses.take(&[(Resource::Group(group), !self.issues_in_order())]) {
            return self.single();
        }
        Unit { entries: vec![entry] }
    }

    fn provide(&mut self, group: u16) -> Entry {
        let count = self.dice.within(1, 3);
        let places: Vec<u32> = (0..count).map_while(|_| self.groups.place()).collect();
        let user_data = self.name();
        let Some(first) = places.first() else {
            return Entry { opcode: names::NOP, user_data, ..Entry::default() };
        };
        let id = self.groups.ids + 1;
        self.groups.ids += places.len() as u16;
        let mut entry = Entry {
            opcode: names::PROVIDE_BUFFERS,
            fd: super::Fd::Number(places.len() as i32),
            off: Word::Number(id.into()),
            addr: Word::Memory(Area::Pool, *first),
            len: PLACE,
            buf_index: group,
            user_data,
            ..Entry::default()
        };
        if self.has(Feature::Malformed) && self.dice.percent(8) {
            match self.dice.below(4) {
                0 => entry.fd = super::Fd::Number(self.dice.pick(&[0, -1, 70000])),
                1 => entry.len = 0,
                2 => entry.off = Word::Number(1 << 16),
                _ => entry.op_flags = 1,
            }
        }
        entry
    }

    fn remove(&mut self, group: u16) -> Entry {
        let count = self.dice.pick(&[1, 2, 100, 65535]);
        let user_data = self.name();
        let entry = Entry { opcode: names::REMOVE_BUFFERS, buf_index: group, user_data, ..Entry::default() };
        let fd = if self.has(Feature::Malformed) && self.dice.percent(8) { 0 } else { count };
        Entry { fd: super::Fd::Number(fd), ..entry }
    }

    pub(super) fn ring_unit(&mut self, room: usize) -> Unit {
        let rings: Vec<u16> = self.program.setup.groups.iter().map(|ring| ring.group).collect();
        if rings.is_empty() {
            self.single()
        } else {
            {
                let group = self.dice.pick(&rings);
                self.selecting(group, room)
            }
        }
    }

    /// A read that selects a buffer.
    fn selecting(&mut self, group: u16, room: usize) -> Unit {
        let mut place = self.place(8192);
        let most = place.range.start..place.range.start + u64::from(PLACE);
        if self.dice.percent(10) && most.end <= self.program.setup.half() {
            // As much as the buffer holds.
            place = Place { len: 0, range: most, ..place };
        }
        let mut wanted =
            vec![(Resource::Data(place.range.clone()), false), (Resource::Group(group), !self.issues_in_order())];
        let (flags, fd) = self.draw_file(&mut wanted);
        if !self.uses.take(&wanted) {
            return self.single();
        }
        let mut entry = Entry {
            opcode: names::READ,
            flags: flags | names::BUFFER_SELECT,
            fd,
            off: place.off,
            len: place.len as u32,
            buf_index: group,
            user_data: self.name(),
            ..Entry::default()
        };
        if self.dice.percent(15) {
            entry.opcode = names::READV;
            entry.addr = Word::Iovecs(vec![(Word::Number(0), entry.len.into())]);
            entry.len = if self.has(Feature::Malformed) && self.dice.percent(10) { 2 } else { 1 };
        }
        let mut entries = vec![entry];
        if room >= 2 && self.has(Feature::Links) && self.dice.percent(20) {
            entries[0].flags |= LINK;
            entries.push(self.plain_nop());
        }
        Unit { entries }
    }
}
