//! IO_LINK and IO_HARDLINK: what waits for what, and what breaks a chain at issue.

use io_uring::squeue::Entry;
use io_uring::{opcode, types};

use crate::case::{Bench, Case, Outcome, cases};
use crate::support::pattern;
use crate::support::rig::{FILE, Rig, read, write};
use crate::support::script::{Flagged, LONG, inject, nop, sorted};

pub(super) const ALL: &[Case] = cases![
    links_run_one_after_the_other,
    completions_of_a_chain_come_in_its_order,
    a_chain_copies_through_memory,
    what_a_linked_operation_names_is_read_when_it_is_submitted,
    an_error_at_issue_cancels_the_rest,
    a_short_transfer_cancels_the_rest,
    an_empty_transfer_that_was_asked_for_does_not,
    hard_links_survive_errors_and_short_transfers,
    of_both_links_the_hard_one_counts,
    kinds_of_links_mix,
    an_injected_result_breaks_a_link_if_it_is_an_error,
    chains_of_one_submission_are_independent,
    entries_after_a_chain_do_not_wait_for_it,
    a_chain_may_fill_the_ring,
    a_chain_ends_with_its_submission,
    a_waiting_chain_is_not_joined_by_the_next_submission,
];

const ECANCELED: i32 = -libc::ECANCELED;

/// Operations that fail when they are issued, with their errors.
fn failures(rig: &mut Rig) -> Vec<(Entry, i32)> {
    let memory = rig.plain(4096);
    let end = rig.size();
    let flags = opcode::Read::new(FILE, memory.ptr(), 512).rw_flags(1 << 30).build();
    vec![
        (write(&memory, end), -libc::ENOSPC),
        (read(&memory, 1), -libc::EINVAL),
        (opcode::Read::new(types::Fixed(99), memory.ptr(), 512).build(), -libc::EBADF),
        (flags, -libc::EOPNOTSUPP),
        (opcode::Read::new(FILE, 512 as *mut u8, 512).offset(0).build(), -libc::EFAULT),
        (opcode::Fsync::new(types::Fixed(99)).build(), -libc::EBADF),
        (opcode::TimeoutRemove::new(99).build(), -libc::ENOENT),
    ]
}

fn links_run_one_after_the_other(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(64)?;
    let read_back: Vec<_> = (0..16).map(|_| rig.plain(8192)).collect();
    for hard in [false, true] {
        let mut chain = Vec::new();
        for (seed, memory) in read_back.iter().enumerate() {
            memory.write(&[0; 8192]);
            let data = rig.filled(seed as u64, 4096, 8192);
            chain.extend([write(&data, 4096), read(memory, 4096)]);
        }
        let last = chain.pop().expect("it has members");
        chain = chain.into_iter().map(|entry| if hard { entry.hard() } else { entry.link() }).collect();
        chain.push(last);
        assert_eq!(rig.results(&chain)?, [8192; 32]);
        for (seed, memory) in read_back.iter().enumerate() {
            pattern::check(seed as u64, 4096, &memory.read());
        }
    }
    Ok(())
}

fn completions_of_a_chain_come_in_its_order(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(65536);
    let small = memory.part(0, 512);
    let chain = [
        read(&memory, 0).link(),
        nop().link(),
        read(&small, 0).hard(),
        opcode::Fsync::new(FILE).build().link(),
        write(&small, 0).link(),
        nop(),
    ];
    let expected = [(0, 65536), (1, 0), (2, 512), (3, 0), (4, 512), (5, 0)];
    for _ in 0..20 {
        assert_eq!(rig.send(0, &chain)?, 6);
        assert_eq!(rig.take(6)?, expected);
    }
    Ok(())
}

fn a_chain_copies_through_memory(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    rig.put(7, 0, 65536)?;
    let memory = rig.plain(65536);
    assert_eq!(rig.results(&[read(&memory, 0).link(), write(&memory, 1 << 20)])?, [65536; 2]);
    assert_eq!(rig.get(1 << 20, 65536)?, rig.get(0, 65536)?);
    pattern::check(7, 0, &rig.get(1 << 20, 65536)?);
    Ok(())
}

