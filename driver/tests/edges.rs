//! Edges of the ring on the model: entries that no path may trip over, memory that nothing can bounce,
//! descriptors that must wake, devices that must be let go.

#![expect(unsafe_code)] // pushes entries whose buffers it owns

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dmaring::abi::entry::Sqe;
use dmaring::model::{Action, Fault, Model, ModelConfig, ModelNamespace, Storage};
use dmaring::spec::command::admin;
use dmaring::spec::regs::{CC, Cc};
use dmaring::spec::status::Status;
use dmaring::{CompletionMode, Device, Error, Ring};
use dmaring_dma::Transport;
use io_uring::{opcode, squeue, types};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const SIZE: u64 = 8 << 20;

fn model() -> (Model, Device) {
    let model = Model::stepped("model:edges", ModelConfig::ram(SIZE).unwrap());
    let device = Device::on(Arc::new(model.clone())).unwrap();
    (model, device)
}

/// Pushes an entry.
fn push(ring: &mut Ring, entry: &squeue::Entry) {
    // SAFETY: callers keep the buffers of their entries until these have completed.
    unsafe { ring.submission().push(entry).unwrap() };
}

/// Runs one entry and answers its result.
fn run(ring: &mut Ring, entry: &squeue::Entry) -> i32 {
    push(ring, entry);
    ring.submit_and_wait(1).unwrap();
    ring.completion().next().unwrap().result()
}

fn wakes_within(ring: &Ring, limit: PollTimeout) -> bool {
    poll(&mut [PollFd::new(ring.as_fd(), PollFlags::POLLIN)], limit).unwrap() > 0
}

#[test]
fn rings_with_an_index_only_have_one_of_sixteen() {
    use dmaring::abi::flags::{IORING_ENTER_REGISTERED_RING, IORING_SETUP_REGISTERED_FD_ONLY};
    #[repr(align(4096))]
    struct Pages([u8; 2 * 4096]);
    // A controller has 16 queue pairs for rings, and one more is wanted.
    let devices = [model().1, model().1];
    let mut memory: Vec<_> = (0..17).map(|_| Box::new(Pages([0; 2 * 4096]))).collect();
    let places: Vec<_> = memory.iter_mut().map(|pages| pages.0.as_mut_ptr()).collect();
    let open = |at: usize| {
        let (rings, sqes) = (places[at], places[at].wrapping_add(4096));
        // SAFETY: the memory outlives the rings, and nothing else accesses it.
        unsafe { Ring::builder(4).setup_flags(IORING_SETUP_REGISTERED_FD_ONLY).ring_memory(rings, sqes) }
            .open_device(&devices[at % 2], 1)
    };
    let mut rings: Vec<Ring> = (0..16).map(|at| open(at).unwrap()).collect();
    assert_eq!(rings.iter().map(Ring::index).collect::<Vec<_>>(), (0..16).map(Some).collect::<Vec<_>>());
    let busy = open(16).unwrap_err();
    assert!(matches!(busy, dmaring::Error::SetupFlags { errno: libc::EBUSY, .. }), "{busy}");
    // SAFETY: no argument.
    let entered = unsafe { rings[3].submitter().enter::<u8>(0, 0, IORING_ENTER_REGISTERED_RING, None) };
    assert_eq!(entered.unwrap(), 0);
    drop(rings.remove(5));
    assert_eq!(open(16).unwrap().index(), Some(5), "the place is free again");
    let ordinary = Ring::builder(4).open_device(&devices[1], 1).unwrap();
    assert_eq!(ordinary.index(), None);
    // SAFETY: no argument.
    let entered = unsafe { ordinary.submitter().enter::<u8>(0, 0, IORING_ENTER_REGISTERED_RING, None) };
    assert_eq!(entered.unwrap_err().raw_os_error(), Some(libc::EINVAL), "not in the table");
}

#[test]
fn flags_that_no_device_ring_serves_yet_are_refused() {
    use dmaring::abi::flags::{IORING_SETUP_ATTACH_WQ, IORING_SETUP_SQPOLL};
    let (_, device) = model();
    for flags in [IORING_SETUP_SQPOLL, IORING_SETUP_ATTACH_WQ] {
        let refused = Ring::builder(4).setup_flags(flags).open_device(&device, 1).unwrap_err();
        assert!(matches!(refused, dmaring::Error::SetupFlags { errno: libc::EINVAL, .. }), "{refused}");
        assert!(refused.to_string().contains("leave"), "{refused}");
    }
}

