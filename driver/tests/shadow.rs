//! Shadow doorbells on the model, which looks at a queue that has run empty only when its register is
//! written: one write spared too many, and these tests do not end.

#![expect(unsafe_code)] // pushes entries whose buffers it owns

use std::sync::Arc;

use dmaring::model::{Action, Fault, Model, ModelConfig};
use dmaring::spec::command::admin;
use dmaring::spec::status::Status;
use dmaring::{CompletionMode, Device, Error, Ring, RingStats};
use io_uring::{opcode, squeue, types};
use proptest::prelude::*;

const SIZE: u64 = 1 << 20;
const BLOCK: u32 = 512;

fn config() -> ModelConfig {
    ModelConfig { shadow_doorbells: true, ..ModelConfig::ram(SIZE).unwrap() }
}

fn stepped(config: ModelConfig) -> (Model, Device) {
    let model = Model::stepped("model:shadow", config);
    let device = Device::on(Arc::new(model.clone())).unwrap();
    (model, device)
}

fn read(buffer: *mut u8, block: u64) -> squeue::Entry {
    opcode::Read::new(types::Fixed(0), buffer, BLOCK).offset(block * u64::from(BLOCK)).build().user_data(block)
}

fn push(ring: &mut Ring, entry: &squeue::Entry) {
    // SAFETY: callers keep the buffers of their entries until these have completed.
    unsafe { ring.submission().push(entry).unwrap() };
}

/// Register writes (submission, completion) and those spared between two looks.
fn between(before: RingStats, after: RingStats) -> (u64, u64, u64) {
    (
        after.sq_doorbells - before.sq_doorbells,
        after.cq_doorbells - before.cq_doorbells,
        after.saved_doorbells - before.saved_doorbells,
    )
}

#[test]
fn registers_are_written_only_when_the_controller_asks() {
    let (_model, device) = stepped(config());
    let mut ring = Ring::builder(16).open_device(&device, 1).unwrap();
    let mut buffer = ring.alloc(BLOCK as usize).unwrap();
    for round in 0..100 {
        let before = ring.stats();
        for block in 0..8 {
            push(&mut ring, &read(buffer.as_mut_ptr(), block));
            assert_eq!(ring.submit().unwrap(), 1);
        }
        assert_eq!(between(before, ring.stats()), (1, 0, 7), "only the first of eight wakes the queue");
        ring.submit_and_wait(8).unwrap();
        assert_eq!(ring.completion().count(), 8);
        let (sq, cq, saved) = between(before, ring.stats());
        assert_eq!((sq, cq + saved), (1, 8), "round {round}");
        // EventIdx of the completion queue stays at 0: it never was full.
        assert!(cq <= 1, "{cq} completion doorbells in round {round}");
    }
}

#[test]
fn without_them_every_batch_is_a_register_write() {
    for (offered, wanted) in [(false, true), (true, false)] {
        let model = Model::stepped("model:shadow", ModelConfig { shadow_doorbells: offered, ..config() });
        let device = Device::options().shadow_doorbells(wanted).on(Arc::new(model)).unwrap();
        let mut ring = Ring::builder(16).open_device(&device, 1).unwrap();
        let mut buffer = ring.alloc(BLOCK as usize).unwrap();
        let before = ring.stats();
        for block in 0..8 {
            push(&mut ring, &read(buffer.as_mut_ptr(), block));
            ring.submit().unwrap();
        }
        ring.submit_and_wait(8).unwrap();
        assert_eq!(between(before, ring.stats()), (8, 1, 0), "offered {offered}, wanted {wanted}");
    }
}

#[test]
fn a_controller_that_refuses_them_is_used_without() {
    let model = Model::stepped("model:shadow", config());
    let refuse = || Fault::new(Action::Fail(Status::INTERNAL_ERROR)).admin().opcode(admin::DOORBELL_BUFFER_CONFIG);
    model.fault(refuse());
    let device = Device::on(Arc::new(model)).unwrap();
    let mut ring = Ring::builder(16).open_device(&device, 1).unwrap();
    let mut buffer = ring.alloc(BLOCK as usize).unwrap();
    push(&mut ring, &read(buffer.as_mut_ptr(), 0));
    ring.submit_and_wait(1).unwrap();
    assert_eq!(ring.completion().next().unwrap().result(), BLOCK as i32);
    assert_eq!(ring.stats().saved_doorbells, 0);
}

