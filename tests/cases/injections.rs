//! NOP with flags: results, files and buffers that it is told to have.

use io_uring::cqueue::Entry32;
use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};

use super::cancel::sorted;
use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::fields::{Fields, nop};
use crate::support::rig::{Completion, Rig};

pub(super) const ALL: &[Case] = cases![
    injected_results_break_soft_chains_when_negative,
    injected_files_and_buffers_are_looked_up,
    injected_flags_combine,
    injected_lookups_hold_no_file_open,
    injected_task_work_completes_all_the_same,
    injected_results_take_32_bytes_where_asked,
    injected_completions_of_32_bytes_want_a_ring_of_them,
    injected_completions_of_both_lengths_share_a_mixed_ring,
    injected_flags_beyond_the_last_are_invalid,
    injected_failures_are_never_silent,
];

const INJECT_RESULT: u32 = 1;
const FILE: u32 = 2;
const FIXED_FILE: u32 = 4;
const FIXED_BUFFER: u32 = 8;
const TW: u32 = 16;
const CQE32: u32 = 32;

/// `IORING_SETUP_CQE_MIXED` and what it adds to the flags of completions.
const SETUP_CQE_MIXED: u32 = 1 << 18;
const F_32: u32 = 1 << 15;
const F_SKIP: u32 = 1 << 5;

fn with(op_flags: u32) -> Fields {
    Fields { opcode: opcode::Nop::CODE, op_flags, user_data: 1, ..Fields::default() }
}

fn result(value: i32) -> Fields {
    Fields { len: value.cast_unsigned(), ..with(INJECT_RESULT) }
}

fn own_fd<C: Completion>(rig: &Rig<Entry, C>) -> Result<i32, Stop> {
    rig.ring.device_fd(0).ok_or(Stop::Fail("file 0 has no descriptor".into()))
}

/// Results of an entry and of a NOP linked behind it.
fn pair<C: Completion>(rig: &mut Rig<Entry, C>, entry: Fields, link: Flags) -> Result<(i32, i32), Stop> {
    rig.push(&Fields { flags: entry.flags | link.bits(), ..entry }.entry())?;
    rig.push(&nop(2))?;
    assert_eq!(rig.ring.submit()?, 2);
    let done = rig.wait(2)?;
    assert!(done.iter().all(|done| done.flags == 0), "{done:?}");
    let done = sorted(done);
    assert_eq!((done[0].0, done[1].0), (1, 2));
    Ok((done[0].1, done[1].1))
}

fn injected_results_break_soft_chains_when_negative(bench: &Bench) -> Outcome {
    bench.since(6, 10)?;
    let mut rig = bench.rig(8)?;
    for value in [0, 1, 4096, i32::MAX, -1, -libc::EIO, i32::MIN] {
        let next = if value < 0 { -libc::ECANCELED } else { 0 };
        assert_eq!(pair(&mut rig, result(value), Flags::IO_LINK)?, (value, next));
        assert_eq!(pair(&mut rig, result(value), Flags::IO_HARDLINK)?, (value, 0));
    }
    Ok(())
}

fn injected_files_and_buffers_are_looked_up(bench: &Bench) -> Outcome {
    bench.since(6, 18)?; // earlier kernels post the result though the lookup failed
    let mut rig = bench.rig(8)?;
    let fd = own_fd(&rig)?;
    let file = |fd: i32| Fields { fd, ..with(FILE) };
    let fixed_file = |file: i32| Fields { fd: file, ..with(FILE | FIXED_FILE) };
    let buffer = |index: u16| Fields { buf_index: index, ..with(FIXED_BUFFER) };
    let bad_file = (-libc::EBADF, -libc::ECANCELED);
    let bad_buffer = (-libc::EFAULT, -libc::ECANCELED);
    assert_eq!(pair(&mut rig, buffer(0), Flags::IO_LINK)?, bad_buffer, "none are registered");
    let memory = rig.plain(4096);
    let hole = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    crate::support::raw::register_buffers(&rig.ring, &[memory.iovec(), hole])?;
    assert_eq!(pair(&mut rig, file(fd), Flags::IO_LINK)?, (0, 0));
    assert_eq!(pair(&mut rig, fixed_file(0), Flags::IO_LINK)?, (0, 0));
    assert_eq!(pair(&mut rig, buffer(0), Flags::IO_LINK)?, (0, 0));
    for fd in [-1, 9999, i32::MAX, i32::MIN] {
        assert_eq!(pair(&mut rig, file(fd), Flags::IO_LINK)?, bad_file, "descriptor {fd}");
        assert_eq!(pair(&mut rig, file(fd), Flags::IO_HARDLINK)?, (-libc::EBADF, 0), "descriptor {fd}");
    }
    for file in [1, 9999, -1, i32::MIN] {
        assert_eq!(pair(&mut rig, fixed_file(file), Flags::IO_LINK)?, bad_file, "fixed file {file}");
    }
    for index in [1, 2, u16::MAX] {
        assert_eq!(pair(&mut rig, buffer(index), Flags::IO_LINK)?, bad_buffer, "buffer {index}");
        assert_eq!(pair(&mut rig, buffer(index), Flags::IO_HARDLINK)?, (-libc::EFAULT, 0), "buffer {index}");
    }
    // FIXED_FILE alone asks for no file.
    assert_eq!(pair(&mut rig, Fields { fd: 77, ..with(FIXED_FILE) }, Flags::IO_LINK)?, (0, 0));
    Ok(())
}

