//! READV_FIXED and WRITEV_FIXED.

use io_uring::squeue::Entry;
use io_uring::{opcode, types};

use crate::case::{Bench, Case, Outcome, cases};
use crate::support::raw::Memory;
use crate::support::rig::{FILE, Rig, expect_errno};

pub(super) const ALL: &[Case] = cases![
    vectors_of_a_registered_buffer_move_data,
    vectors_outside_their_registered_buffer_are_a_fault,
    empty_vectors_move_nothing_and_empty_segments_are_a_fault,
    segments_that_cannot_be_memory_are_a_fault_when_they_are_issued,
];

fn entry(rig: &mut Rig, write: bool, parts: &[Memory], index: u16, offset: u64) -> Entry {
    let iovecs: Vec<_> = parts.iter().map(Memory::iovec).collect();
    vector(rig, write, &iovecs, index, offset)
}

fn vector(rig: &mut Rig, write: bool, iovecs: &[libc::iovec], index: u16, offset: u64) -> Entry {
    let (array, count) = (rig.iovecs(iovecs), iovecs.len() as u32);
    if write {
        opcode::WritevFixed::new(FILE, array, count, index).offset(offset).build()
    } else {
        opcode::ReadvFixed::new(FILE, array, count, index).offset(offset).build()
    }
}

fn vectors_of_a_registered_buffer_move_data(bench: &Bench) -> Outcome {
    bench.since(6, 15)?;
    let mut rig = bench.rig(4)?;
    let memory = rig.filled(3, 0, 16384);
    let (first, second) = (memory.part(0, 4096), memory.part(4096, 1536));
    rig.register(&[&memory])?;
    let write = entry(&mut rig, true, &[first.clone(), second.clone()], 0, 8192);
    assert_eq!(rig.one(write)?, 5632);
    let (third, fourth) = (memory.part(8192, 512), memory.part(8704, 5120));
    let read = entry(&mut rig, false, &[third, fourth], 0, 8192);
    assert_eq!(rig.one(read)?, 5632);
    assert_eq!(memory.part(8192, 5632).read(), memory.part(0, 5632).read());
    Ok(())
}

fn vectors_outside_their_registered_buffer_are_a_fault(bench: &Bench) -> Outcome {
    bench.since(6, 15)?;
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(16384);
    let (inside, outside) = (memory.part(0, 4096), memory.part(8192, 4096));
    rig.register(&[&inside])?;
    for write in [false, true] {
        let straddles = entry(&mut rig, write, &[inside.clone(), outside.clone()], 0, 0);
        expect_errno(rig.one(straddles)?, libc::EFAULT, "one segment outside");
        let unknown = entry(&mut rig, write, std::slice::from_ref(&inside), 1, 0);
        expect_errno(rig.one(unknown)?, libc::EFAULT, "no such buffer");
    }
    let gone = types::Fixed(99);
    let iovecs = [inside.iovec()];
    let array = rig.iovecs(&iovecs);
    expect_errno(rig.one(opcode::ReadvFixed::new(gone, array, 1, 0).build())?, libc::EBADF, "no such file");
    Ok(())
}

fn empty_vectors_move_nothing_and_empty_segments_are_a_fault(bench: &Bench) -> Outcome {
    bench.since(6, 15)?;
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    rig.register(&[&memory])?;
    for write in [false, true] {
        let nothing = vector(&mut rig, write, &[], 0, 0);
        assert_eq!(rig.one(nothing)?, 0, "no segments");
        let hollow = entry(&mut rig, write, &[memory.part(0, 512), memory.part(512, 0)], 0, 0);
        expect_errno(rig.one(hollow)?, libc::EFAULT, "an empty segment");
    }
    let nothing = vector(&mut rig, false, &[], 1, 0);
    expect_errno(rig.one(nothing)?, libc::EFAULT, "no segments of no buffer");
    Ok(())
}

fn segments_that_cannot_be_memory_are_a_fault_when_they_are_issued(bench: &Bench) -> Outcome {
    bench.since(6, 15)?;
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    rig.register(&[&memory])?;
    let good = memory.part(0, 512).iovec();
    for address in [0, 8, 1 << 47, 1 << 63, usize::MAX - 4095] {
        for write in [false, true] {
            let bad = libc::iovec { iov_base: address as *mut _, iov_len: 512 };
            let entry = vector(&mut rig, write, &[good, bad], 0, 0);
            rig.push(&entry)?;
            rig.push(&opcode::Nop::new().build())?;
            assert_eq!(rig.ring.submit()?, 2, "address {address:#x} does not end the batch");
            let mut results: Vec<i32> = rig.wait(2)?.iter().map(|done| done.res).collect();
            results.sort_unstable();
            assert_eq!(results, [-libc::EFAULT, 0], "address {address:#x}");
        }
    }
    // The array itself, and a length that cannot be, are looked at while it is prepared.
    let negative = libc::iovec { iov_base: good.iov_base, iov_len: usize::MAX };
    let negative = vector(&mut rig, false, &[good, negative], 0, 0);
    let nowhere = opcode::ReadvFixed::new(FILE, (1usize << 63) as *const _, 1, 0).build();
    for (entry, errno) in [(negative, libc::EINVAL), (nowhere, libc::EFAULT)] {
        rig.push(&entry)?;
        rig.push(&opcode::Nop::new().build())?;
        assert_eq!(rig.ring.submit()?, 1, "the batch ends");
        expect_errno(rig.wait(1)?[0].res, errno, "while preparing");
        assert_eq!(rig.ring.submit()?, 1);
        rig.wait(1)?;
    }
    Ok(())
}
