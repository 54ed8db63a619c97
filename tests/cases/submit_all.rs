//! IORING_SETUP_SUBMIT_ALL, and IOSQE_ASYNC.

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::pattern;
use crate::support::raw::Memory;
use crate::support::rig::{FILE, Rig, read, read_fixed, write, write_fixed};
use crate::support::script::{Flagged, IOPRIO, LONG, SHORT, nop, put_u16, refused, sorted};

pub(super) const ALL: &[Case] = cases![
    a_whole_batch_is_submitted_despite_refusals,
    a_batch_of_refusals_is_submitted_whole,
    refusals_in_chains_do_not_end_the_batch,
    refusals_of_every_kind_do_not_end_the_batch,
    a_full_ring_of_refusals_is_not_lost,
    errors_at_issue_are_as_without_it,
    links_are_as_without_it,
    every_operation_may_be_asynchronous,
    asynchronous_errors_are_the_same,
    asynchronous_members_keep_the_order_of_their_chain,
    asynchronous_chains_break_as_others,
    asynchronous_entries_are_refused_as_others,
];

const SUBMIT_ALL: u32 = 1 << 7;
const EINVAL: i32 = -libc::EINVAL;
const ECANCELED: i32 = -libc::ECANCELED;

fn open(bench: &Bench, entries: u32) -> Result<Rig, Stop> {
    bench.open(bench.builder(entries).setup_flags(SUBMIT_ALL))
}

fn a_whole_batch_is_submitted_despite_refusals(bench: &Bench) -> Outcome {
    let mut rig = open(bench, 8)?;
    let memory = rig.plain(4096);
    for at in 0..6 {
        let mut batch: Vec<_> = (0..6).map(|_| read(&memory, 0)).collect();
        batch[at] = refused();
        let expected: Vec<_> = (0..6).map(|i| if i == at { EINVAL } else { 4096 }).collect();
        assert_eq!(rig.results(&batch)?, expected);
        assert!(rig.ring.submission().is_empty());
    }
    rig.works()
}

fn a_batch_of_refusals_is_submitted_whole(bench: &Bench) -> Outcome {
    let mut rig = open(bench, 8)?;
    for count in 1..=8 {
        assert_eq!(rig.results(&vec![refused(); count])?, vec![EINVAL; count]);
    }
    rig.works()
}

fn refusals_in_chains_do_not_end_the_batch(bench: &Bench) -> Outcome {
    let mut rig = open(bench, 16)?;
    let memory = rig.plain(4096);
    for at in 0..3 {
        let mut batch =
            vec![nop().link(), nop().link(), nop(), read(&memory, 0).link(), read(&memory, 0), refused(), nop()];
        batch[at] = if at < 2 { refused().link() } else { refused() };
        let chain = [0, 1, 2].map(|i| if i == at { EINVAL } else { ECANCELED });
        let mut expected = chain.to_vec();
        expected.extend([4096, 4096, EINVAL, 0]);
        assert_eq!(rig.results(&batch)?, expected);
    }
    // A chain that is refused at its end does not join the next one.
    let batch = [nop().link(), refused(), nop().link(), read(&memory, 0)];
    assert_eq!(rig.results(&batch)?, [ECANCELED, EINVAL, 0, 4096]);
    rig.works()
}

fn refusals_of_every_kind_do_not_end_the_batch(bench: &Bench) -> Outcome {
    let mut rig = open(bench, 16)?;
    let fault = opcode::Read::new(FILE, (1usize << 63) as *mut u8, 512).offset(0).build();
    let batch = [
        put_u16(nop(), IOPRIO, 1),
        nop(),
        nop().flags(Flags::BUFFER_SELECT),
        nop().personality(77),
        fault,
        opcode::LinkTimeout::new(rig.span(LONG)).build(),
        opcode::Timeout::new(std::ptr::null()).build(),
        nop(),
    ];
    let (unsupported, fault) = (-libc::EOPNOTSUPP, -libc::EFAULT);
    assert_eq!(rig.results(&batch)?, [EINVAL, 0, unsupported, EINVAL, fault, EINVAL, fault, 0]);
    rig.works()
}

fn a_full_ring_of_refusals_is_not_lost(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(64).cq_entries(64).setup_flags(SUBMIT_ALL))?;
    for round in 0..3 {
        assert_eq!(rig.send(round * 64, &vec![refused(); 64])?, 64);
    }
    let mut all = Vec::new();
    while all.len() < 192 {
        all.extend(rig.take_at_least(1)?);
    }
    assert_eq!(all, (0..192).map(|i| (i, EINVAL)).collect::<Vec<_>>());
    rig.works()
}

fn errors_at_issue_are_as_without_it(bench: &Bench) -> Outcome {
    let mut rig = open(bench, 8)?;
    let memory = rig.plain(4096);
    let end = rig.size();
    let batch = [read(&memory, 1), read(&memory, end), refused(), write(&memory, end), nop()];
    assert_eq!(rig.results(&batch)?, [EINVAL, 0, EINVAL, -libc::ENOSPC, 0]);
    rig.works()
}

fn links_are_as_without_it(bench: &Bench) -> Outcome {
    let mut rig = open(bench, 8)?;
    let memory = rig.plain(4096);
    let bad = read(&memory, 1);
    let batch = [bad.clone().link(), nop(), bad.hard(), nop(), nop().link(), nop().link()];
    assert_eq!(rig.results(&batch)?, [EINVAL, ECANCELED, EINVAL, 0, 0, 0]);
    assert_eq!(rig.results(&[nop(), nop().link(), refused().link()])?, [0, ECANCELED, EINVAL]);
    rig.works()
}

