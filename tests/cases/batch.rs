//! What a submission consumes, and where it stops.

use io_uring::squeue::Entry;
use io_uring::{opcode, types};

use crate::case::{Bench, Case, Outcome, cases};
use crate::support::raw::edit;
use crate::support::rig::{Done, FILE, expect_errno, read, read_fixed, write};

pub(super) const ALL: &[Case] = cases![
    submitting_nothing_is_zero,
    a_batch_is_counted,
    a_batch_ends_with_the_first_entry_that_is_refused,
    the_rest_of_a_batch_follows_with_the_next_submission,
    errors_at_issue_do_not_end_a_batch,
    a_bad_fixed_buffer_does_not_end_a_batch,
    a_null_buffer_is_a_fault_that_does_not_end_a_batch,
    an_impossible_buffer_is_a_fault_that_ends_a_batch,
    waiting_for_less_than_all_returns_early,
    waiting_for_what_is_there_does_not_block,
];

fn nop(user_data: u64) -> Entry {
    opcode::Nop::new().build().user_data(user_data)
}

/// Refused while it is prepared.
fn bad(user_data: u64) -> Entry {
    edit(opcode::Nop::new().build(), |bytes| bytes[0] = 200).user_data(user_data)
}

fn sorted(mut done: Vec<Done>) -> Vec<(u64, i32)> {
    done.sort_by_key(|done| done.user_data);
    done.iter().map(|done| (done.user_data, done.res)).collect()
}

fn submitting_nothing_is_zero(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    assert_eq!(rig.ring.submit()?, 0);
    assert_eq!(rig.ring.submitter().submit()?, 0);
    assert_eq!(rig.ring.submit_and_wait(0)?, 0);
    assert_eq!(rig.ready(), []);
    Ok(())
}

fn a_batch_is_counted(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    for count in [1, 3, 8] {
        for i in 0..count {
            rig.push(&read(&memory.part(0, 512), 0).user_data(i))?;
        }
        assert_eq!(rig.ring.submit()?, count as usize);
        assert!(rig.ring.submission().is_empty());
        assert_eq!(rig.wait(count as usize)?.len(), count as usize);
        assert_eq!(rig.ring.submit()?, 0);
    }
    Ok(())
}

fn a_batch_ends_with_the_first_entry_that_is_refused(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    for entry in [nop(1), nop(2), bad(3), nop(4), nop(5)] {
        rig.push(&entry)?;
    }
    assert_eq!(rig.ring.submit()?, 3, "the refused one is counted");
    assert_eq!(sorted(rig.wait(3)?), [(1, 0), (2, 0), (3, -libc::EINVAL)]);
    assert_eq!(rig.ring.submission().len(), 2, "the rest stays in the ring");
    Ok(())
}

fn the_rest_of_a_batch_follows_with_the_next_submission(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.filled(1, 0, 4096);
    for entry in [bad(1), write(&memory, 0).user_data(2), bad(3), bad(4), nop(5)] {
        rig.push(&entry)?;
    }
    for expected in [1, 2, 1, 1, 0] {
        assert_eq!(rig.ring.submit()?, expected);
    }
    let einval = -libc::EINVAL;
    assert_eq!(sorted(rig.wait(5)?), [(1, einval), (2, 4096), (3, einval), (4, einval), (5, 0)]);
    rig.expect(1, 0, 4096)?;
    Ok(())
}

fn errors_at_issue_do_not_end_a_batch(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(16)?;
    let memory = rig.plain(4096);
    let end = rig.size();
    let bad_file = opcode::Read::new(types::Fixed(99), memory.ptr(), 512).build();
    let bad_flags = opcode::Read::new(FILE, memory.ptr(), 512).rw_flags(1 << 30).build();
    let entries = [
        (write(&memory, end), -libc::ENOSPC),
        (read(&memory, 1), -libc::EINVAL),
        (bad_file, -libc::EBADF),
        (bad_flags, -libc::EOPNOTSUPP),
        (read(&memory, u64::MAX - 1), -libc::EINVAL),
        (read(&memory, 0), 4096),
    ];
    for (i, (entry, _)) in entries.iter().enumerate() {
        rig.push(&entry.clone().user_data(i as u64))?;
    }
    assert_eq!(rig.ring.submit()?, entries.len());
    let expected: Vec<_> = entries.iter().enumerate().map(|(i, (_, res))| (i as u64, *res)).collect();
    assert_eq!(sorted(rig.wait(entries.len())?), expected);
    Ok(())
}

fn a_bad_fixed_buffer_does_not_end_a_batch(bench: &Bench) -> Outcome {
    bench.since(6, 15)?;
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    rig.register(&[&memory.part(0, 512)])?;
    rig.push(&read_fixed(&memory.part(0, 512), 7, 0).user_data(1))?;
    rig.push(&read_fixed(&memory, 0, 0).user_data(2))?;
    rig.push(&nop(3))?;
    assert_eq!(rig.ring.submit()?, 3);
    assert_eq!(sorted(rig.wait(3)?), [(1, -libc::EFAULT), (2, -libc::EFAULT), (3, 0)]);
    Ok(())
}

fn a_null_buffer_is_a_fault_that_does_not_end_a_batch(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    for (i, address) in [0usize, 512].into_iter().enumerate() {
        rig.push(&opcode::Read::new(FILE, address as *mut u8, 512).offset(0).build().user_data(i as u64))?;
    }
    rig.push(&opcode::Write::new(FILE, std::ptr::null(), 512).offset(0).build().user_data(2))?;
    rig.push(&nop(3))?;
    assert_eq!(rig.ring.submit()?, 4);
    let fault = -libc::EFAULT;
    assert_eq!(sorted(rig.wait(4)?), [(0, fault), (1, fault), (2, fault), (3, 0)]);
    Ok(())
}

fn an_impossible_buffer_is_a_fault_that_ends_a_batch(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    for address in [1usize << 63, usize::MAX - 511] {
        rig.push(&opcode::Read::new(FILE, address as *mut u8, 512).offset(0).build().user_data(1))?;
        rig.push(&nop(2))?;
        assert_eq!(rig.ring.submit()?, 1, "address {address:#x}");
        expect_errno(rig.wait(1)?[0].res, libc::EFAULT, "an address of the kernel's half");
        assert_eq!(rig.ring.submit()?, 1);
        assert_eq!(sorted(rig.wait(1)?), [(2, 0)]);
    }
    Ok(())
}

fn waiting_for_less_than_all_returns_early(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(32)?;
    let memory = rig.plain(32 * 4096);
    for i in 0..32 {
        rig.push(&read(&memory.part(i * 4096, 4096), 4096 * i as u64).user_data(i as u64))?;
    }
    assert_eq!(rig.ring.submit_and_wait(1)?, 32);
    let first = rig.ready();
    assert!(!first.is_empty());
    let rest = rig.wait(32 - first.len())?;
    assert_eq!(first.len() + rest.len(), 32);
    assert!(first.iter().chain(&rest).all(|done| done.res == 4096));
    Ok(())
}

fn waiting_for_what_is_there_does_not_block(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    for i in 0..4 {
        rig.push(&nop(i))?;
    }
    assert_eq!(rig.ring.submit_and_wait(4)?, 4);
    // They are still in the ring.
    for want in 0..=4 {
        assert_eq!(rig.ring.submit_and_wait(want)?, 0);
    }
    assert_eq!(rig.ready().len(), 4);
    Ok(())
}
