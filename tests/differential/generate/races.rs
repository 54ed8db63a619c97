//! Programs whose outcome is a race in the kernel, with what it may be.

use super::timeouts::ZERO;
use super::uses::Resource;
use super::{ASYNC, Area, Entry, Fd, Feature, Generator, LINK, Unit, Word, names};

const GONE: [i32; 3] = [0, -libc::ENOENT, -libc::EALREADY];

impl Generator {
    pub(super) fn race(&mut self) -> Unit {
        let entries = match self.dice.below(4) {
            0 if self.has(Feature::Timeouts) && !self.counting => self.removal_of_what_fires(),
            1 if self.has(Feature::LinkTimeouts) && self.has(Feature::Links) => self.limit_that_is_reached(),
            2 if self.has(Feature::Cancels) => self.cancellation_of_what_runs(),
            _ => self.competing_writes(),
        };
        Unit { entries }
    }

    /// A timeout that fires while it is removed.
    fn removal_of_what_fires(&mut self) -> Vec<Entry> {
        self.uses.note(Resource::Workers, false);
        let mut timeout = self.timeout(ZERO);
        timeout.allowed = vec![-libc::ETIME, -libc::ECANCELED];
        let (addr, user_data) = (Word::Number(timeout.user_data), self.name());
        let opcode = names::TIMEOUT_REMOVE;
        let removal = Entry { opcode, addr, user_data, allowed: GONE.to_vec(), ..Entry::default() };
        vec![timeout, removal]
    }

    /// An operation that is not carried out at once.
    fn slow(&mut self) -> Entry {
        self.uses.note(Resource::Workers, false);
        match self.dice.below(3) {
            0 => self.transfer(),
            1 if self.has(Feature::Async) => Entry { flags: ASYNC, ..self.plain_nop() },
            _ => Entry { flags: names::FIXED_FILE, fd: Fd::Number(0), ..self.fsync() },
        }
    }

    /// An operation that completes while its limit is reached.
    fn limit_that_is_reached(&mut self) -> Vec<Entry> {
        let mut head = self.slow();
        if !names::is_transfer(head.opcode) {
            head.allowed = vec![0, -libc::ECANCELED];
        }
        head.flags |= LINK;
        let allowed = vec![-libc::ETIME, -libc::ECANCELED, -libc::ENOENT, -libc::EALREADY];
        let (opcode, user_data) = (names::LINK_TIMEOUT, self.name());
        vec![head, Entry { opcode, addr: ZERO, len: 1, user_data, allowed, ..Entry::default() }]
    }

    /// A block device's transfers cannot be cancelled once they are in flight; what is on a worker may be.
    fn cancellation_of_what_runs(&mut self) -> Vec<Entry> {
        let mut target = self.slow();
        if !names::is_transfer(target.opcode) {
            target.allowed = vec![0, -libc::ECANCELED];
        }
        let (addr, user_data) = (Word::Number(target.user_data), self.name());
        let opcode = names::ASYNC_CANCEL;
        vec![target, Entry { opcode, addr, user_data, allowed: GONE.to_vec(), ..Entry::default() }]
    }

    /// Writes of the same blocks, in flight at the same time.
    fn competing_writes(&mut self) -> Vec<Entry> {
        let len = 4096;
        let room = self.program.setup.half() / len;
        let at = len * self.dice.below(room);
        let range = at..at + len;
        if !self.uses.take(&[(Resource::Data(range.clone()), true)]) {
            return vec![self.plain_nop()];
        }
        self.uses.forbid(Resource::Data(range.clone()));
        self.program.disputed.push(range);
        let count = self.dice.within(2, 3);
        let write = |generator: &mut Self| Entry {
            opcode: names::WRITE,
            flags: names::FIXED_FILE,
            fd: Fd::Number(0),
            off: Word::Number(at),
            addr: Self::memory(Area::Source, len * generator.dice.below(room)),
            len: len as u32,
            user_data: generator.name(),
            ..Entry::default()
        };
        (0..count).map(|_| write(self)).collect()
    }
}