#[test]
fn an_entry_of_ones_is_refused_by_the_straight_line_and_the_general_path() {
    let (_model, device) = model();
    let mut ring = Ring::builder(8).open_device(&device, 1).unwrap();
    let mut arena = ring.alloc(8192).unwrap();
    let base = arena.as_mut_ptr();
    let buffer = libc::iovec { iov_base: base.cast(), iov_len: 8192 };
    // SAFETY: the arena's memory lives as long as the ring's pool.
    unsafe { ring.submitter().register_buffers(&[buffer]).unwrap() };
    for into in [0, 4, 4092] {
        let address = base as u64 + into;
        let sqe = Sqe { opcode: 4, flags: 1, addr: address, len: u32::MAX, op_flags: u32::MAX, ..Sqe::default() };
        assert_eq!(run(&mut ring, &sqe.into()), -libc::EFAULT, "the range is looked at before the flags");
        let sqe = Sqe { off: u64::MAX - 1, ..sqe };
        assert_eq!(run(&mut ring, &sqe.into()), -libc::EFAULT);
    }
}

#[test]
fn an_entry_of_ones_is_unknown_where_the_straight_line_serves_nothing() {
    // A namespace that is too small for it.
    let small = ModelConfig::new(vec![ModelNamespace::new(Storage::null(4096))]);
    let device = Device::on(Arc::new(Model::stepped("model:small", small))).unwrap();
    let mut ring = Ring::builder(8).open_device(&device, 1).unwrap();
    let mut arena = ring.alloc(4096).unwrap();
    let buffer = libc::iovec { iov_base: arena.as_mut_ptr().cast(), iov_len: 4096 };
    // SAFETY: the arena's memory lives as long as the ring's pool.
    unsafe { ring.submitter().register_buffers(&[buffer]).unwrap() };
    let (addr, before) = (arena.as_ptr() as u64, ring.stats().commands);
    let sqe = Sqe { opcode: 255, flags: 255, ioprio: 0xffff, fd: -1, addr, len: 512, ..Sqe::default() };
    assert_eq!(run(&mut ring, &sqe.into()), -libc::EINVAL);
    assert_eq!(ring.stats().commands, before);
}

#[test]
fn without_bounce_memory_a_vector_is_moved_in_place_or_refused_but_never_waits() {
    let (_model, device) = model();
    let mut ring = Ring::builder(8).bounce_limit(0).open_device(&device, 1).unwrap();
    let mut arena = ring.alloc(16384).unwrap();
    let base = arena.as_mut_ptr();
    let at = |offset: usize, len: usize| libc::iovec { iov_base: base.wrapping_add(offset).cast(), iov_len: len };
    let nothing = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let readv = |vector: &[libc::iovec]| {
        opcode::Readv::new(types::Fixed(0), vector.as_ptr(), vector.len() as u32).offset(0).build()
    };
    assert_eq!(run(&mut ring, &readv(&[nothing, at(0, 512), nothing, at(8192, 512)])), 1024);
    assert_eq!(run(&mut ring, &readv(&[at(0, 256), at(4096, 256)])), -libc::EFAULT, "no command can end there");
    assert_eq!(run(&mut ring, &readv(&[at(4096, 4096)])), 4096);
    // Registered memory inside the pool hides nothing of it.
    // SAFETY: the arena's memory lives as long as the ring's pool.
    unsafe { ring.submitter().register_buffers(&[at(4096, 4096)]).unwrap() };
    assert_eq!(run(&mut ring, &readv(&[at(8192, 4096)])), 4096);
    assert_eq!(run(&mut ring, &readv(&[at(0, 16384)])), 16384);
    assert_eq!(ring.stats().bounced_bytes, 0);
}