fn injected_flags_combine(bench: &Bench) -> Outcome {
    bench.since(6, 18)?; // earlier kernels post the result though the lookup failed
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    rig.register(&[&memory])?;
    let fd = own_fd(&rig)?;
    // The file comes first, then the buffer; either's error takes the place of the result.
    for flags in 0..2 * TW {
        for (good_file, good_buffer) in [(true, true), (true, false), (false, true), (false, false)] {
            for value in [0, 5, -5] {
                let fixed = flags & FIXED_FILE != 0;
                let fd = match (good_file, fixed) {
                    (true, true) => 0,
                    (true, false) => fd,
                    (false, _) => 9999,
                };
                let buf_index = u16::from(!good_buffer);
                let entry = Fields { fd, buf_index, op_flags: flags, ..result(value) };
                let expected = if flags & FILE != 0 && !good_file {
                    -libc::EBADF
                } else if flags & FIXED_BUFFER != 0 && !good_buffer {
                    -libc::EFAULT
                } else if flags & INJECT_RESULT != 0 {
                    value
                } else {
                    0
                };
                let next = if expected < 0 { -libc::ECANCELED } else { 0 };
                assert_eq!(pair(&mut rig, entry, Flags::IO_LINK)?, (expected, next), "{entry:?}");
            }
        }
    }
    Ok(())
}

fn injected_lookups_hold_no_file_open(bench: &Bench) -> Outcome {
    bench.since(6, 18)?; // earlier kernels post the result though the lookup failed
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    rig.register(&[&memory])?;
    for _ in 0..100 {
        assert_eq!(pair(&mut rig, with(FILE | FIXED_FILE | FIXED_BUFFER), Flags::IO_LINK)?, (0, 0));
    }
    rig.ring.submitter().unregister_buffers()?;
    rig.ring.submitter().unregister_files()?;
    assert_eq!(pair(&mut rig, with(FILE | FIXED_FILE), Flags::IO_HARDLINK)?, (-libc::EBADF, 0));
    assert_eq!(pair(&mut rig, with(FIXED_BUFFER), Flags::IO_HARDLINK)?, (-libc::EFAULT, 0));
    Ok(())
}

fn injected_task_work_completes_all_the_same(bench: &Bench) -> Outcome {
    bench.since(6, 16)?;
    let mut rig = bench.rig(16)?;
    for round in 0..50 {
        for i in 0..16 {
            let flags = if i % 3 == 0 { TW } else { TW | INJECT_RESULT };
            rig.push(&Fields { len: i + 1, user_data: round * 16 + u64::from(i), ..with(flags) }.entry())?;
        }
        assert_eq!(rig.ring.submit()?, 16);
        for (i, done) in sorted(rig.wait(16)?).into_iter().enumerate() {
            let value = if i % 3 == 0 { 0 } else { i as i32 + 1 };
            assert_eq!(done, (round * 16 + i as u64, value));
        }
    }
    // A chain waits for it, and so does a drain.
    for link in [Flags::IO_LINK, Flags::IO_HARDLINK] {
        for i in 0..6 {
            rig.push(&Fields { user_data: i, flags: link.bits(), ..with(TW) }.entry())?;
        }
        rig.push(&nop(6))?;
        rig.push(&nop(7).flags(Flags::IO_DRAIN))?;
        let order: Vec<_> = rig.wait(8)?.iter().map(|done| (done.user_data, done.res)).collect();
        assert_eq!(order, (0..8).map(|i| (i, 0)).collect::<Vec<_>>());
    }
    Ok(())
}

