//! Chains that are under way on the straight line while something changes around them.

#![expect(unsafe_code)] // pushes entries whose buffers it owns

use std::sync::Arc;

use dmaring::model::{Model, ModelConfig};
use dmaring::{Device, DmaBuf, Ring};
use io_uring::squeue::{Entry, Flags};
use io_uring::{opcode, types};

const SIZE: u64 = 1 << 20;

fn device() -> Device {
    Device::on(Arc::new(Model::stepped("model:chains", ModelConfig::ram(SIZE).unwrap()))).unwrap()
}

/// A ring whose file 0 takes the straight line, and its registered buffer of 64 KiB.
fn ring() -> (Ring, DmaBuf) {
    let mut ring = Ring::builder(8).open_device(&device(), 1).unwrap();
    let mut buffer = ring.alloc(64 << 10).unwrap();
    let iovec = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: tests keep the buffer as long as the ring.
    unsafe { ring.submitter().register_buffers(&[iovec]).unwrap() };
    push(&mut ring, &read(&mut buffer, 0, 4096));
    ring.submit_and_wait(1).unwrap();
    assert_eq!(take(&mut ring), [(0, 4096)]);
    (ring, buffer)
}

fn push(ring: &mut Ring, entry: &Entry) {
    // SAFETY: tests keep the buffers of their entries as long as the ring.
    unsafe { ring.submission().push(entry).unwrap() };
}

fn read(buffer: &mut DmaBuf, file: u32, len: u32) -> Entry {
    opcode::ReadFixed::new(types::Fixed(file), buffer.as_mut_ptr(), len, 0).build()
}

fn take(ring: &mut Ring) -> Vec<(u64, i32)> {
    ring.completion().map(|completion| (completion.user_data(), completion.result())).collect()
}

#[test]
fn a_member_finds_no_file_that_went_before_its_turn() {
    let (mut ring, mut buffer) = ring();
    let other = ring.add_device(&device(), 1).unwrap();
    push(&mut ring, &read(&mut buffer, 0, 4096));
    ring.submit_and_wait(1).unwrap();
    take(&mut ring);
    push(&mut ring, &read(&mut buffer, 0, 4096).flags(Flags::IO_LINK).user_data(1));
    push(&mut ring, &opcode::WriteFixed::new(types::Fixed(0), buffer.as_mut_ptr(), 4096, 0).build().user_data(2));
    ring.submit().unwrap();
    // Another file is the hot one now, on another queue.
    push(&mut ring, &read(&mut buffer, other.0, 4096).user_data(3));
    ring.submit().unwrap();
    // `struct io_uring_files_update`: place 0 becomes a hole.
    let hole = -1i32;
    let update = [0u64, (&raw const hole) as u64];
    // SAFETY: the structure that FILES_UPDATE (6) takes, with one descriptor.
    assert_eq!(unsafe { ring.submitter().register(6, update.as_ptr().cast(), 1) }.unwrap(), 1);
    ring.submit_and_wait(3).unwrap();
    let mut taken = take(&mut ring);
    taken.sort_unstable();
    assert_eq!(taken, [(1, 4096), (2, -libc::EBADF), (3, 4096)]);
}

#[test]
fn a_member_that_is_given_back_has_its_turn_whatever_the_program_does() {
    let (mut ring, mut buffer) = ring();
    // A piece of the pool that is given back under way, so that the next one has to wait for the device.
    let piece = ring.alloc(16 << 20).unwrap();
    push(&mut ring, &read(&mut buffer, 0, 4096).flags(Flags::IO_LINK).user_data(1));
    // Longer than the straight line takes.
    push(&mut ring, &read(&mut buffer, 0, 64 << 10).user_data(2));
    ring.submit().unwrap();
    drop(piece);
    let _again = ring.alloc(16 << 20).unwrap();
    // A program that is content with the completion of the moment.
    let mut taken = Vec::new();
    for _ in 0..8 {
        push(&mut ring, &read(&mut buffer, 0, 4096).user_data(3));
        ring.submit_and_wait(1).unwrap();
        taken.extend(take(&mut ring));
    }
    assert!(taken.contains(&(1, 4096)) && taken.contains(&(2, 64 << 10)), "{taken:?}");
}
