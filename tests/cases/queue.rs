//! The rings as a program sees them: sizes, fullness, the index array, the three faces.

use io_uring::opcode;
use io_uring::squeue::Entry;

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::raw::{push_all, push_to};
use crate::support::rig::{read, write};

pub(super) const ALL: &[Case] = cases![
    a_full_submission_queue_refuses_entries,
    entries_are_rounded_up_to_a_power_of_two,
    impossible_numbers_of_entries_are_refused,
    rings_of_one_entry_work,
    large_rings_work,
    rings_with_an_index_array_work,
    indices_wrap_around,
    the_faces_of_a_split_ring_work_together,
    pushing_many_pushes_all_or_none,
    two_rings_on_one_device_do_not_mix,
    a_ring_that_was_dropped_can_be_opened_again,
];

fn nop(user_data: u64) -> Entry {
    opcode::Nop::new().build().user_data(user_data)
}

fn a_full_submission_queue_refuses_entries(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    for i in 0..4 {
        assert!(!rig.ring.submission().is_full());
        rig.push(&nop(i))?;
    }
    assert!(rig.ring.submission().is_full());
    assert_eq!(rig.ring.submission().len(), 4);
    assert!(rig.push(&nop(4)).is_err());
    assert_eq!(rig.ring.submit_and_wait(4)?, 4);
    let taken: Vec<u64> = rig.ready().iter().map(|done| done.user_data).collect();
    assert_eq!(taken, [0, 1, 2, 3], "the refused one left nothing");
    Ok(())
}

fn entries_are_rounded_up_to_a_power_of_two(bench: &Bench) -> Outcome {
    for (asked, sq, cq) in [(1, 1, 2), (2, 2, 4), (3, 4, 8), (33, 64, 128)] {
        let mut rig = bench.rig(asked)?;
        assert_eq!(rig.ring.submission().capacity(), sq);
        assert_eq!(rig.ring.completion().capacity(), cq);
    }
    let mut rig = bench.open(bench.builder(4).cq_entries(33))?;
    assert_eq!(rig.ring.completion().capacity(), 64);
    Ok(())
}

fn impossible_numbers_of_entries_are_refused(bench: &Bench) -> Outcome {
    let builders = [
        (bench.builder(0), "0"),
        (bench.builder(40_000), "40000"),
        (bench.builder(u32::MAX), "4294967295"),
        (bench.builder(8).cq_entries(0), "8"),
        (bench.builder(8).cq_entries(4), "8"),
        (bench.builder(8).cq_entries(100_000), "8"),
    ];
    for (builder, number) in builders {
        match bench.ring(builder.clone()) {
            Ok(_) => return Err(Stop::Fail(format!("{builder:?} was opened"))),
            Err(error) => {
                assert_eq!(error.errno(), libc::EINVAL, "{error}");
                let text = error.to_string();
                assert!(text.contains(number) && text.contains("32768"), "{text}");
            }
        }
    }
    Ok(())
}

fn rings_of_one_entry_work(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(1)?;
    for round in 0..10u64 {
        rig.put(round, round * 4096, 4096)?;
        rig.expect(round, round * 4096, 4096)?;
    }
    Ok(())
}

fn large_rings_work(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4096)?;
    rig.put(1, 0, 1 << 20)?;
    let memory = rig.plain(4096 * 512);
    let reads: Vec<_> = (0..4096).map(|i| read(&memory.part(i * 512, 512), (i as u64 * 512) % (1 << 20))).collect();
    assert_eq!(rig.all(&reads)?, vec![512; 4096]);
    crate::support::pattern::check(1, 0, &memory.part(0, 1 << 20).read());
    crate::support::pattern::check(1, 0, &memory.part(1 << 20, 1 << 20).read());
    Ok(())
}

