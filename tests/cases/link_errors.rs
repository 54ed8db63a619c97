//! Errors of preparation in chains, and which results of other operations break a link.

use io_uring::squeue::Entry;
use io_uring::{opcode, types};

use crate::case::{Bench, Case, Outcome, cases};
use crate::support::rig::{FILE, read, write};
use crate::support::script::{BUF_INDEX, Flagged, IOPRIO, nop, put_u16, refused, sorted};

pub(super) const ALL: &[Case] = cases![
    a_refused_member_cancels_its_whole_chain,
    a_refused_member_cancels_a_hard_chain_as_well,
    every_refused_member_has_its_own_error,
    only_a_refused_last_member_ends_the_batch,
    a_refused_member_of_an_open_chain_does_not_end_the_batch,
    a_refused_last_member_leaves_the_rest_in_the_ring,
    refusals_spare_other_chains,
    errors_of_syncing_a_range_do_not_break_a_link,
    errors_of_allocation_do_not_break_a_link,
    errors_of_advice_break_a_link,
    a_flush_of_no_file_breaks_a_link,
    errors_of_removal_and_cancellation_break_a_link,
    a_fixed_file_is_looked_up_when_its_turn_comes,
];

const ECANCELED: i32 = -libc::ECANCELED;
const EINVAL: i32 = -libc::EINVAL;

/// Refused while they are prepared, by different checks.
fn refusals() -> Vec<Entry> {
    vec![
        refused(),
        put_u16(nop(), IOPRIO, 1),
        nop().personality(77),
        put_u16(opcode::Fsync::new(FILE).build(), BUF_INDEX, 1),
    ]
}

fn a_refused_member_cancels_its_whole_chain(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    rig.put(1, 0, 4096)?;
    let memory = rig.filled(2, 0, 4096);
    for refused in refusals() {
        for at in 0..4 {
            let mut chain: Vec<_> = (0..3).map(|_| write(&memory, 0).link()).collect();
            chain.push(write(&memory, 0));
            chain[at] = if at < 3 { refused.clone().link() } else { refused.clone() };
            // In the order of the chain, although the first has done nothing wrong.
            assert_eq!(rig.send(0, &chain)?, 4);
            let res = |i: u64| if i == at as u64 { EINVAL } else { ECANCELED };
            assert_eq!(rig.take(4)?, (0..4).map(|i| (i, res(i))).collect::<Vec<_>>(), "{refused:?} at {at}");
        }
    }
    rig.expect(1, 0, 4096)?;
    rig.works()
}

fn a_refused_member_cancels_a_hard_chain_as_well(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    rig.put(1, 0, 4096)?;
    let memory = rig.filled(2, 0, 4096);
    for at in 0..4 {
        let mut chain: Vec<_> = (0..3).map(|_| write(&memory, 0).hard()).collect();
        chain.push(write(&memory, 0));
        chain[at] = if at < 3 { refused().hard() } else { refused() };
        let expected = [0, 1, 2, 3].map(|i| if i == at { EINVAL } else { ECANCELED });
        assert_eq!(rig.results(&chain)?, expected);
    }
    rig.expect(1, 0, 4096)?;
    rig.works()
}

fn every_refused_member_has_its_own_error(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let no_buffers = nop().flags(io_uring::squeue::Flags::BUFFER_SELECT);
    let fault = opcode::Read::new(FILE, (1usize << 63) as *mut u8, 512).offset(0).build();
    let chain = [read(&memory, 0).link(), refused().link(), no_buffers.link(), nop().link(), fault.link(), nop()];
    let expected = [ECANCELED, EINVAL, -libc::EOPNOTSUPP, ECANCELED, -libc::EFAULT, ECANCELED];
    assert_eq!(rig.results(&chain)?, expected);
    rig.works()
}

fn only_a_refused_last_member_ends_the_batch(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(16)?;
    for at in 0..3 {
        let mut batch = vec![nop().link(), nop().link(), nop(), nop(), nop()];
        batch[at] = if at < 2 { refused().link() } else { refused() };
        let consumed = if at < 2 { 5 } else { 3 };
        assert_eq!(rig.send(0, &batch)?, consumed, "refused at {at}");
        let chain = [0, 1, 2].map(|i| (i, if i == at as u64 { EINVAL } else { ECANCELED }));
        let mut done = sorted(rig.take(consumed)?);
        assert_eq!(done.drain(..3).collect::<Vec<_>>(), chain);
        assert!(done.iter().all(|done| done.1 == 0));
        assert_eq!(rig.ring.submit()?, 5 - consumed, "the rest follows");
        assert_eq!(rig.take(5 - consumed)?.len(), 5 - consumed);
    }
    rig.works()
}

fn a_refused_member_of_an_open_chain_does_not_end_the_batch(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    // The last of the batch, but it goes on: there is nothing to stop before either.
    assert_eq!(rig.results(&[nop(), nop().link(), refused().link()])?, [0, ECANCELED, EINVAL]);
    assert_eq!(rig.results(&[refused().link()])?, [EINVAL]);
    assert_eq!(rig.results(&[refused().link(), refused().link(), nop()])?, [EINVAL, EINVAL, ECANCELED]);
    rig.works()
}