/// Entries of many operations, with their results; buffer 0 is registered.
fn operations(rig: &mut Rig) -> Result<Vec<(Entry, i32)>, Stop> {
    let memory: Memory = rig.plain(8192);
    rig.register(&[&memory])?;
    let vector = rig.iovecs(&[memory.part(0, 4096).iovec(), memory.part(4096, 512).iovec()]);
    let time = rig.span(SHORT);
    // FALLOC_FL_ZERO_RANGE.
    let zeroes = opcode::Fallocate::new(FILE, 4096).offset(8192).mode(16).build();
    Ok(vec![
        (nop(), 0),
        (read(&memory, 0), 8192),
        (write(&memory, 0), 8192),
        (opcode::Readv::new(FILE, vector, 2).offset(0).build(), 4608),
        (opcode::Writev::new(FILE, vector, 2).offset(0).build(), 4608),
        (read_fixed(&memory, 0, 0), 8192),
        (write_fixed(&memory, 0, 0), 8192),
        (opcode::Fsync::new(FILE).build(), 0),
        (opcode::SyncFileRange::new(FILE, 4096).build(), 0),
        (opcode::Fadvise::new(FILE, 4096, 4).build(), 0),
        (zeroes, 0),
        (opcode::Timeout::new(time).build(), -libc::ETIME),
        (opcode::TimeoutRemove::new(99).build(), -libc::ENOENT),
        (opcode::TimeoutUpdate::new(99, time).build(), -libc::ENOENT),
        (opcode::AsyncCancel::new(99).build(), -libc::ENOENT),
    ])
}

fn every_operation_may_be_asynchronous(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(32)?;
    let operations = operations(&mut rig)?;
    for (entry, res) in &operations {
        assert_eq!(rig.one(entry.clone().asynchronous())?, *res, "{entry:?}");
    }
    // All at once, and as a chain.
    for chain in [false, true] {
        let entry = |entry: &Entry| if chain { entry.clone().hard() } else { entry.clone() };
        let batch: Vec<_> = operations.iter().map(|(operation, _)| entry(operation).asynchronous()).collect();
        let expected: Vec<_> = operations.iter().map(|(_, res)| *res).collect();
        assert_eq!(rig.results(&batch)?, expected);
    }
    rig.works()
}

fn asynchronous_errors_are_the_same(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let end = rig.size();
    for (entry, res) in [
        (read(&memory, 1), EINVAL),
        (read(&memory, end), 0),
        (read(&memory, end - 512), 512),
        (write(&memory, end), -libc::ENOSPC),
        (opcode::Read::new(io_uring::types::Fixed(99), memory.ptr(), 512).build(), -libc::EBADF),
        (opcode::Read::new(FILE, 512 as *mut u8, 512).offset(0).build(), -libc::EFAULT),
        (opcode::Read::new(FILE, memory.ptr(), 512).rw_flags(1 << 30).build(), -libc::EOPNOTSUPP),
        (opcode::Fadvise::new(FILE, 0, 6).build(), EINVAL),
        (opcode::SyncFileRange::new(FILE, 0).flags(8).build(), EINVAL),
    ] {
        assert_eq!(rig.one(entry.clone().asynchronous())?, res, "{entry:?}");
        assert_eq!(rig.one(entry.clone())?, res, "{entry:?}");
    }
    rig.works()
}

fn asynchronous_members_keep_the_order_of_their_chain(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(16)?;
    let into = rig.plain(4096);
    for seed in 0..20 {
        let data = rig.filled(seed, 0, 4096);
        let chain = [
            write(&data, 0).asynchronous().link(),
            nop().link(),
            read(&into, 0).asynchronous().link(),
            opcode::Fsync::new(FILE).build().asynchronous().link(),
            nop().asynchronous(),
        ];
        assert_eq!(rig.send(0, &chain)?, 5);
        assert_eq!(rig.take(5)?, [(0, 4096), (1, 0), (2, 4096), (3, 0), (4, 0)]);
        pattern::check(seed, 0, &into.read());
    }
    Ok(())
}

fn asynchronous_chains_break_as_others(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let end = rig.size();
    for (bad, first, res) in
        [(read(&memory, 1), 0, EINVAL), (read(&memory, end - 512), 0, 512), (refused(), ECANCELED, EINVAL)]
    {
        let chain = [nop().asynchronous().link(), bad.asynchronous().link(), nop().asynchronous(), nop()];
        assert_eq!(rig.results(&chain)?, [first, res, ECANCELED, 0]);
    }
    // A limit on what a worker does.
    let (waits, time) = (rig.timeout(LONG), rig.span(SHORT));
    let limit = opcode::LinkTimeout::new(time).build();
    for limit in [limit.clone(), limit.asynchronous()] {
        assert_eq!(rig.results(&[waits.clone().asynchronous().link(), limit])?, [ECANCELED, -libc::ETIME]);
    }
    rig.works()
}

fn asynchronous_entries_are_refused_as_others(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    assert_eq!(rig.send(0, &[nop(), refused().asynchronous(), nop()])?, 2);
    assert_eq!(sorted(rig.take(2)?), [(0, 0), (1, EINVAL)]);
    assert_eq!(rig.ring.submit()?, 1);
    assert_eq!(rig.take(1)?, [(2, 0)]);
    rig.works()
}
