//! The engine without a device.

#![expect(unsafe_code)] // promises for entries that name no memory

use std::os::fd::AsFd;

use io_uring::{cqueue, squeue};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;
use crate::abi::params::Params;
use crate::abi::rings::RingMemory;
use crate::device::Device;
use crate::model::{Model, ModelConfig, ModelNamespace, Storage};

/// A ring of 4 entries with an index array, filled with the entries of `opcodes`.
fn ring(opcodes: &[u8]) -> (RingMemory, Engine) {
    let memory = RingMemory::new(&Params::layout(4, 0, 0).unwrap()).unwrap();
    let view = memory.view();
    for (i, opcode) in opcodes.iter().enumerate() {
        view.sqes::<squeue::Entry>()
            .write(i as u32, &Sqe { opcode: *opcode, user_data: i as u64, ..Sqe::default() }.into());
    }
    view.set_sq_tail(opcodes.len() as u32);
    let options = QueueOptions { depth: 8, interrupts: false, bounce_bytes: 0, admin_commands: false };
    // SAFETY: the entries of these tests name no memory.
    let user = unsafe { UserMemory::promised() };
    let engine = Engine::new(view, options, CompletionMode::Poll, user, Arc::new(Notifier::new().unwrap()));
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
    for i in 0..20u32 {
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
