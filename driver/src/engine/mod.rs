//! What submission entries mean, and the state of one ring on devices.
//!
//! One pass down ([`Engine::submit`]): entries are decoded once and become commands; one doorbell a
//! batch. One pass up ([`Engine::progress`]): completions become CQEs. All work happens inside these
//! calls; between them only the device works.

pub(crate) mod broken;
pub(crate) mod buffers;
mod cancel;
mod chains;
mod command;
pub(crate) mod completions;
mod enter;
mod entry;
pub(crate) mod extent;
mod file_table;
pub(crate) mod files;
mod gate;
mod groups;
mod issue;
mod letters;
mod mailbox;
mod memory;
mod messages;
mod mode;
#[cfg(all(test, loom))]
mod models;
mod operations;
pub(crate) mod prepare;
mod query;
mod ranges;
mod region;
mod register;
mod resize;
mod restrictions;
mod ring_index;
mod sequencer;
mod signal;
mod submit;
mod task_work;
#[cfg(test)]
mod tests;
pub(crate) mod timeouts;
mod wait;

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use dmaring_dma::{DmaPool, fork};

#[cfg(feature = "broken")]
pub use self::broken::Broken;
#[cfg(not(feature = "broken"))]
use self::broken::Broken;
pub(crate) use self::broken::Fault;
use self::buffers::Buffers;
use self::chains::{Later, Order};
use self::completions::{Completions, Extra};
use self::files::{Files, Target};
use self::gate::Gate;
use self::groups::Groups;
use self::mailbox::Mailbox;
pub use self::mode::CompletionMode;
use self::operations::Operations;
use self::prepare::Rules;
use self::region::Region;
use self::restrictions::Restrictions;
use self::signal::Signal;
use self::timeouts::{Clock, Timers};
use crate::abi::flags::{
    IORING_SETUP_CQE_MIXED, IORING_SETUP_CQE32, IORING_SETUP_IOPOLL, IORING_SETUP_R_DISABLED, IORING_SETUP_SUBMIT_ALL,
};
use crate::abi::rings::RingView;
use crate::error::Error;
use crate::notify::{Notifier, Patience, Sleeper};
use crate::nvme::{IoQueue, LineTarget, Namespace, Owner, QueueOptions, Segment};
use crate::usermem::UserMemory;

/// State of a ring on devices.
#[derive(Debug)]
pub(crate) struct Engine {
    rings: RingView,
    /// First entry not yet consumed; published at the end of each `submit`.
    sq_head: u32,
    pub(crate) cq: Completions,
    queues: Vec<IoQueue>,
    /// The queue whose straight line is tried first.
    hot: usize,
    /// The file that the straight line of the hot queue serves.
    hot_file: u32,
    /// Entries may take the straight line: their place in the ring is plain, and nothing orders them.
    straight: bool,
    /// There is more to attend to than the completions of one queue.
    attentive: bool,
    gate: Gate,
    fault: Fault,
    setup_flags: u32,
    rules: Rules,
    /// A batch goes on after an entry that is refused.
    submits_all: bool,
    restrictions: Restrictions,
    files: Files,
    buffers: Buffers,
    groups: Groups,
    user: UserMemory,
    pool: DmaPool,
    /// Segments of the entry at hand.
    segments: Vec<Segment>,
    /// Bytes that the transfer at hand has to move.
    expected: u64,
    /// Flags of the completion of the entry at hand: the buffer that was picked for it.
    selected: u32,
    order: Order,
    operations: Operations,
    later: VecDeque<Later>,
    timers: Timers,
    /// Completions that were in the ring when the submission at hand began: the kernel posts those of its own
    /// at its end, so timeouts count from there.
    posted_before: Option<u32>,
    mailbox: Arc<Mailbox>,
    signal: Signal,
    region: Option<Region>,
    /// The clock of waits.
    clock: Clock,
    mode: CompletionMode,
    /// Waits poll, and there is nothing else to attend to.
    polls_only: bool,
    options: QueueOptions,
    notifier: Arc<Notifier>,
    sleeper: Sleeper,
    patience: Patience,
    /// An adaptive ring has taken the devices' interrupts away.
    quiet: bool,
    generation: u32,
    system_calls: u64,
    interrupts: u64,
    idle_polls: u64,
    /// The number of idle polls at which the clock is looked at.
    next_look: u64,
    /// When the devices were last looked after, on the clock of `coarse_now`.
    looked: Duration,
}

/// What became of an operation that was issued.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// It is finished, with this result.
    Done(i32),
    /// As `Done`, with what follows the result in a completion of 32 bytes.
    DoneBig(i32, [u64; 2]),
    /// It has failed, with this result and what follows it.
    Failed(i32, Extra),
    /// The file refuses it, with this errno: `blkdev_read_iter` or `blkdev_write_iter` does in the kernel.
    Refused(i32),
    /// It ends later: a device has it, or a timer.
    Issued,
}

