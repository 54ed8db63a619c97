//! What a device does wrong, on the model: the driver answers with an error, loses nothing, hangs
//! nowhere and panics never.

#![expect(unsafe_code)] // pushes entries whose buffers it owns

use std::sync::Arc;

use dmaring::model::{Action, Fault, Model, ModelConfig, ModelNamespace, Storage};
use dmaring::spec::command::{admin, nvm};
use dmaring::spec::status::Status;
use dmaring::{CompletionMode, Device, DmaBuf, Error, Ring};
use io_uring::{opcode, squeue, types};

const SIZE: u64 = 8 << 20;

fn model(config: ModelConfig) -> (Model, Device) {
    let model = Model::stepped("model:test", config);
    let device = Device::on(Arc::new(model.clone())).unwrap();
    (model, device)
}

fn ring(device: &Device) -> Ring {
    Ring::builder(8).open_device(device, 1).unwrap()
}

fn read(buffer: &mut DmaBuf, offset: u64) -> squeue::Entry {
    opcode::Read::new(types::Fixed(0), buffer.as_mut_ptr(), buffer.len() as u32).offset(offset).build()
}

/// Runs one entry and answers its result.
fn run(ring: &mut Ring, entry: &squeue::Entry) -> i32 {
    // SAFETY: callers keep the buffers of their entries until this returns.
    unsafe { ring.submission().push(entry).unwrap() };
    ring.submit_and_wait(1).unwrap();
    ring.completion().next().unwrap().result()
}

#[test]
fn a_failed_command_fails_its_entry_with_the_errno_of_its_status() {
    let (model, device) = model(ModelConfig::ram(SIZE).unwrap());
    let mut ring = ring(&device);
    let mut buffer = ring.alloc(4096).unwrap();
    for (status, errno) in [
        (Status::UNRECOVERED_READ_ERROR, libc::ENODATA),
        (Status::INTERNAL_ERROR, libc::EIO),
        (Status::INVALID_FIELD, libc::EOPNOTSUPP),
    ] {
        model.fault(Fault::new(Action::Fail(status)));
        assert_eq!(run(&mut ring, &read(&mut buffer, 0)), -errno, "{status}");
        assert_eq!(run(&mut ring, &read(&mut buffer, 0)), 4096, "the next one is whole");
    }
}

#[test]
fn one_failed_command_fails_a_split_request_as_a_whole() {
    let mut config = ModelConfig::ram(SIZE).unwrap();
    config.mdts = 1;
    let (model, device) = model(config);
    let mut ring = ring(&device);
    let mut buffer = ring.alloc(1 << 20).unwrap();
    let before = model.commands();
    model.fault(Fault::new(Action::Fail(Status::UNRECOVERED_READ_ERROR)).skip(3));
    assert_eq!(run(&mut ring, &read(&mut buffer, 0)), -libc::ENODATA);
    assert_eq!(run(&mut ring, &read(&mut buffer, 0)), 1 << 20);
    assert!(model.commands() - before >= 128, "8 KiB a command");
}

#[test]
fn a_completion_that_nobody_waits_for_is_counted_and_dropped() {
    let (model, device) = model(ModelConfig::ram(SIZE).unwrap());
    let mut ring = ring(&device);
    let mut buffer = ring.alloc(4096).unwrap();
    model.fault(Fault::new(Action::AnswerTwice));
    assert_eq!(run(&mut ring, &read(&mut buffer, 0)), 4096);
    assert_eq!(run(&mut ring, &read(&mut buffer, 0)), 4096);
    assert_eq!(ring.stats().stale_completions, 1);
    assert_eq!(ring.completion().len(), 0);
}

#[test]
fn a_fatal_status_ends_everything_in_flight_and_later_entries() {
    let (model, device) = model(ModelConfig::ram(SIZE).unwrap());
    let mut ring = ring(&device);
    let mut buffers: Vec<_> = (0..4).map(|_| ring.alloc(4096).unwrap()).collect();
    model.fault(Fault::new(Action::Fatal).skip(1));
    for (i, buffer) in buffers.iter_mut().enumerate() {
        let entry = read(buffer, 0).user_data(i as u64);
        // SAFETY: the buffers live until all four have completed.
        unsafe { ring.submission().push(&entry).unwrap() };
    }
    ring.submit_and_wait(4).unwrap();
    let mut results: Vec<_> = ring.completion().map(|c| (c.user_data(), c.result())).collect();
    results.sort_unstable();
    let lost = -libc::EIO;
    assert_eq!(results, [(0, 4096), (1, lost), (2, lost), (3, lost)]);
    assert_eq!(run(&mut ring, &read(&mut buffers[0], 0)), lost);
}

