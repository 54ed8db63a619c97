//! An I/O queue pair and everything that belongs to it.
//!
//! One thread at a time drives it. Teardown, in this order: delete the submission queue (the device
//! has answered or dropped everything then), delete the completion queue, and only after that unmap and
//! free (the fields, from `grant` on).

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dmaring_dma::{DmaRegion, Mapping, Transport};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::bounce::BouncePool;
use super::fixed::{FixedBuffer, FixedBuffers};
use super::ids::CommandIds;
use super::issue::Flight;
use super::line::{LineTarget, Links, PlainMemory};
use super::owner::{Owner, QueueGrant};
use super::passthrough::longest_transfer;
use super::prp::PrpLists;
use super::request::Requests;
use crate::error::Error;

/// The longest transfer of one command, whatever the controller allows: it bounds the lists. With a
/// first page that is begun in the middle it touches 1,024 pages, the most that implementations which
/// gather pages into an iovec can take (QEMU answers an internal error beyond IOV_MAX).
pub(super) const MOST_TRANSFER: u64 = (4 << 20) - super::prp::PAGE_BYTES;

/// How a queue pair is to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueOptions {
    /// Commands that should fit at once; cut to what the controller takes.
    pub(crate) depth: u32,
    /// Whether completions raise an event.
    pub(crate) interrupts: bool,
    /// Memory for data that the device cannot reach in place, in bytes.
    pub(crate) bounce_bytes: usize,
    /// Whether the program may send admin commands.
    pub(crate) admin_commands: bool,
    /// Whether memory that an entry names by address is looked at before each use, through the kernel.
    pub(crate) strict: bool,
}

/// Counters of a queue pair, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueStats {
    pub(crate) commands: u64,
    pub(crate) bounced_bytes: u64,
    pub(crate) sq_doorbells: u64,
    pub(crate) stale: u64,
    pub(crate) cq_doorbells: u64,
    pub(crate) saved_doorbells: u64,
}

/// Memory that the device reaches in place, for plain addresses.
#[derive(Clone, Copy, Debug)]
struct Reach {
    start: u64,
    end: u64,
    delta: u64,
}

impl Reach {
    fn of(mapping: &Mapping) -> Self {
        let start = mapping.address();
        Self { start, end: start + mapping.len() as u64, delta: mapping.delta() }
    }

    /// The last one that begins at `address` or before it, of those that do not overlap and are in order.
    fn before(reaches: &[Self], address: u64) -> Option<Self> {
        let before = reaches.partition_point(|r| r.start <= address);
        reaches.get(before.checked_sub(1)?).copied()
    }

    /// The one around `address`.
    fn around(reaches: &[Self], address: u64) -> Option<Self> {
        Self::before(reaches, address).filter(|reach| address < reach.end)
    }

    /// The delta of a range that lies inside one of `reaches`.
    fn find(reaches: &[Self], address: u64, len: u64) -> Option<u64> {
        let reach = Self::before(reaches, address)?;
        (address.checked_add(len)? <= reach.end).then_some(reach.delta)
    }
}

/// Where completions go.
pub(crate) use crate::engine::completions::{Caller, Completions as Sink};

/// A queue pair.
#[derive(Debug)]
pub(crate) struct IoQueue {
    pub(super) ids: CommandIds,
    pub(super) line: LineTarget,
    pub(super) fixed: FixedBuffers,
    pub(super) links: Links,
    /// Where the last entry without a registered buffer had its memory.
    plain: PlainMemory,
    /// The program may have unmapped memory that it has registered.
    strict: bool,
    pub(super) requests: Requests,
    /// Requests with commands still to issue, in order.
    pub(super) waiting: VecDeque<u32>,
    pub(super) flights: Vec<Flight>,
    /// Addresses of the pages of the command being made.
    pub(super) pages: Vec<u64>,
    pub(super) max_transfer: u64,
    /// How long the device may leave a command of the program's unanswered, at least.
    pub(super) timeout: Duration,
    /// The longest Write Zeroes, in bytes.
    pub(super) max_zeroes: u64,
    pub(super) stats: QueueStats,
    patience: u32,
    /// Commands ever, and those in flight, when the queue was last seen to move, and when that was.
    moved: (u64, u32, Instant),
    /// Registered memory may be the pool's as well, so each has its own list.
    pool_reach: Vec<Reach>,
    fixed_reach: Vec<Reach>,
    event: Option<EventFd>,
    /// The device's interrupts raise the event.
    connected: bool,
    // From here on in drop order, after `Drop::drop` has deleted both queues on the device.
    pub(super) grant: QueueGrant,
    pub(super) lists: PrpLists,
    pub(super) bounce: BouncePool,
    pool_mappings: Vec<Mapping>,
    fixed_mappings: Vec<Mapping>,
    pub(super) owner: Arc<Owner>,
    transport: Arc<dyn Transport>,
}