#[test]
fn a_descriptor_stays_readable_until_the_backlog_is_taken_too() {
    let (_model, device) = model();
    let mut ring = Ring::builder(2).cq_entries(2).open_device(&device, 1).unwrap();
    assert!(!wakes_within(&ring, PollTimeout::ZERO));
    for i in 0..5 {
        push(&mut ring, &opcode::Nop::new().build().user_data(i));
        ring.submit().unwrap();
    }
    let mut seen = Vec::new();
    while wakes_within(&ring, PollTimeout::ZERO) {
        seen.extend(ring.completion().map(|c| c.user_data()));
        assert!(seen.len() <= 5);
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}

#[test]
fn a_descriptor_is_readable_after_a_wait_that_took_nothing() {
    let (_model, device) = model();
    for mode in [CompletionMode::Poll, CompletionMode::Interrupt] {
        let mut ring = Ring::builder(8).completion(mode).open_device(&device, 1).unwrap();
        let mut buffer = ring.alloc(4096).unwrap();
        assert!(!wakes_within(&ring, PollTimeout::ZERO));
        push(&mut ring, &opcode::Read::new(types::Fixed(0), buffer.as_mut_ptr(), 4096).build());
        ring.submit_and_wait(1).unwrap();
        assert!(wakes_within(&ring, PollTimeout::ZERO), "{mode:?}");
        assert_eq!(ring.completion().count(), 1);
        assert!(!wakes_within(&ring, PollTimeout::ZERO), "{mode:?}");
    }
}

#[test]
fn a_program_that_sleeps_on_the_descriptor_learns_that_the_device_is_gone() {
    let (model, device) = model();
    let mut ring = Ring::builder(8).completion(CompletionMode::Interrupt).open_device(&device, 1).unwrap();
    let mut buffer = ring.alloc(4096).unwrap();
    assert!(!wakes_within(&ring, PollTimeout::ZERO));
    model.fault(Fault::new(Action::Gone));
    push(&mut ring, &opcode::Read::new(types::Fixed(0), buffer.as_mut_ptr(), 4096).build());
    ring.submit().unwrap();
    let mut results = Vec::new();
    while results.is_empty() {
        assert!(wakes_within(&ring, PollTimeout::from(3000u16)), "it would sleep for ever");
        results.extend(ring.completion().map(|c| c.result()));
    }
    assert_eq!(results, [-libc::ENODEV]);
}

#[test]
fn a_device_that_is_wanted_back_is_stopped_before_its_requests_fail() {
    let (model, device) = model();
    let mut ring = Ring::builder(8).open_device(&device, 1).unwrap();
    let mut buffer = ring.alloc(4096).unwrap();
    let read = opcode::Read::new(types::Fixed(0), buffer.as_mut_ptr(), 4096).build();
    model.fault(Fault::new(Action::Drop));
    push(&mut ring, &read);
    ring.submit().unwrap();
    assert!(Cc(model.read32(CC)).en());
    model.request_removal();
    ring.submit_and_wait(1).unwrap();
    assert_eq!(ring.completion().next().unwrap().result(), -libc::ENODEV);
    assert!(!Cc(model.read32(CC)).en(), "it could still have written the buffer");
    assert_eq!(run(&mut ring, &read), -libc::ENODEV);
}

#[test]
fn a_stopped_controller_is_refused_at_once() {
    let (model, device) = model();
    let mut ring = Ring::builder(8).open_device(&device, 1).unwrap();
    let mut buffer = ring.alloc(4096).unwrap();
    model.fault(Fault::new(Action::Fatal));
    let read = opcode::Read::new(types::Fixed(0), buffer.as_mut_ptr(), 4096).build();
    assert_eq!(run(&mut ring, &read), -libc::EIO);
    let began = Instant::now();
    let error = Ring::builder(8).open_device(&device, 1).unwrap_err();
    assert!(matches!(error, Error::Fatal { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_queue_that_is_refused_in_part_leaves_nothing_behind() {
    let (model, device) = model();
    for opcode in [admin::CREATE_IO_CQ, admin::CREATE_IO_SQ] {
        model.fault(Fault::new(Action::Fail(Status::INVALID_FIELD)).admin().opcode(opcode));
        let error = Ring::builder(8).open_device(&device, 1).unwrap_err();
        assert!(matches!(error, Error::Admin { .. }), "{error}");
        assert!(Cc(model.read32(CC)).en(), "a refusal is no reason to stop");
        drop(Ring::builder(8).open_device(&device, 1).unwrap());
    }
    // One that ends in a fatal status may have been carried out.
    model.fault(Fault::new(Action::Fatal).admin().opcode(admin::CREATE_IO_SQ));
    assert!(matches!(Ring::builder(8).open_device(&device, 1), Err(Error::Fatal { .. })));
    assert!(!Cc(model.read32(CC)).en());
}

/// Commands that zeroing `bytes` takes on a model that transfers up to `2^mdts` pages.
fn commands_to_zero(mdts: u8, bytes: u64) -> u64 {
    let config = ModelConfig { mdts, ..ModelConfig::new(vec![ModelNamespace::new(Storage::null(bytes))]) };
    let device = Device::on(Arc::new(Model::stepped("model:zeroes", config))).unwrap();
    let mut ring = Ring::builder(4).open_device(&device, 1).unwrap();
    let entry = opcode::Fallocate::new(types::Fixed(0), bytes).mode(libc::FALLOC_FL_ZERO_RANGE).build();
    assert_eq!(run(&mut ring, &entry), 0);
    ring.stats().commands
}

#[test]
fn zeroes_are_split_by_the_longest_transfer_and_by_65536_blocks() {
    assert_eq!(commands_to_zero(7, 64 << 20), 128);
    assert_eq!(commands_to_zero(7, (64 << 20) + 512), 129);
    assert_eq!(commands_to_zero(0, 65_536 * 512), 1);
    assert_eq!(commands_to_zero(0, 65_537 * 512), 2);
    // More commands than may be in flight at once.
    assert_eq!(commands_to_zero(1, 8 << 20), 1024);
}
