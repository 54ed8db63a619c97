//! What a round runs on: a device of its own and a ring of one of the shapes that there are.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use dmaring::abi::flags::{IORING_SETUP_CQE_MIXED, IORING_SETUP_SUBMIT_ALL};
use dmaring::model::{Model, ModelConfig, ModelNamespace, Storage};
use dmaring::{CompletionMode, Device, Ring, RingBuilder};
use io_uring::opcode;
use io_uring::squeue::{Entry, Entry128, EntryMarker};

use super::program::{Bytes, FIXED_BUFFERS, Program};
use crate::support::calls::{self, EXT_ARG, GETEVENTS, fields, getevents};
use crate::support::mixed::F_32;
use crate::support::pattern::Random;
use crate::support::raw::{self, edit, edit128};
use crate::support::rig::{Completion, Rig};

pub(super) type Outcome = Result<(), String>;

/// A failure of a call that must not fail.
pub(super) fn failed(what: &'static str) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{what}: {error}")
}

/// An entry made of its bytes.
pub(super) trait Slot: EntryMarker {
    fn of(bytes: &Bytes) -> Self;
}

impl Slot for Entry {
    fn of(bytes: &Bytes) -> Self {
        edit(opcode::Nop::new().build(), |entry| entry.copy_from_slice(&bytes[..64]))
    }
}

impl Slot for Entry128 {
    fn of(bytes: &Bytes) -> Self {
        edit128(opcode::Nop::new().build().into(), |entry| *entry = *bytes)
    }
}

/// What the rounds of a target do on a ring of any shape.
pub(super) trait Target {
    /// Set-up flags beside those of the shape.
    fn setup_flags(&self, random: &mut Random) -> u32;

    fn run<S: Slot, C: Completion>(&self, lab: &mut Lab<S, C>, program: &mut Program<'_>) -> Outcome;
}

/// A ring on a device. The ring goes first.
#[derive(Debug)]
pub(super) struct Lab<S: EntryMarker, C: Completion> {
    pub(super) rig: Rig<S, C>,
    pub(super) other: Option<Ring>,
    /// Other rings can reach it, so a wait without a limit may have no end.
    pub(super) armed: bool,
    mixed: bool,
    _device: Device,
}

/// Runs one round.
pub(super) fn round<T: Target>(target: &T, random: Random, arena: &mut super::arena::Arena) -> Outcome {
    let mut random = random;
    match random.below(6) {
        0 => on(target, random, arena, |builder| builder.sqe128()),
        1 => on(target, random, arena, |builder| builder.cqe32()),
        2 => on(target, random, arena, |builder| builder.sqe128().cqe32()),
        3 => on(target, random, arena, |builder| builder.setup_flags(IORING_SETUP_CQE_MIXED)),
        _ => on(target, random, arena, |builder| builder),
    }
}

fn on<T, S, C>(
    target: &T,
    mut random: Random,
    arena: &mut super::arena::Arena,
    shape: impl Fn(RingBuilder) -> RingBuilder<S, C>,
) -> Outcome
where
    T: Target,
    S: Slot,
    C: Completion,
{
    let config = config(&mut random).map_err(failed("memory of the model"))?;
    let (size, block) = (config.namespaces[0].storage.len(), 1 << config.namespaces[0].block_shift);
    let model = match random.below(4) {
        0 => Model::threaded("model:", config).map_err(failed("a thread"))?,
        _ => Model::stepped("model:", config),
    };
    let device = Device::on(Arc::new(model)).map_err(|error| format!("the device: {error}"))?;
    let builder = shape(builder(&mut random)).setup_flags(target.setup_flags(&mut random));
    let ring = builder.open_device(&device, 1).map_err(|error| format!("the ring: {error}"))?;
    let mixed = ring.params().flags & IORING_SETUP_CQE_MIXED != 0;
    let armed = random.below(4) == 0;
    let mut files = vec![ring.device_fd(0).expect("a descriptor for the device")];
    let mut other = None;
    if armed {
        let second = Ring::builder(4).strict(true).open_device(&device, 1).map_err(|error| format!("{error}"))?;
        files.extend([ring.as_raw_fd(), second.as_raw_fd()]);
        other = Some(second);
    }
    let mut lab = Lab { rig: Rig::new(ring), other, armed, mixed, _device: device };
    let mut program = Program::new(random, arena, files);
    (program.size, program.block) = (size, block);
    let result = target.run(&mut lab, &mut program);
    drop(lab);
    // With the ring everything has ended, also that which nobody waited for.
    result.and(program.arena.check())
}

fn config(random: &mut Random) -> std::io::Result<ModelConfig> {
    let shift = if random.below(3) == 0 { 12 } else { 9 };
    let namespace = ModelNamespace::new(Storage::ram(1 << 20)?).block_shift(shift);
    let mut config = ModelConfig::new(vec![namespace]);
    config.mdts = [0, 1, 2, 7][random.below(4) as usize];
    config.queue_entries = [4, 16, 1024][random.below(3) as usize];
    config.volatile_write_cache = random.below(2) == 0;
    config.shadow_doorbells = random.below(4) == 0;
    Ok(config)
}

fn builder(random: &mut Random) -> RingBuilder {
    let modes = [CompletionMode::Poll, CompletionMode::Interrupt, CompletionMode::Adaptive];
    let mut builder = Ring::builder(1 << random.below(7)).strict(true).completion(modes[random.below(3) as usize]);
    if random.below(3) == 0 {
        builder = builder.cq_entries(64 << random.below(4));
    }
    if random.below(3) == 0 {
        builder = builder.bounce_limit([0, 4096, 65536][random.below(3) as usize]);
    }
    if random.below(2) == 0 {
        builder = builder.setup_flags(IORING_SETUP_SUBMIT_ALL);
    }
    builder.sq_array(random.below(3) == 0)
}

impl<S: Slot, C: Completion> Lab<S, C> {
    /// Registers the buffers and the groups that sensible entries name.
    pub(super) fn register(&mut self, program: &mut Program<'_>) -> Outcome {
        let mut iovecs = Vec::new();
        for number in 0..FIXED_BUFFERS {
            let (first, len) = program.arena.stretch(number);
            iovecs.extend([first, len].map(u64::to_ne_bytes).concat());
        }
        iovecs.extend([0; 16]);
        let address = program.arena.argument(&iovecs);
        let answer = calls::register(&self.rig.ring, 0, address, FIXED_BUFFERS as u32 + 1);
        if answer != 0 {
            return Err(format!("registering buffers: {answer}"));
        }
        for group in [1, 2] {
            let argument = program.new_group(group);
            let address = program.arena.argument(&argument);
            let answer = calls::register(&self.rig.ring, calls::REGISTER_PBUF_RING, address, 1);
            if answer != 0 {
                return Err(format!("registering a ring of buffers: {answer}"));
            }
        }
        Ok(())
    }