fn injected_results_take_32_bytes_where_asked(bench: &Bench) -> Outcome {
    bench.since(6, 18)?;
    let mut rig: Rig<Entry, Entry32> = bench.open(bench.builder(8).cqe32())?;
    let words = Fields { off: 0x0123_4567_89ab_cdef, addr: u64::MAX, ..with(CQE32) };
    for flags in [CQE32, CQE32 | TW, CQE32 | INJECT_RESULT, CQE32 | INJECT_RESULT | TW] {
        for value in [7, -7] {
            let entry = Fields { op_flags: flags, len: value as u32, ..words };
            let expected = if flags & INJECT_RESULT == 0 { 0 } else { value };
            assert_eq!(rig.command(entry.entry())?, (expected, [words.off, words.addr]), "{entry:?}");
        }
    }
    // Failures carry them as well.
    let bad = Fields { fd: -1, op_flags: CQE32 | FILE, ..words };
    assert_eq!(rig.command(bad.entry())?, (-libc::EBADF, [words.off, words.addr]));
    let bad = Fields { op_flags: CQE32 | FIXED_BUFFER | INJECT_RESULT, ..words };
    assert_eq!(rig.command(bad.entry())?, (-libc::EFAULT, [words.off, words.addr]));
    // But not what is refused while it is prepared, nor what does not ask.
    assert_eq!(rig.command(Fields { op_flags: CQE32 | 64, ..words }.entry())?, (-libc::EINVAL, [0; 2]));
    assert_eq!(rig.command(Fields { op_flags: TW, ..words }.entry())?, (0, [0; 2]));
    assert_eq!(rig.command(Fields { op_flags: 0, ..words }.entry())?, (0, [0; 2]));
    // Nor what never begins.
    rig.push(&Fields { flags: Flags::IO_LINK.bits(), ..result(-1) }.entry())?;
    rig.push(&Fields { user_data: 2, ..words }.entry())?;
    let done: Vec<_> = rig.wait(2)?.iter().map(|done| (done.user_data, done.res, done.extra)).collect();
    assert_eq!(done, [(1, -1, [0; 2]), (2, -libc::ECANCELED, [0; 2])]);
    Ok(())
}

fn injected_completions_of_32_bytes_want_a_ring_of_them(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    for flags in [CQE32, CQE32 | INJECT_RESULT, CQE32 | FILE, CQE32 | TW] {
        rig.push(&Fields { fd: -1, len: 5, ..with(flags) }.entry())?;
        rig.push(&nop(2))?;
        assert_eq!(rig.ring.submit()?, 1, "it ends its batch");
        assert_eq!(sorted(rig.wait(1)?), [(1, -libc::EINVAL)], "flags {flags:#x}");
        assert_eq!(sorted(rig.wait(1)?), [(2, 0)]);
    }
    Ok(())
}

fn injected_completions_of_both_lengths_share_a_mixed_ring(bench: &Bench) -> Outcome {
    bench.since(6, 18)?;
    let mut rig = bench.open(bench.builder(4).cq_entries(8).setup_flags(SETUP_CQE_MIXED))?;
    let long = |i: u64| Fields { user_data: i, off: 100 + i, addr: 7 << 32 | 8, ..with(CQE32) };
    // Six entries a round in a ring of eight: long ones meet its end, where one entry is skipped.
    let mut skipped = 0;
    for round in 0..16 {
        let first = round * 10;
        rig.push(&nop(first))?;
        rig.push(&long(first + 1).entry())?;
        rig.push(&long(first + 2).entry())?;
        rig.push(&nop(first + 3))?;
        assert_eq!(rig.ring.submit()?, 4);
        let mut entries = rig.wait(6)?;
        entries.retain(|done| {
            let filler = done.flags & F_SKIP != 0;
            if filler {
                assert_eq!((done.user_data, done.res, done.flags), (0, 0, F_SKIP));
                skipped += 1;
            }
            !filler
        });
        let words: Vec<_> = entries.iter().map(|done| (done.user_data, done.res, done.flags)).collect();
        // The second half of a long one, read as a short one.
        let second = |i: u64| (100 + i, 8, 7);
        let expected = [
            (first, 0, 0),
            (first + 1, 0, F_32),
            second(first + 1),
            (first + 2, 0, F_32),
            second(first + 2),
            (first + 3, 0, 0),
        ];
        assert_eq!(words, expected, "round {round}");
    }
    assert!(skipped > 0, "no long completion met the end of the ring");
    Ok(())
}

fn injected_flags_beyond_the_last_are_invalid(bench: &Bench) -> Outcome {
    bench.since(6, 18)?;
    let mut rig: Rig<Entry, Entry32> = bench.open(bench.builder(8).cqe32())?;
    for bit in 6..32 {
        for flags in [1 << bit, 1 << bit | 0x3f] {
            assert_eq!(rig.command(Fields { fd: -1, ..with(flags) }.entry())?.0, -libc::EINVAL, "flags {flags:#x}");
        }
    }
    Ok(())
}

fn injected_failures_are_never_silent(bench: &Bench) -> Outcome {
    bench.since(6, 18)?; // earlier kernels post the result though the lookup failed
    let mut rig = bench.rig(8)?;
    let silent = |entry: Fields| Fields { flags: Flags::SKIP_SUCCESS.bits(), ..entry };
    rig.push(&silent(result(5)).entry())?;
    rig.push(&silent(with(0)).entry())?;
    rig.push(&silent(result(-5)).entry())?;
    rig.push(&silent(Fields { fd: -1, user_data: 3, ..with(FILE) }).entry())?;
    rig.push(&nop(4))?;
    assert_eq!(rig.ring.submit()?, 5);
    assert_eq!(sorted(rig.wait(3)?), [(1, -5), (3, -libc::EBADF), (4, 0)]);
    assert_eq!(rig.one(nop(0))?, 0, "nothing else came");
    Ok(())
}