fn rings_with_an_index_array_work(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(8).sq_array(true))?;
    let fixed = rig.plain(65536);
    rig.register(&[&fixed])?;
    for round in 0..20u64 {
        rig.put(round, round * 8192, 8192)?;
        rig.expect(round, round * 8192, 8192)?;
        let part = fixed.part(0, 8192);
        assert_eq!(rig.one(crate::support::rig::read_fixed(&part, 0, round * 8192))?, 8192);
        crate::support::pattern::check(round, round * 8192, &part.read());
    }
    for i in 0..8 {
        rig.push(&nop(i))?;
    }
    assert!(rig.push(&nop(8)).is_err());
    assert_eq!(rig.ring.submit_and_wait(8)?, 8);
    assert_eq!(rig.ready().len(), 8);
    assert_eq!(rig.ring.submission().dropped(), 0);
    Ok(())
}

fn indices_wrap_around(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(8).cq_entries(8))?;
    let memory = rig.plain(512);
    let mut next = 0u64;
    // Batches of all sizes, so that every position of the rings is the first and the last of one.
    for round in 0..300 {
        let batch = 1 + round % 8;
        for i in 0..batch {
            let entry = if round % 3 == 0 { read(&memory, 0) } else { nop(0) };
            rig.push(&entry.user_data(next + i))?;
        }
        rig.ring.submit_and_wait(batch as usize)?;
        let mut taken: Vec<u64> = rig.ready().iter().map(|done| done.user_data).collect();
        taken.sort_unstable();
        assert_eq!(taken, (next..next + batch).collect::<Vec<_>>());
        next += batch;
    }
    Ok(())
}

fn the_faces_of_a_split_ring_work_together(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.filled(5, 0, 4096);
    let (submitter, mut sq, mut cq) = rig.ring.split();
    for round in 0..5 {
        push_to(&mut sq, &write(&memory, 0).user_data(round))?;
        push_to(&mut sq, &nop(100 + round))?;
        assert_eq!(sq.len(), 2);
        sq.sync();
        assert_eq!(submitter.submit_and_wait(2)?, 2);
        sq.sync();
        assert!(sq.is_empty());
        cq.sync();
        let mut taken: Vec<(u64, i32)> = cq.by_ref().map(|cqe| (cqe.user_data(), cqe.result())).collect();
        taken.sort_unstable();
        assert_eq!(taken, [(round, 4096), (100 + round, 0)]);
        cq.sync();
        assert!(cq.is_empty());
    }
    drop((sq, cq));
    rig.expect(5, 0, 4096)?;
    Ok(())
}

fn pushing_many_pushes_all_or_none(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let many: Vec<_> = (0..5).map(nop).collect();
    assert!(push_all(&mut rig.ring, &many).is_err());
    assert_eq!(rig.ring.submission().len(), 0);
    push_all(&mut rig.ring, &many[..4])?;
    assert_eq!(rig.ring.submit_and_wait(4)?, 4);
    assert_eq!(rig.ready().len(), 4);
    Ok(())
}

fn two_rings_on_one_device_do_not_mix(bench: &Bench) -> Outcome {
    let (mut first, mut second) = (bench.rig(8)?, bench.rig(8)?);
    for round in 0..10u64 {
        let (a, b) = (first.filled(round, 0, 65536), second.filled(round + 100, 1 << 20, 65536));
        first.push(&write(&a, 0).user_data(1))?;
        second.push(&write(&b, 1 << 20).user_data(2))?;
        first.ring.submit()?;
        second.ring.submit()?;
        let (first_done, second_done) = (first.wait(1)?, second.wait(1)?);
        assert_eq!((first_done[0].user_data, first_done[0].res), (1, 65536));
        assert_eq!((second_done[0].user_data, second_done[0].res), (2, 65536));
        first.expect(round + 100, 1 << 20, 65536)?;
        second.expect(round, 0, 65536)?;
    }
    drop(first);
    second.expect(9, 0, 65536)?;
    Ok(())
}

fn a_ring_that_was_dropped_can_be_opened_again(bench: &Bench) -> Outcome {
    for round in 0..5u64 {
        let mut rig = bench.rig(8)?;
        if round > 0 {
            rig.expect(round - 1, 4096, 65536)?;
        }
        rig.put(round, 4096, 65536)?;
    }
    Ok(())
}