impl Engine {
    pub(crate) fn new(
        rings: RingView,
        setup_flags: u32,
        options: QueueOptions,
        mode: CompletionMode,
        user: UserMemory,
        notifier: Arc<Notifier>,
    ) -> Result<Self, Error> {
        let has = |flags| setup_flags & flags != 0;
        let mailbox = Mailbox::new(has(IORING_SETUP_R_DISABLED))?;
        let sleeper = Sleeper::new()?;
        sleeper.watch(mailbox.bell())?;
        let gate = Gate::new(setup_flags);
        *mailbox::lock(&mailbox.issuer) = gate.issuer();
        Ok(Self {
            rings,
            sq_head: rings.sq_head(),
            cq: Completions::new(rings),
            queues: Vec::new(),
            hot: 0,
            hot_file: u32::MAX,
            straight: rings.is_plain(),
            attentive: false,
            gate,
            fault: Fault::default(),
            setup_flags,
            rules: Rules {
                iopoll: has(IORING_SETUP_IOPOLL),
                big_cqes: has(IORING_SETUP_CQE32 | IORING_SETUP_CQE_MIXED),
            },
            submits_all: has(IORING_SETUP_SUBMIT_ALL),
            restrictions: Restrictions::default(),
            files: Files::default(),
            buffers: Buffers::default(),
            groups: Groups::default(),
            user,
            pool: DmaPool::new(),
            segments: Vec::with_capacity(8),
            expected: 0,
            selected: 0,
            order: Order::default(),
            operations: Operations::default(),
            later: VecDeque::new(),
            timers: Timers::default(),
            posted_before: None,
            mailbox,
            signal: Signal::default(),
            region: None,
            clock: Clock::default(),
            mode,
            polls_only: !mode.sleeps(),
            options,
            notifier,
            sleeper,
            patience: Patience::new(),
            quiet: false,
            generation: fork::generation(),
            system_calls: 0,
            interrupts: 0,
            idle_polls: 0,
            next_look: 0,
            looked: Duration::ZERO,
        })
    }

    /// Makes the ring's queue pair on the controller of a target.
    pub(crate) fn make_queue(&mut self, target: usize) -> Result<usize, Error> {
        let owner = Arc::clone(&self.files.target(target).owner);
        let mut options = self.options;
        options.interrupts |= self.notifier.is_armed();
        let mut queue = IoQueue::new(Arc::clone(&owner), options)?;
        self.give_memory(&mut queue)?;
        self.watch(&queue)?;
        self.queues.push(queue);
        let index = self.queues.len() - 1;
        self.files.set_queue(&owner, index);
        Ok(index)
    }

    /// Adds a namespace as the next fixed file. Answers the file's index.
    pub(crate) fn add_target(&mut self, owner: Arc<Owner>, namespace: Namespace) -> u32 {
        let known = self.queues.iter().position(|q| Arc::ptr_eq(q.owner(), &owner));
        let index = self.files.add(Target { owner, namespace, queue: known });
        self.show_places();
        index
    }

    /// Lets the straight line serve fixed file `index` from the first entry on.
    pub(crate) fn warm(&mut self, index: u32) {
        if let Some(target) = self.files.fixed(index)
            && let Some(queue) = self.files.target(target).queue
        {
            self.hot = queue;
            self.hot_file = index;
            self.queues[queue].set_line(LineTarget::new(index, &self.files.target(target).namespace));
        }
    }

    /// An engine that is broken on purpose, or not.
    pub(crate) fn break_it(&mut self, fault: Fault) {
        self.fault = fault;
        self.choose_path();
    }

    /// Whether something is left that no device has.
    fn has_more(&self) -> bool {
        self.operations.len() != 0 || !self.later.is_empty() || self.cq.has_returned()
    }

    /// Chooses between the short ways and those that attend to everything. To be called when what there is to
    /// attend to changes.
    fn choose_path(&mut self) {
        let kept = self.has_more();
        self.attentive = kept || self.notifier.is_armed() || self.signal.is_registered();
        self.polls_only = !self.mode.sleeps() && !self.attentive;
        self.cq.loses_overflow(self.fault.is(Broken::Overflow));
        self.straight = self.rings.is_plain() && self.order.is_idle() && !self.restrictions.are_registered();
    }

    /// Whether this is the process that made the ring.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        self.generation == fork::current()
    }

    #[inline]
    pub(super) fn check_ours(&self) -> Result<(), Error> {
        if self.is_ours() { Ok(()) } else { Err(Error::Forked) }
    }

    pub(crate) fn queues(&self) -> &[IoQueue] {
        &self.queues
    }

    /// System calls, interrupts taken, and looks at the completion queue that found nothing.
    pub(crate) fn counters(&self) -> (u64, u64, u64) {
        (self.system_calls, self.interrupts, self.idle_polls)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let fd = self.notifier.as_fd().as_raw_fd();
        self.mailbox.withdraw(fd);
        ring_index::forget(fd);
    }
}