#[test]
fn a_controller_that_fails_at_them_is_not_used() {
    let model = Model::stepped("model:shadow", config());
    model.fault(Fault::new(Action::Fatal).admin().opcode(admin::DOORBELL_BUFFER_CONFIG));
    let opened = Device::on(Arc::new(model.clone()));
    assert!(matches!(opened, Err(Error::Fatal { .. })), "{opened:?}");
    // Reset, and from the beginning.
    Device::on(Arc::new(model)).unwrap();
}

#[test]
fn a_queue_begins_with_nothing_of_the_one_before() {
    let (model, device) = stepped(ModelConfig { queue_pairs: 1, ..config() });
    for round in 0..5 {
        let mut ring = Ring::builder(8).open_device(&device, 1).unwrap();
        let mut buffer = ring.alloc(BLOCK as usize).unwrap();
        for block in 0..3 + round {
            push(&mut ring, &read(buffer.as_mut_ptr(), block));
            ring.submit_and_wait(1).unwrap();
            assert_eq!(ring.completion().next().unwrap().user_data(), block);
        }
    }
    drop(device);
    // As long as the controller is the same, so is what it was told; a reset forgets it.
    let device = Device::options().shadow_doorbells(false).on(Arc::new(model)).unwrap();
    let mut ring = Ring::builder(8).open_device(&device, 1).unwrap();
    let mut buffer = ring.alloc(BLOCK as usize).unwrap();
    push(&mut ring, &read(buffer.as_mut_ptr(), 0));
    ring.submit_and_wait(1).unwrap();
    assert_eq!(ring.stats().saved_doorbells, 0);
}

/// Batches of the sizes in `program`, waiting for as many completions as stand beside them.
fn run(device: &Device, mode: CompletionMode, program: &[(u8, u8)]) {
    let mut ring = Ring::builder(8).cq_entries(8).completion(mode).open_device(device, 1).unwrap();
    let mut buffer = ring.alloc(BLOCK as usize).unwrap();
    let (mut pushed, mut taken) = (0u64, 0u64);
    for (batch, wait) in program {
        for _ in 0..*batch {
            push(&mut ring, &read(buffer.as_mut_ptr(), pushed % 64));
            pushed += 1;
        }
        ring.submit_and_wait((*wait).into()).unwrap();
        taken += ring.completion().map(|c| assert_eq!(c.result(), BLOCK as i32)).count() as u64;
    }
    while taken < pushed {
        ring.submit_and_wait(1).unwrap();
        taken += ring.completion().map(|c| assert_eq!(c.result(), BLOCK as i32)).count() as u64;
    }
    assert_eq!(taken, pushed);
    let stats = ring.stats();
    assert_eq!(stats.commands, pushed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_stands_still_on_a_stepped_model(
        entries in 3u16..40,
        dstrd in 0u8..3,
        program in prop::collection::vec((0u8..=8, 0u8..=8), 1..120),
    ) {
        let (_model, device) = stepped(ModelConfig { queue_entries: entries, dstrd, ..config() });
        run(&device, CompletionMode::Poll, &program);
    }
}

#[test]
fn nothing_stands_still_on_a_threaded_model() {
    let program: Vec<(u8, u8)> = (0..8_000u32).map(|i| ((i * 7 % 9) as u8, (i * 5 % 4) as u8)).collect();
    for mode in [CompletionMode::Poll, CompletionMode::Interrupt] {
        for entries in [3, 4, 16, 1024] {
            let config = ModelConfig { queue_entries: entries, ..config() };
            let model = Model::threaded("model:shadow", config).unwrap();
            let device = Device::on(Arc::new(model)).unwrap();
            run(&device, mode, &program);
        }
    }
}
