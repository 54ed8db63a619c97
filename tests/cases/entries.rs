//! Rings of larger entries: SQE128, CQE32, both, with and without an index array. Everything works on them
//! as on ordinary rings.

use dmaring::RingBuilder;
use io_uring::squeue::{Entry, EntryMarker};
use io_uring::{opcode, types};

use crate::case::{Bench, Case, Outcome, cases};
use crate::support::pattern;
use crate::support::raw::{Memory, edit};
use crate::support::rig::{Completion, FILE, Rig, expect_errno, read, read_fixed, write, write_fixed};

pub(super) const ALL: &[Case] = cases![
    rings_of_large_submission_entries_serve_all_operations,
    rings_of_large_completion_entries_serve_all_operations,
    rings_of_large_entries_serve_all_operations,
    large_entries_across_the_wrap_stay_themselves,
    large_completions_beyond_the_ring_wait_in_order,
    refused_large_entries_end_a_batch,
];

fn rings_of_large_submission_entries_serve_all_operations(bench: &Bench) -> Outcome {
    both_orders(bench, |entries| bench.builder(entries).sqe128())
}

fn rings_of_large_completion_entries_serve_all_operations(bench: &Bench) -> Outcome {
    both_orders(bench, |entries| bench.builder(entries).cqe32())
}

fn rings_of_large_entries_serve_all_operations(bench: &Bench) -> Outcome {
    both_orders(bench, |entries| bench.builder(entries).cqe32().sqe128())
}

/// All operations, on a ring with and one without an index array.
fn both_orders<S, C>(bench: &Bench, builder: impl Fn(u32) -> RingBuilder<S, C>) -> Outcome
where
    S: EntryMarker,
    C: Completion,
{
    for sq_array in [false, true] {
        operations(&mut bench.open(builder(8).sq_array(sq_array))?)?;
    }
    Ok(())
}

fn operations<S: EntryMarker, C: Completion>(rig: &mut Rig<S, C>) -> Outcome {
    let plain = rig.plain(1 << 20);
    let own = rig.alloc(1 << 20)?;
    rig.register(&[&plain])?;
    for len in [512, 4096, 12288, 1 << 20] {
        for memory in [&plain, &own] {
            let part = memory.part(0, len);
            let vector = [part.iovec()];
            part.write(&pattern::bytes(len as u64, 0, len));
            assert_eq!(rig.one(write(&part, 0))?, len as i32);
            for kind in 0..3 {
                part.write(&vec![0; len]);
                let iovecs = rig.iovecs(&vector);
                let entry = match kind {
                    0 => read(&part, 0),
                    1 => opcode::Readv::new(FILE, iovecs, 1).offset(0).build(),
                    _ if memory.ptr() == plain.ptr() => read_fixed(&part, 0, 0),
                    _ => continue,
                };
                assert_eq!(rig.one(entry)?, len as i32, "{len} bytes, kind {kind}");
                pattern::check(len as u64, 0, &part.read());
            }
        }
    }
    plain.part(0, 4096).write(&pattern::bytes(9, 4096, 4096));
    assert_eq!(rig.one(write_fixed(&plain.part(0, 4096), 0, 4096))?, 4096);
    rig.expect(9, 4096, 4096)?;
    assert_eq!(rig.one(opcode::Nop::new().build())?, 0);
    assert_eq!(rig.one(opcode::Fsync::new(FILE).build())?, 0);
    let zero = opcode::Fallocate::new(FILE, 4096).offset(4096).mode(libc::FALLOC_FL_ZERO_RANGE).build();
    assert_eq!(rig.one(zero)?, 0);
    assert_eq!(rig.get(4096, 4096)?, [0; 4096]);
    expect_errno(rig.one(read(&plain.part(0, 512), 1))?, libc::EINVAL, "unaligned");
    let nowhere = opcode::Read::new(types::Fixed(9), plain.ptr(), 512).build();
    expect_errno(rig.one(nowhere)?, libc::EBADF, "no such file");
    expect_errno(rig.one(edit(opcode::Nop::new().build(), |bytes| bytes[0] = 255))?, libc::EINVAL, "opcode");
    // Many at once, of both paths of a device.
    let parts: Vec<Memory> = (0..128).map(|i| plain.part(i * 4096, 4096)).collect();
    let offset = |i: usize| i as u64 * 4096;
    plain.write(&pattern::bytes(11, 0, 1 << 20));
    let writes: Vec<Entry> = (0..128).map(|i| write_fixed(&parts[i], 0, offset(i))).collect();
    assert_eq!(rig.all(&writes)?, [4096; 128]);
    plain.write(&vec![0; 1 << 20]);
    let reads: Vec<Entry> = (0..128).map(|i| read(&parts[i], offset(i))).collect();
    assert_eq!(rig.all(&reads)?, [4096; 128]);
    pattern::check(11, 0, &plain.part(0, 128 * 4096).read());
    Ok(())
}

fn large_entries_across_the_wrap_stay_themselves(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(4).sqe128().cqe32())?;
    let mut next = 0;
    for batch in (0..200).map(|i| 1 + i % 4) {
        for i in 0..batch {
            rig.push(&opcode::Nop::new().build().user_data(next + i).into())?;
        }
        assert_eq!(rig.ring.submit_and_wait(batch as usize)?, batch as usize);
        let seen: Vec<u64> = rig.wait(batch as usize)?.iter().map(|done| done.user_data).collect();
        assert_eq!(seen, (next..next + batch).collect::<Vec<_>>());
        next += batch;
    }
    Ok(())
}

fn large_completions_beyond_the_ring_wait_in_order(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(4).sqe128().cqe32())?;
    for i in 0..40 {
        rig.push(&opcode::Nop::new().build().user_data(i).into())?;
        assert_eq!(rig.ring.submit()?, 1);
    }
    assert!(rig.ring.submission().cq_overflow());
    let seen: Vec<u64> = rig.wait(40)?.iter().map(|done| done.user_data).collect();
    assert_eq!(seen, (0..40).collect::<Vec<_>>());
    assert_eq!(rig.ring.completion().overflow(), 0);
    Ok(())
}

fn refused_large_entries_end_a_batch(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(4).sqe128().cqe32())?;
    let nop = || opcode::Nop::new().build();
    let unknown = edit(nop(), |bytes| bytes[0] = 255);
    for entry in [nop(), unknown, nop()] {
        rig.push(&entry.into())?;
    }
    assert_eq!(rig.ring.submit()?, 2);
    assert_eq!(rig.wait(2)?.iter().map(|done| done.res).collect::<Vec<_>>(), [0, -libc::EINVAL]);
    assert_eq!(rig.ring.submit()?, 1);
    assert_eq!(rig.wait(1)?[0].res, 0);
    Ok(())
}