    /// Takes completions, as many as there are or only some, and enters them into the ledger.
    pub(super) fn take(&mut self, program: &mut Program<'_>) -> Outcome {
        if let Some(other) = &mut self.other {
            // What its own thread would do.
            let done = other.completion().map(|cqe| (cqe.user_data(), cqe.result(), cqe.flags())).collect::<Vec<_>>();
            for (user_data, res, flags) in done {
                program.ledger.see(&crate::support::rig::Done { user_data, res, flags, extra: [0; 2] })?;
            }
        }
        let mut halves = 0;
        for done in self.rig.ready() {
            if halves > 0 {
                halves -= 1;
                continue;
            }
            halves = u32::from(self.mixed && done.flags & F_32 != 0);
            program.ledger.see(&done)?;
        }
        Ok(())
    }

    /// Pushes up to `count` entries.
    pub(super) fn push(&mut self, program: &mut Program<'_>, count: u64) {
        for _ in 0..count {
            let queue = self.rig.ring.submission();
            if queue.is_full() {
                return;
            }
            drop(queue);
            let bytes = program.entry();
            raw::push(&mut self.rig.ring, &S::of(&bytes)).expect("there is room");
        }
    }

    /// Waits inside the ring for up to `limit`.
    pub(super) fn wait(&mut self, program: &mut Program<'_>, count: u32, limit: Duration) -> i32 {
        let nanos = limit.as_nanos() as u64;
        let time = program.arena.argument(&fields::<16>(&[&0u64.to_ne_bytes(), &nanos.to_ne_bytes()]));
        let argument = getevents(0, 0, 0, time);
        calls::enter(&self.rig.ring, u32::MAX, count, GETEVENTS | EXT_ARG, Some(&argument))
    }

    /// Ends everything that is pending and takes what comes of it.
    pub(super) fn quiesce(&mut self, program: &mut Program<'_>) -> Outcome {
        loop {
            self.cancel(program);
            // A submission ends with an entry that is refused; those behind it are for the next.
            self.rig.ring.submit().map_err(failed("submit"))?;
            self.take(program)?;
            let queue = self.rig.ring.submission();
            let pending = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
            drop(queue);
            if !pending && self.rig.ring.completion().is_empty() {
                return Ok(());
            }
        }
    }

    /// Lets the ring advance without submitting anything.
    pub(super) fn wait_for_events(&mut self, program: &mut Program<'_>) {
        let time = program.arena.argument(&[0; 16]);
        calls::enter(&self.rig.ring, 0, 0, GETEVENTS | EXT_ARG, Some(&getevents(0, 0, 0, time)));
    }

    /// Cancels all timeouts (`IORING_REGISTER_SYNC_CANCEL` with `IORING_ASYNC_CANCEL_ANY`).
    pub(super) fn cancel(&mut self, program: &mut Program<'_>) {
        let argument = fields::<64>(&[&[0; 8], &(-1i32).to_ne_bytes(), &4u32.to_ne_bytes(), &[0xff; 16], &[0; 32]]);
        let address = program.arena.argument(&argument);
        calls::register(&self.rig.ring, 24, address, 1);
    }
}