#[test]
fn a_device_that_leaves_the_bus_answers_enodev_and_is_let_go() {
    let (model, device) = model(ModelConfig::ram(SIZE).unwrap());
    let mut ring = ring(&device);
    let mut buffer = ring.alloc(4096).unwrap();
    model.fault(Fault::new(Action::Gone));
    assert_eq!(run(&mut ring, &read(&mut buffer, 0)), -libc::ENODEV);
    assert_eq!(run(&mut ring, &read(&mut buffer, 0)), -libc::ENODEV);
    drop(ring);
    let again = Device::on(Arc::new(model));
    assert!(matches!(again, Err(Error::Gone { .. })), "{again:?}");
}

#[test]
fn bring_up_ends_with_the_reason_when_the_controller_does_not_play() {
    for (action, expected) in
        [(Action::Fatal, "fatal"), (Action::Gone, "gone"), (Action::Fail(Status::INTERNAL_ERROR), "internal error")]
    {
        let model = Model::stepped("model:test", ModelConfig::ram(SIZE).unwrap());
        model.fault(Fault::new(action).admin().opcode(admin::IDENTIFY));
        let error = Device::on(Arc::new(model)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_queue_that_cannot_be_made_is_not_left_behind() {
    for opcode in [admin::CREATE_IO_CQ, admin::CREATE_IO_SQ] {
        let mut config = ModelConfig::ram(SIZE).unwrap();
        config.queue_pairs = 1;
        let (model, device) = model(config);
        model.fault(Fault::new(Action::Fail(Status::INTERNAL_ERROR)).admin().opcode(opcode));
        assert!(matches!(Ring::builder(8).open_device(&device, 1), Err(Error::Admin { .. })));
        // The only queue identifier is free again, on both sides.
        drop(ring(&device));
    }
}

#[test]
fn queues_run_out_with_a_clear_error_and_come_back() {
    let mut config = ModelConfig::ram(SIZE).unwrap();
    config.queue_pairs = 2;
    let (_model, device) = model(config);
    let rings = [ring(&device), ring(&device)];
    let error = Ring::builder(8).open_device(&device, 1).unwrap_err();
    assert!(error.to_string().contains("all 2 queue pairs"), "{error}");
    drop(rings);
    drop(ring(&device));
}

#[test]
fn queues_beyond_the_vectors_poll_or_say_that_they_cannot() {
    let mut config = ModelConfig::ram(SIZE).unwrap();
    config.vectors = 2;
    let (_model, device) = model(config);
    let first = Ring::builder(8).completion(CompletionMode::Interrupt).open_device(&device, 1).unwrap();
    let error = Ring::builder(8).completion(CompletionMode::Interrupt).open_device(&device, 1).unwrap_err();
    assert!(error.to_string().contains("vectors are taken"), "{error}");
    let mut second = ring(&device);
    let mut buffer = second.alloc(4096).unwrap();
    assert_eq!(run(&mut second, &read(&mut buffer, 0)), 4096);
    drop(first);
}

#[test]
fn a_small_queue_serves_many_requests() {
    let mut config = ModelConfig::ram(SIZE).unwrap();
    config.queue_entries = 2;
    config.mdts = 2;
    let (_model, device) = model(config);
    let mut ring = Ring::builder(64).bounce_limit(8192).open_device(&device, 1).unwrap();
    let mut data: Vec<Vec<u8>> = (0..64u8).map(|i| vec![i; 100 << 10]).collect();
    for (i, data) in data.iter().enumerate() {
        let entry = opcode::Write::new(types::Fixed(0), data.as_ptr(), data.len() as u32);
        // SAFETY: the data lives until all have completed.
        unsafe { ring.submission().push(&entry.offset(i as u64 * (100 << 10)).build()).unwrap() };
    }
    ring.submit_and_wait(64).unwrap();
    assert!(ring.completion().all(|c| c.result() == 100 << 10));
    let written = data.clone();
    data.iter_mut().for_each(|d| d.fill(0xff));
    for (i, data) in data.iter_mut().enumerate() {
        let entry = opcode::Read::new(types::Fixed(0), data.as_mut_ptr(), data.len() as u32);
        // SAFETY: as above.
        unsafe { ring.submission().push(&entry.offset(i as u64 * (100 << 10)).build()).unwrap() };
    }
    ring.submit_and_wait(64).unwrap();
    assert!(ring.completion().all(|c| c.result() == 100 << 10));
    assert!(data == written);
    assert_eq!(ring.stats().bounced_bytes, 2 * 64 * (100 << 10));
}

#[test]
fn unusable_namespaces_are_refused_and_the_others_work() {
    let metadata = ModelNamespace { metadata_bytes: 8, ..ModelNamespace::new(Storage::null(SIZE)) };
    let plain = ModelNamespace::new(Storage::null(SIZE)).block_shift(12);
    let (_model, device) = model(ModelConfig::new(vec![metadata, plain]));
    let error = Ring::builder(8).open_device(&device, 1).unwrap_err().to_string();
    assert!(error.contains("metadata"), "{error}");
    assert!(matches!(Ring::builder(8).open_device(&device, 3), Err(Error::NoNamespace { .. })));
    let mut ring = Ring::builder(8).open_device(&device, 2).unwrap();
    let mut buffer = ring.alloc(512).unwrap();
    assert_eq!(run(&mut ring, &read(&mut buffer, 0)), -libc::EINVAL, "half a block");
}

#[test]
fn a_write_protected_namespace_takes_no_writes() {
    let protected = ModelNamespace { write_protected: true, ..ModelNamespace::new(Storage::null(SIZE)) };
    let (_model, device) = model(ModelConfig::new(vec![protected]));
    let mut ring = ring(&device);
    let buffer = ring.alloc(4096).unwrap();
    let write = opcode::Write::new(types::Fixed(0), buffer.as_ptr(), 4096).build();
    assert_eq!(run(&mut ring, &write), -libc::EPERM);
    assert!(ring.target().read_only);
}

#[test]
fn flush_and_fua_are_sent_only_where_there_is_a_cache() {
    for cache in [true, false] {
        let mut config = ModelConfig::ram(SIZE).unwrap();
        config.volatile_write_cache = cache;
        let (model, device) = model(config);
        let mut ring = ring(&device);
        let buffer = ring.alloc(4096).unwrap();
        // Any flush, and any write with FUA, would fail.
        let fua = dmaring::spec::command::Command { cdw12: 1 << 30, ..Default::default() };
        model.fault(Fault::new(Action::Fail(Status::INTERNAL_ERROR)).opcode(nvm::FLUSH));
        model.fault(Fault::new(Action::Fail(Status::WRITE_FAULT)).matching(&fua, &fua));
        let sync = opcode::Fsync::new(types::Fixed(0)).build();
        let write = opcode::Write::new(types::Fixed(0), buffer.as_ptr(), 4096).rw_flags(libc::RWF_DSYNC).build();
        let (flushed, durable) = (run(&mut ring, &sync), run(&mut ring, &write));
        if cache {
            assert_eq!((flushed, durable), (-libc::EIO, -libc::ENODATA), "both reached the device as such");
        } else {
            assert_eq!((flushed, durable), (0, 4096));
        }
    }
}

#[test]
fn a_dropped_ring_leaves_nothing_behind_for_the_next_one() {
    let mut config = ModelConfig::ram(SIZE).unwrap();
    config.queue_pairs = 1;
    let (_model, device) = model(config);
    for _ in 0..3 {
        let mut ring = ring(&device);
        let mut buffer = ring.alloc(4096).unwrap();
        let entry = read(&mut buffer, 0);
        // SAFETY: the buffer's memory belongs to the ring's pool; the ring deletes its queue before it goes.
        unsafe { ring.submission().push(&entry).unwrap() };
        ring.submit().unwrap();
        drop(ring);
        drop(buffer);
    }
    assert_eq!(ring(&device).stats().commands, 0);
}

#[test]
fn a_lost_interrupt_delays_but_does_not_lose() {
    let (model, device) = model(ModelConfig::ram(SIZE).unwrap());
    let mut ring = Ring::builder(8).completion(CompletionMode::Interrupt).open_device(&device, 1).unwrap();
    let mut buffer = ring.alloc(4096).unwrap();
    model.fault(Fault::new(Action::NoInterrupt));
    assert_eq!(run(&mut ring, &read(&mut buffer, 0)), 4096);
}

#[test]
fn doorbells_are_one_a_batch() {
    let (_model, device) = model(ModelConfig::ram(SIZE).unwrap());
    let mut ring = ring(&device);
    let mut buffer = ring.alloc(4096).unwrap();
    let before = ring.stats();
    for _ in 0..8 {
        let entry = read(&mut buffer, 0);
        // SAFETY: the buffer lives until all eight have completed; nobody looks at what they leave in it.
        unsafe { ring.submission().push(&entry).unwrap() };
    }
    ring.submit_and_wait(8).unwrap();
    assert_eq!(ring.completion().count(), 8);
    let after = ring.stats();
    assert_eq!((after.sq_doorbells - before.sq_doorbells, after.cq_doorbells - before.cq_doorbells), (1, 1));
    assert_eq!(after.system_calls, 0);
}