fn a_refused_last_member_leaves_the_rest_in_the_ring(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let batch = [nop().link(), refused(), nop().link(), refused(), read(&memory, 0).link(), read(&memory, 0)];
    assert_eq!(rig.send(0, &batch)?, 2);
    assert_eq!(rig.take(2)?, [(0, ECANCELED), (1, EINVAL)]);
    assert_eq!(rig.ring.submission().len(), 4);
    assert_eq!(rig.ring.submit()?, 2);
    assert_eq!(rig.take(2)?, [(2, ECANCELED), (3, EINVAL)]);
    assert_eq!(rig.ring.submit()?, 2);
    assert_eq!(rig.take(2)?, [(4, 4096), (5, 4096)]);
    rig.works()
}

fn refusals_spare_other_chains(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(16)?;
    let memory = rig.plain(4096);
    let batch = [
        read(&memory, 0).link(),
        nop(),
        refused().link(),
        nop(),
        read(&memory, 0).hard(),
        nop(),
        nop().hard(),
        refused().hard(),
        nop(),
        nop(),
    ];
    let expected = [4096, 0, EINVAL, ECANCELED, 4096, 0, ECANCELED, EINVAL, ECANCELED, 0];
    assert_eq!(rig.results(&batch)?, expected);
    rig.works()
}

/// `io_sync_file_range` sets a result without failing the request.
fn errors_of_syncing_a_range_do_not_break_a_link(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let bad = opcode::SyncFileRange::new(FILE, 4096).flags(8).build();
    assert_eq!(rig.results(&[bad.link(), nop().link(), nop()])?, [EINVAL, 0, 0]);
    let gone = opcode::SyncFileRange::new(types::Fixed(99), 4096).build();
    assert_eq!(rig.results(&[gone.link(), nop()])?, [-libc::EBADF, ECANCELED], "found before it is asked");
    rig.works()
}

/// So does `io_fallocate`.
fn errors_of_allocation_do_not_break_a_link(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let plain = opcode::Fallocate::new(FILE, 4096).build();
    assert_eq!(rig.results(&[plain.link(), nop()])?, [-libc::EOPNOTSUPP, 0]);
    let end = rig.size();
    // FALLOC_FL_ZERO_RANGE.
    let beyond = opcode::Fallocate::new(FILE, 4096).offset(end).mode(16).build();
    assert_eq!(rig.results(&[beyond.link(), nop()])?, [EINVAL, 0]);
    let gone = opcode::Fallocate::new(types::Fixed(99), 4096).build();
    assert_eq!(rig.results(&[gone.link(), nop()])?, [-libc::EBADF, ECANCELED]);
    rig.works()
}

fn errors_of_advice_break_a_link(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    assert_eq!(rig.results(&[opcode::Fadvise::new(FILE, 0, 4).build().link(), nop()])?, [0, 0]);
    assert_eq!(rig.results(&[opcode::Fadvise::new(FILE, 0, 6).build().link(), nop()])?, [EINVAL, ECANCELED]);
    rig.works()
}

fn a_flush_of_no_file_breaks_a_link(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    assert_eq!(rig.results(&[opcode::Fsync::new(FILE).build().link(), nop()])?, [0, 0]);
    let gone = opcode::Fsync::new(types::Fixed(99)).build();
    assert_eq!(rig.results(&[gone.link(), nop()])?, [-libc::EBADF, ECANCELED]);
    rig.works()
}

fn errors_of_removal_and_cancellation_break_a_link(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let enoent = -libc::ENOENT;
    assert_eq!(rig.results(&[opcode::TimeoutRemove::new(99).build().link(), nop()])?, [enoent, ECANCELED]);
    assert_eq!(rig.results(&[opcode::AsyncCancel::new(99).build().link(), nop()])?, [enoent, ECANCELED]);
    let time = rig.span(crate::support::script::LONG);
    assert_eq!(rig.results(&[opcode::TimeoutUpdate::new(99, time).build().link(), nop()])?, [enoent, ECANCELED]);
    rig.works()
}

/// `IORING_FEAT_LINKED_FILE`.
fn a_fixed_file_is_looked_up_when_its_turn_comes(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let Some(fd) = rig.ring.device_fd(0) else { return crate::case::fail("the ring has a descriptor") };
    rig.ring.submitter().unregister_files()?;
    rig.ring.submitter().register_files(&[-1, fd])?;
    let memory = rig.plain(4096);
    let descriptors = |fds: [i32; 1]| fds[0].to_ne_bytes();
    let (file, hole) = (rig.plain(4), rig.plain(4));
    file.write(&descriptors([fd]));
    hole.write(&descriptors([-1]));
    let update =
        |memory: &crate::support::raw::Memory| opcode::FilesUpdate::new(memory.ptr().cast(), 1).offset(0).build();
    let ebadf = -libc::EBADF;
    let chain = [
        read(&memory, 0).hard(),
        update(&file).hard(),
        read(&memory, 0).hard(),
        update(&hole).hard(),
        read(&memory, 0),
    ];
    assert_eq!(rig.results(&chain)?, [ebadf, 1, 4096, 1, ebadf]);
    rig.works()
}