/// `IORING_FEAT_SUBMIT_STABLE`: vectors and timespecs are read at submission, data of writes when they run.
fn what_a_linked_operation_names_is_read_when_it_is_submitted(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let (data, into, other) = (rig.filled(1, 0, 4096), rig.plain(4096), rig.plain(4096));
    let vector = |memory: &crate::support::raw::Memory| crate::support::raw::Memory::of_iovecs(&[memory.iovec()]);
    let iovecs = rig.keep(vector(&into));
    let time = rig.timespec(0, 1);
    let chain = [
        rig.counted(1).link(),
        write(&data, 0).link(),
        opcode::Readv::new(FILE, iovecs.ptr().cast(), 1).offset(0).build().link(),
        opcode::Timeout::new(time.ptr().cast()).build(),
    ];
    assert_eq!(rig.send(0, &chain)?, 4);
    rig.quiet()?;
    iovecs.write(&vector(&other).read());
    time.write(&1_000_000u64.to_ne_bytes());
    data.write(&pattern::bytes(2, 0, 4096));
    assert_eq!(rig.send(4, &[nop()])?, 1);
    assert_eq!(sorted(rig.take(5)?), [(0, 0), (1, 4096), (2, 4096), (3, -libc::ETIME), (4, 0)]);
    pattern::check(2, 0, &into.read());
    assert_eq!(other.read(), [0; 4096]);
    Ok(())
}

fn an_error_at_issue_cancels_the_rest(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    rig.put(1, 0, 4096)?;
    let memory = rig.filled(2, 0, 4096);
    for (failure, error) in failures(&mut rig) {
        for at in 0..4 {
            let mut chain: Vec<_> =
                (0..4).map(|i| if i < at { nop().link() } else { write(&memory, 0).link() }).collect();
            chain[at] = failure.clone().link();
            chain[3] = if at == 3 { failure.clone() } else { write(&memory, 0) };
            let expected = [0, 1, 2, 3].map(|i| match i {
                i if i < at => 0,
                i if i == at => error,
                _ => ECANCELED,
            });
            // They come in the order of the chain, too.
            assert_eq!(rig.send(0, &chain)?, 4);
            let done = rig.take(4)?;
            assert_eq!(done, (0..4).zip(expected).collect::<Vec<_>>(), "{failure:?} at {at}");
        }
    }
    rig.expect(1, 0, 4096)?;
    rig.works()
}

fn a_short_transfer_cancels_the_rest(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let end = rig.size();
    for (short, res) in [
        (read(&memory, end - 512), 512),
        (read(&memory, end), 0),
        (read(&memory, end + 8192), 0),
        (write(&memory, end - 1024), 1024),
    ] {
        let chain = [short.clone().link(), nop().link(), nop()];
        assert_eq!(rig.results(&chain)?, [res, ECANCELED, ECANCELED]);
        assert_eq!(rig.results(&[nop().link(), short.clone().link(), nop()])?, [0, res, ECANCELED]);
        assert_eq!(rig.results(&[nop().link(), nop().link(), short, nop()])?, [0, 0, res, 0]);
    }
    rig.works()
}

fn an_empty_transfer_that_was_asked_for_does_not(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let end = rig.size();
    for empty in [read(&memory.part(0, 0), 0), read(&memory.part(0, 0), end), write(&memory.part(0, 0), 0)] {
        assert_eq!(rig.results(&[empty.link(), nop().link(), nop()])?, [0, 0, 0]);
    }
    rig.works()
}

fn hard_links_survive_errors_and_short_transfers(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let end = rig.size();
    let mut failures = failures(&mut rig);
    failures.extend([(read(&memory, end - 512), 512), (read(&memory, end), 0), (write(&memory, end - 512), 512)]);
    for (failure, res) in failures {
        let chain = [failure.clone().hard(), nop().hard(), failure.hard(), read(&memory, 0)];
        assert_eq!(rig.send(0, &chain)?, 4);
        assert_eq!(rig.take(4)?, [(0, res), (1, 0), (2, res), (3, 4096)]);
    }
    rig.works()
}

fn of_both_links_the_hard_one_counts(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let chain = [read(&memory, 1).link().hard(), read(&memory, 0)];
    assert_eq!(rig.results(&chain)?, [-libc::EINVAL, 4096]);
    Ok(())
}

fn kinds_of_links_mix(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let bad = read(&memory, 1);
    let (einval, ok) = (-libc::EINVAL, 4096);
    let good = read(&memory, 0);
    let chain = [bad.clone().hard(), good.clone().link(), bad.clone().link(), good.clone().hard(), good.clone()];
    assert_eq!(rig.results(&chain)?, [einval, ok, einval, ECANCELED, ECANCELED]);
    let chain = [good.clone().link(), bad.clone().hard(), bad.clone().hard(), good.clone().link(), bad, good];
    assert_eq!(rig.results(&chain)?, [ok, einval, einval, ok, einval, ok]);
    rig.works()
}

