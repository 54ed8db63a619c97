//! What entries touch, and which of them are in flight at the same time.
//!
//! Two entries are ordered when they are of one chain, when one is drained between them, or when a round ends
//! between them. Two that are not may both look at something, but when one changes it the outcome is a race.

use std::ops::Range;

use crate::differential::program::Area;

/// Something that entries share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// Bytes of the window: the half at the begin of the device, then the half at its end.
    Data(Range<u64>),
    Memory(Area, Range<u64>),
    /// A slot of the file table.
    File(u32),
    /// A group of provided buffers.
    Group(u16),
    /// What cancellations find if they are in time: what is on workers, and timeouts that fire.
    Workers,
}

impl Resource {
    fn meets(&self, other: &Self) -> bool {
        let overlap = |a: &Range<u64>, b: &Range<u64>| a.start < b.end && b.start < a.end;
        match (self, other) {
            (Self::Data(a), Self::Data(b)) => overlap(a, b),
            (Self::Memory(area, a), Self::Memory(other, b)) => area == other && overlap(a, b),
            _ => self == other,
        }
    }
}

#[derive(Clone, Debug)]
struct Use {
    resource: Resource,
    changes: bool,
    unit: usize,
    epoch: usize,
}

/// The uses of a round.
#[derive(Debug, Default)]
pub(super) struct Uses {
    list: Vec<Use>,
    unit: usize,
    /// What nothing may use any more.
    forbidden: Vec<Resource>,
    /// Something has been on a worker.
    worked: bool,
    /// Grows with each drained unit, before and after it.
    epoch: usize,
}

impl Uses {
    /// Everything has completed.
    pub(super) fn settle(&mut self) {
        self.list.clear();
    }

    pub(super) fn begin_unit(&mut self) {
        self.unit += 1;
    }

    /// The unit that has begun waits for all before it.
    pub(super) fn drain(&mut self) {
        self.epoch += 1;
    }

    /// All that follow wait for the unit.
    pub(super) fn drained(&mut self) {
        self.epoch += 1;
    }

    /// Whether the unit at hand may use these, each to look at or to change.
    pub(super) fn allows(&self, wanted: &[(Resource, bool)]) -> bool {
        if self.forbidden.iter().any(|forbidden| wanted.iter().any(|(resource, _)| forbidden.meets(resource))) {
            return false;
        }
        let in_flight = |used: &&Use| used.unit != self.unit && used.epoch == self.epoch;
        !self.list.iter().filter(in_flight).any(|used| {
            wanted.iter().any(|(resource, changes)| (*changes || used.changes) && used.resource.meets(resource))
        })
    }

    /// Whether something may be on a worker, or was: the kernel's cancellations find that for a while after it has
    /// completed (`cur_work` of `io_worker_handle_work`), and answer `EALREADY` or count it again and again.
    pub(super) fn worked(&self) -> bool {
        self.worked
    }

    pub(super) fn note(&mut self, resource: Resource, changes: bool) {
        self.worked |= resource == Resource::Workers && !changes;
        self.list.push(Use { resource, changes, unit: self.unit, epoch: self.epoch });
    }

    /// From now on.
    pub(super) fn forbid(&mut self, resource: Resource) {
        self.forbidden.push(resource);
    }

    /// Uses them if that is allowed.
    pub(super) fn take(&mut self, wanted: &[(Resource, bool)]) -> bool {
        let allowed = self.allows(wanted);
        if allowed {
            wanted.iter().for_each(|(resource, changes)| self.note(resource.clone(), *changes));
        }
        allowed
    }
}
