//! The engine without a device.

#![expect(unsafe_code)] // promises for entries that name no memory

use std::os::fd::AsFd;

use io_uring::{cqueue, squeue};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;
use crate::abi::entry::Sqe;
use crate::abi::flags::{IORING_SQ_CQ_OVERFLOW, IORING_SQ_TASKRUN};
use crate::abi::memory::RingMemory;
use crate::abi::params::Params;
use crate::device::Device;
use crate::model::{Action, Fault, Model, ModelConfig, ModelNamespace, Storage};

/// A ring of 4 entries with an index array, filled with the entries of `opcodes`.
fn ring(opcodes: &[u8]) -> (RingMemory, Engine) {
    let memory = RingMemory::new(&Params::layout(4, 0, 0).unwrap()).unwrap();
    let view = memory.view();
    for (i, opcode) in opcodes.iter().enumerate() {
        view.sqes::<squeue::Entry>()
            .write(i as u32, &Sqe { opcode: *opcode, user_data: i as u64, ..Sqe::default() }.into());
    }
    view.set_sq_tail(opcodes.len() as u32);
    let options = QueueOptions { depth: 8, interrupts: false, bounce_bytes: 0, admin_commands: false, strict: false };
    // SAFETY: the entries of these tests name no memory.
    let user = unsafe { UserMemory::promised(false) };
    let engine = Engine::new(view, 0, options, CompletionMode::Poll, user, Arc::new(Notifier::new().unwrap()));
    (memory, engine.unwrap())
}

const NOP: u8 = 0;
const UNKNOWN: u8 = 255;

#[test]
fn a_batch_ends_with_the_first_entry_that_is_refused_and_counts_it() {
    let (memory, mut engine) = ring(&[NOP, UNKNOWN, NOP]);
    assert_eq!(engine.submit().unwrap(), 2);
    assert_eq!((engine.cq.ready(), memory.view().cqes::<cqueue::Entry>().read(1).result()), (2, -libc::EINVAL));
    assert_eq!(engine.submit().unwrap(), 1);
    assert_eq!(engine.submit().unwrap(), 0);
}

#[test]
fn an_entry_that_does_not_exist_is_dropped_and_not_counted_as_submitted() {
    let (memory, mut engine) = ring(&[NOP, NOP, NOP]);
    memory.view().set_array(1, 4);
    assert_eq!(engine.submit().unwrap(), 1);
    assert_eq!((memory.view().sq_head(), memory.view().sq_dropped(), engine.cq.ready()), (2, 1, 1));
    assert_eq!(engine.submit().unwrap(), 1);
}