fn an_injected_result_breaks_a_link_if_it_is_an_error(bench: &Bench) -> Outcome {
    bench.since(6, 10)?;
    let mut rig = bench.rig(8)?;
    for res in [1, 4096, i32::MAX] {
        assert_eq!(rig.results(&[inject(res).link(), nop()])?, [res, 0]);
    }
    for res in [-1, -libc::EIO, -libc::EAGAIN, i32::MIN] {
        assert_eq!(rig.results(&[inject(res).link(), nop()])?, [res, ECANCELED]);
        assert_eq!(rig.results(&[inject(res).hard(), nop()])?, [res, 0]);
    }
    rig.works()
}

fn chains_of_one_submission_are_independent(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(64)?;
    let memory = rig.plain(4096 * 12);
    let mut batch = Vec::new();
    for chain in 0..12 {
        let part = memory.part(chain * 4096, 4096);
        let at = chain as u64 * 4096;
        part.write(&pattern::bytes(chain as u64, at, 4096));
        let middle = if chain % 3 == 1 { read(&part, 1) } else { nop() };
        batch.extend([write(&part, at).link(), middle.link(), read(&part, at).link(), nop(), nop()]);
    }
    let results = rig.results(&batch)?;
    for (chain, results) in results.chunks(5).enumerate() {
        let expected =
            if chain % 3 == 1 { [4096, -libc::EINVAL, ECANCELED, ECANCELED, 0] } else { [4096, 0, 4096, 0, 0] };
        assert_eq!(results, expected, "chain {chain}");
        rig.expect(chain as u64, chain as u64 * 4096, 4096)?;
    }
    rig.works()
}

fn entries_after_a_chain_do_not_wait_for_it(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let head = rig.timeout(LONG).hard();
    assert_eq!(rig.send(0, &[head, nop(), read(&memory, 0), nop()])?, 4);
    assert_eq!(sorted(rig.take(2)?), [(2, 4096), (3, 0)]);
    rig.quiet()?;
    assert_eq!(rig.send(4, &[opcode::TimeoutRemove::new(0).build()])?, 1);
    assert_eq!(sorted(rig.take(3)?), [(0, ECANCELED), (1, 0), (4, 0)]);
    rig.works()
}

fn a_chain_may_fill_the_ring(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(512)?;
    let memory = rig.plain(512 * 512);
    let part = |i: usize| memory.part(i * 512, 512);
    let mut chain: Vec<_> = (0..512).map(|i| read(&part(i), i as u64 * 512).link()).collect();
    rig.put(3, 0, 512 * 512)?;
    assert_eq!(rig.send(0, &chain)?, 512);
    assert_eq!(rig.take(512)?, (0..512).map(|i| (i, 512)).collect::<Vec<_>>());
    pattern::check(3, 0, &memory.read());
    // Broken in the middle, nothing is lost.
    chain[256] = read(&part(0), 1).link();
    let res = |i| {
        if i < 256 {
            512
        } else if i == 256 {
            -libc::EINVAL
        } else {
            ECANCELED
        }
    };
    assert_eq!(rig.send(0, &chain)?, 512);
    assert_eq!(rig.take(512)?, (0..512).map(|i| (i, res(i))).collect::<Vec<_>>());
    rig.works()
}

fn a_chain_ends_with_its_submission(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    for entry in [nop(), read(&memory, 1), read(&memory, 0)] {
        // A link to nothing is none.
        assert_eq!(rig.send(0, &[entry.clone().link()])?, 1);
        assert_eq!(rig.send(1, &[nop()])?, 1);
        let done = sorted(rig.take(2)?);
        assert_eq!(done[1], (1, 0), "{entry:?}");
    }
    assert_eq!(rig.results(&[read(&memory, 1).link(), nop().link()])?, [-libc::EINVAL, ECANCELED]);
    rig.works()
}

fn a_waiting_chain_is_not_joined_by_the_next_submission(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let head = rig.timeout(LONG).link();
    assert_eq!(rig.send(0, &[head, nop().link()])?, 2);
    assert_eq!(rig.send(2, &[nop().link(), nop()])?, 2);
    assert_eq!(rig.take(2)?, [(2, 0), (3, 0)]);
    // An open chain is issued by a worker: until it has been, its timeout is not found.
    let removal = opcode::TimeoutRemove::new(0).build();
    while rig.send(4, std::slice::from_ref(&removal))? == 1 {
        let first = rig.take_at_least(1)?;
        if first[0] != (4, -libc::ENOENT) {
            let mut all = first;
            all.extend(rig.take(3 - all.len())?);
            assert_eq!(sorted(all), [(0, ECANCELED), (1, ECANCELED), (4, 0)]);
            break;
        }
    }
    rig.works()
}