impl IoQueue {
    pub(crate) fn new(owner: Arc<Owner>, options: QueueOptions) -> Result<Self, Error> {
        let space = owner.space();
        // Memory first: once the controller knows the queue, nothing here can fail without undoing it.
        let max_transfer = longest_transfer(owner.info());
        let lists = PrpLists::new(space, max_transfer, options.depth)?;
        let bounce = BouncePool::new(space, options.bounce_bytes)?;
        let event = if options.interrupts { Some(event_fd()?) } else { None };
        let grant = owner.create_queue((options.depth + 1).next_power_of_two())?;
        let entries = grant.sq.entries();
        let mut queue = Self {
            ids: CommandIds::new(entries),
            line: LineTarget::NONE,
            fixed: FixedBuffers::new(Vec::new()),
            links: Links::new(entries),
            plain: PlainMemory::default(),
            strict: options.strict,
            requests: Requests::with_capacity(entries as usize),
            waiting: VecDeque::with_capacity(entries as usize),
            flights: vec![Flight::NONE; entries as usize],
            pages: Vec::with_capacity((max_transfer / super::prp::PAGE_BYTES) as usize + 2),
            max_transfer,
            timeout: Duration::ZERO,
            max_zeroes: owner.info().max_write_zeroes_bytes.unwrap_or(0),
            stats: QueueStats::default(),
            patience: if owner.space().transport().needs_relax() { 64 } else { 4096 },
            moved: (0, 0, Instant::now()),
            pool_reach: Vec::new(),
            fixed_reach: Vec::new(),
            event,
            connected: false,
            grant,
            lists,
            bounce,
            pool_mappings: Vec::new(),
            fixed_mappings: Vec::new(),
            transport: Arc::clone(owner.space().transport()),
            owner,
        };
        queue.connect()?;
        Ok(queue)
    }

    /// Connects the vector; on failure the queue is dropped, and so deleted.
    fn connect(&mut self) -> Result<(), Error> {
        let Some(event) = &self.event else { return Ok(()) };
        let vector = self.grant.vector.ok_or_else(|| self.owner.no_vector())?;
        self.owner.set_vector(vector, Some(event.as_fd()))?;
        self.connected = true;
        Ok(())
    }