#[test]
fn the_descriptor_is_readable_after_a_wait_that_left_completions() {
    let (memory, mut engine) = ring(&[NOP]);
    engine.arm();
    let notifier = Arc::clone(&engine.notifier);
    let readable = || poll(&mut [PollFd::new(notifier.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() > 0;
    assert!(!readable());
    engine.submit_and_wait(1).unwrap();
    assert!(readable());
    memory.view().set_cq_head(1);
    engine.submit_and_wait(0).unwrap();
    assert!(!readable());
}

#[test]
fn a_quiet_adaptive_ring_takes_its_interrupts_back_before_it_sleeps() {
    let config = ModelConfig::new(vec![ModelNamespace::new(Storage::null(1 << 20))]);
    let device = Device::on(Arc::new(Model::threaded("model:quiet", config).unwrap())).unwrap();
    let (memory, mut engine) = ring(&[]);
    let file = engine.add_target(Arc::clone(device.owner()), device.namespace(1).unwrap().clone());
    engine.make_queue(0).unwrap();
    engine.set_mode(CompletionMode::Adaptive).unwrap();
    let buffer = engine.alloc(4096).unwrap();
    // Until one is so late that it is slept for: that is up to the model's thread, and to who else runs.
    for i in 0..1_000_000u32 {
        if engine.interrupts > 0 {
            break;
        }
        engine.disconnect_events();
        assert!(engine.quiet);
        engine.patience.expect_long_waits();
        let mut sqe = Sqe { opcode: 22, flags: 1, fd: file.cast_signed(), len: 4096, ..Sqe::default() };
        sqe.addr = buffer.as_ptr() as u64;
        memory.view().sqes::<squeue::Entry>().write(i, &sqe.into());
        memory.view().set_sq_tail(i + 1);
        engine.submit_and_wait(1).unwrap();
        assert_eq!(memory.view().cqes::<cqueue::Entry>().read(i).result(), 4096);
        memory.view().set_cq_head(i + 1);
    }
    assert!(engine.interrupts > 0, "a wait that began quiet was ended by an interrupt");
}

/// An engine that polls, with a device whose first fixed file takes the straight line, and a registered buffer
/// with a file's worth of one read.
fn straight(model: &Model, mode: CompletionMode) -> (RingMemory, Engine, Sqe) {
    let device = Device::on(Arc::new(model.clone())).unwrap();
    let flags = crate::abi::flags::IORING_SETUP_NO_SQARRAY;
    let memory = RingMemory::new(&Params::layout(4, 0, flags).unwrap()).unwrap();
    let options =
        QueueOptions { depth: 8, interrupts: mode.sleeps(), bounce_bytes: 0, admin_commands: false, strict: false };
    // SAFETY: the entries of these tests name memory of the ring's pool only.
    let user = unsafe { UserMemory::promised(false) };
    let mut engine = Engine::new(memory.view(), 0, options, mode, user, Arc::new(Notifier::new().unwrap())).unwrap();
    let file = engine.add_target(Arc::clone(device.owner()), device.namespace(1).unwrap().clone());
    engine.make_queue(0).unwrap();
    engine.warm(file);
    let buffer = engine.alloc(4096).unwrap();
    let iovec = libc::iovec { iov_base: buffer.as_ptr().cast_mut().cast(), iov_len: 4096 };
    // SAFETY: memory of the pool, which lives as long as the engine.
    unsafe { engine.register_buffers(&[iovec], &[]).unwrap() };
    let sqe = Sqe { opcode: 4, flags: 1, addr: buffer.as_ptr() as u64, len: 4096, ..Sqe::default() };
    (memory, engine, sqe)
}

fn null_model() -> Model {
    Model::stepped("model:one", ModelConfig::new(vec![ModelNamespace::new(Storage::null(1 << 20))]))
}

fn push(memory: &RingMemory, sqe: &Sqe) {
    let tail = memory.view().sq_tail();
    memory.view().sqes::<squeue::Entry>().write(tail, &(*sqe).into());
    memory.view().set_sq_tail(tail + 1);
}

/// The next completion's result.
fn result(memory: &RingMemory) -> i32 {
    let head = memory.view().cq_head();
    assert_eq!(memory.view().cq_tail(), head + 1);
    memory.view().set_cq_head(head + 1);
    memory.view().cqes::<cqueue::Entry>().read(head).result()
}

/// One command of `opcode` in flight on a device that then does `action` ends when it is looked after, which is
/// after as many idle polls as `next_look` says, or after a sleep.
fn one_command_ends(mode: CompletionMode, opcode: u8, next_look: u64) {
    for (action, errno) in [(Action::Gone, libc::ENODEV), (Action::Fatal, libc::EIO), (Action::Drop, libc::ETIMEDOUT)] {
        let model = null_model();
        let (memory, mut engine, sqe) = straight(&model, mode);
        model.fault(Fault::new(action));
        push(&memory, &Sqe { opcode, ..sqe });
        assert_eq!(engine.submit().unwrap(), 1);
        assert!(engine.queues[0].is_at_one());
        assert_eq!(memory.view().sq_flags(), IORING_SQ_TASKRUN);
        engine.next_look = next_look;
        if action == Action::Drop {
            engine.queues[0].expect_silence();
        }
        engine.submit_and_wait(1).unwrap();
        assert_eq!(result(&memory), -errno, "{mode:?} {opcode} {action:?}");
        assert!(!engine.is_busy());
        assert_eq!(memory.view().sq_flags(), 0);
        // A dead device takes nothing more.
        push(&memory, &Sqe { opcode, ..sqe });
        engine.submit().unwrap();
        assert!(!engine.is_busy());
        assert_eq!(result(&memory), if action == Action::Gone { -libc::ENODEV } else { -libc::EIO });
    }
}

#[test]
fn one_command_ends_with_its_device_while_a_thread_polls() {
    // The straight line, and the general path.
    for opcode in [4, 22] {
        one_command_ends(CompletionMode::Poll, opcode, 1 << 16);
    }
}

#[test]
fn one_command_ends_with_its_device_while_a_thread_sleeps() {
    one_command_ends(CompletionMode::Interrupt, 4, u64::MAX);
}

#[test]
fn one_command_ends_with_its_device_while_a_thread_looks_and_sleeps() {
    one_command_ends(CompletionMode::Adaptive, 4, u64::MAX);
}

#[test]
fn a_single_completion_that_is_not_plain_ends_the_polling_as_soon_as_one_that_is() {
    let model = null_model();
    let (memory, mut engine, sqe) = straight(&model, CompletionMode::Poll);
    let mut looks = [4, 22].map(|opcode| {
        let before = engine.idle_polls;
        push(&memory, &Sqe { opcode, ..sqe });
        engine.submit_and_wait(1).unwrap();
        assert_eq!(result(&memory), 4096);
        engine.idle_polls - before
    });
    looks.sort_unstable();
    assert!(looks[0] > engine.queues[0].patience().into(), "looks in vain are counted: {looks:?}");
    assert!(looks[1] - looks[0] <= 1, "{looks:?}");
}

#[test]
fn flags_that_announced_work_or_a_backlog_are_gone_when_one_command_has_ended_it() {
    let model = null_model();
    let (memory, mut engine, sqe) = straight(&model, CompletionMode::Poll);
    for _ in 0..3 {
        for _ in 0..4 {
            push(&memory, &Sqe::default());
        }
        engine.submit().unwrap();
    }
    push(&memory, &sqe);
    engine.submit().unwrap();
    assert_eq!(memory.view().sq_flags(), IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
    memory.view().set_cq_head(8);
    engine.submit_and_wait(5).unwrap();
    assert_eq!(memory.view().cq_tail(), 13, "four from the backlog, then the read");
    assert_eq!(memory.view().cqes::<cqueue::Entry>().read(12).result(), 4096);
    assert_eq!(memory.view().sq_flags(), 0);
    // Announced, and then taken by the loop for one.
    memory.view().set_cq_head(13);
    push(&memory, &sqe);
    engine.submit().unwrap();
    assert_eq!(memory.view().sq_flags(), IORING_SQ_TASKRUN);
    engine.submit_and_wait(1).unwrap();
    assert_eq!((result(&memory), memory.view().sq_flags()), (4096, 0));
}

#[test]
fn one_command_in_flight_is_not_the_last_while_others_wait() {
    let mut config = ModelConfig::new(vec![ModelNamespace::new(Storage::null(1 << 20))]);
    config.queue_entries = 2;
    let (memory, mut engine, sqe) = straight(&Model::stepped("model:two", config), CompletionMode::Poll);
    push(&memory, &Sqe { user_data: 1, ..sqe });
    push(&memory, &Sqe { opcode: 22, user_data: 2, ..sqe });
    assert_eq!(engine.submit_and_wait(2).unwrap(), 2);
    let seen = [0, 1].map(|at| memory.view().cqes::<cqueue::Entry>().read(at).user_data());
    assert_eq!((memory.view().cq_tail(), seen), (2, [1, 2]));
}

#[test]
fn a_tail_that_a_program_moved_far_away_means_a_full_ring() {
    for tail in [5, 77, 1 << 31, u32::MAX] {
        let (memory, mut engine) = ring(&[NOP; 4]);
        memory.view().set_sq_tail(tail);
        assert_eq!(engine.submit().unwrap(), 4);
        assert_eq!((memory.view().sq_head(), engine.cq.ready()), (4, 4));
        let (memory, mut engine, _) = straight(&null_model(), CompletionMode::Poll);
        memory.view().set_sq_tail(tail);
        assert_eq!(engine.submit().unwrap(), 4);
        assert_eq!((memory.view().sq_head(), engine.cq.ready()), (4, 4));
    }
}

#[test]
fn a_nop_of_which_something_is_asked_has_the_same_answer_without_an_index_array() {
    let nop = Sqe::default();
    for (sqe, res) in [
        (Sqe { fd: -1, off: !0, addr: !0, len: !0, addr3: !0, ..nop }, 0),
        (Sqe { op_flags: crate::abi::op::IORING_NOP_INJECT_RESULT, len: 77, ..nop }, 77),
        (Sqe { op_flags: 1 << 31, ..nop }, -libc::EINVAL),
        (Sqe { ioprio: 1, ..nop }, -libc::EINVAL),
        (Sqe { flags: 0x80, ..nop }, -libc::EINVAL),
        (Sqe { flags: 4, ..nop }, 0),
        (Sqe { personality: 1, ..nop }, -libc::EINVAL),
    ] {
        let (memory, mut engine, _) = straight(&null_model(), CompletionMode::Poll);
        push(&memory, &sqe);
        assert_eq!(engine.submit().unwrap(), 1);
        assert_eq!(result(&memory), res, "{sqe:?}");
        let (memory, mut engine) = ring(&[]);
        push(&memory, &sqe);
        assert_eq!(engine.submit().unwrap(), 1);
        assert_eq!(result(&memory), res, "{sqe:?}");
    }
}