    /// The event that interrupts raise.
    pub(crate) fn event(&self) -> Option<BorrowedFd<'_>> {
        self.event.as_ref().map(AsFd::as_fd)
    }

    /// Starts raising events, unless they are raised already.
    pub(crate) fn arm(&mut self) -> Result<(), Error> {
        if self.event.is_none() {
            self.event = Some(event_fd()?);
            self.connect().inspect_err(|_| self.event = None)?;
        } else if !self.connected {
            self.connect()?;
        }
        Ok(())
    }

    /// Raises no more events. The one there is stays, with those who watch it.
    pub(crate) fn disarm(&mut self) {
        if let (Some(vector), true) = (self.grant.vector, self.connected) {
            match self.owner.set_vector(vector, None) {
                Ok(()) => self.connected = false,
                // It goes on interrupting: needless, but nothing is wrong.
                Err(error) => tracing::warn!(%error, "silencing a vector"),
            }
        }
    }

    /// Forgets events raised so far; true when there were any.
    pub(crate) fn clear_event(&self) -> bool {
        self.event.as_ref().is_some_and(|event| event.read().is_ok())
    }

    pub(crate) fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }

    /// How often to look for a single completion before anything else is done: a transport that needs
    /// [`relax`](Self::relax) should not wait long for it.
    #[inline]
    pub(crate) fn patience(&self) -> u32 {
        self.patience
    }

    /// Nothing has come; lets the transport have the processor.
    #[inline]
    pub(crate) fn relax(&self) {
        self.transport.relax();
    }

    /// Commands in flight, and requests with more to come.
    #[inline]
    pub(crate) fn is_busy(&self) -> bool {
        self.ids.in_flight() != 0 || !self.waiting.is_empty()
    }

    /// Requests wait for room; what comes now goes behind them.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn set_line(&mut self, line: LineTarget) {
        self.line = line;
    }

    pub(crate) fn stats(&self) -> QueueStats {
        // Counted as batches; what the controller did not ask for was not rung.
        let (sq, cq) = (self.grant.sq.saved_doorbells(), self.grant.cq.saved_doorbells());
        QueueStats {
            sq_doorbells: self.stats.sq_doorbells - sq,
            cq_doorbells: self.stats.cq_doorbells - cq,
            saved_doorbells: sq + cq,
            ..self.stats
        }
    }

    /// Locked memory besides data and bounce buffers, in bytes.
    pub(crate) fn locked_bytes(&self) -> usize {
        let rings = self.grant.sq.entries() as usize * 64 + self.grant.cq.entries() as usize * 16;
        rings + self.lists.len_bytes()
    }

    /// Makes a region of the ring's pool reachable.
    pub(crate) fn add_pool_region(&mut self, region: Arc<DmaRegion>) -> Result<(), Error> {
        let mapping = self.owner.space().map(region, dmaring_dma::Direction::Both)?;
        let at = self.pool_reach.partition_point(|r| r.start < mapping.address());
        self.pool_reach.insert(at, Reach::of(&mapping));
        self.pool_mappings.push(mapping);
        Ok(())
    }

    /// Replaces the registered buffers. `mappings` keep them mapped.
    ///
    /// Nothing may be in flight: a command could still move data of a buffer that goes.
    pub(crate) fn set_fixed(&mut self, buffers: Vec<FixedBuffer>, mappings: Vec<Mapping>) {
        debug_assert!(!self.is_busy(), "buffers change only when nothing is in flight");
        self.fixed = FixedBuffers::new(buffers);
        // They are in order, and neighbours share one (`Buffers::map`).
        self.fixed_reach = mappings.iter().map(Reach::of).collect();
        self.fixed_mappings = mappings;
        self.plain = PlainMemory::default();
    }

    /// The memory that entries without registered buffers have, around `address` if that is reached in place and
    /// need not be looked at.
    #[inline]
    pub(super) fn reached(&mut self, address: u64) -> PlainMemory {
        if !self.plain.has(address) {
            let find = |reaches: &[Reach]| Reach::around(reaches, address);
            let fixed: &[Reach] = if self.strict { &[] } else { &self.fixed_reach };
            let reach = find(&self.pool_reach).or_else(|| find(fixed));
            self.plain = reach.map(|r| PlainMemory::new(r.start, r.end - r.start, r.delta)).unwrap_or_default();
        }
        self.plain
    }

    /// What to add to the addresses of a range that the device reaches in place.
    pub(super) fn delta(&self, address: u64, len: u64) -> Option<u64> {
        let find = |reaches| Reach::find(reaches, address, len);
        find(&self.pool_reach).or_else(|| find(&self.fixed_reach))
    }

    /// How long it may take over what is in flight, at least.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How long the device has left commands in flight without answering any; stale completions are no
    /// answers. Asked now and then, not per command.
    pub(crate) fn stalled_for(&mut self) -> Duration {
        let (commands, in_flight, since) = self.moved;
        if !self.is_busy() {
            self.timeout = Duration::ZERO;
        }
        if !self.is_busy() || (commands, in_flight) != (self.stats.commands, self.ids.in_flight()) {
            self.moved = (self.stats.commands, self.ids.in_flight(), Instant::now());
            return Duration::ZERO;
        }
        since.elapsed()
    }

    /// From now on it is as if the device had been silent for a minute.
    #[cfg(test)]
    pub(crate) fn expect_silence(&mut self) {
        let since = Instant::now().checked_sub(Duration::from_secs(60)).expect("time before this test");
        self.moved = (self.stats.commands, self.ids.in_flight(), since);
    }

    /// Rings the submission doorbell for everything written since the last time.
    pub(crate) fn publish(&mut self) {
        let new = self.grant.sq.unpublished();
        if new != 0 {
            self.publish_batch(new);
        }
    }

    /// As [`publish`](Self::publish), for what is known to be `commands`, and some.
    #[inline(always)] // as `submit_one`
    pub(crate) fn publish_batch(&mut self, commands: u32) {
        debug_assert_eq!(commands, self.grant.sq.unpublished(), "everything written is rung for");
        self.grant.sq.publish();
        self.stats.commands += u64::from(commands);
        self.stats.sq_doorbells += 1;
    }
}

fn event_fd() -> Result<EventFd, Error> {
    EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
        .map_err(|e| Error::Os { call: "eventfd", reason: e.into() })
}

impl Drop for IoQueue {
    fn drop(&mut self) {
        if !self.owner.is_ours() {
            return;
        }
        self.disarm();
        self.owner.delete_sq(self.grant.qid);
        self.owner.delete_cq(self.grant.qid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_reached_inside_one_stretch_only() {
        let reach = |start, end, delta| Reach { start, end, delta };
        let reaches = [reach(0x1000, 0x3000, 7), reach(0x3000, 0x4000, 9)];
        let find = |address, len| Reach::find(&reaches, address, len);
        assert_eq!(find(0x1000, 0x2000), Some(7));
        assert_eq!(find(0x3000, 0x1000), Some(9));
        assert_eq!(find(0x2000, 0x1001), None, "across two stretches");
        assert_eq!(find(0xfff, 1), None);
        assert_eq!(find(0x3fff, u64::MAX), None);
        assert_eq!(Reach::find(&[], 0x1000, 1), None);
    }
}
