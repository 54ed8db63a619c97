//! ASYNC_CANCEL in chains and of chains.

use io_uring::opcode;
use io_uring::squeue::Flags;

use super::cancel::{ANY, FD, ONE_OF_MANY, cancel, cancelled, flagged, pend, sorted};
use crate::case::{Bench, Case, Outcome, cases};
use crate::support::fields::{Fields, endless, endless_link, nop};
use crate::support::rig::{FILE, expect_errno, read};

pub(super) const ALL: &[Case] = cases![
    cancel_does_not_find_link_timeouts,
    cancel_does_not_find_what_has_not_begun,
    cancel_that_finds_nothing_breaks_its_chain,
    cancelled_timeouts_break_soft_chains_only,
    cancel_may_be_silent,
];

fn cancel_does_not_find_link_timeouts(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let head = endless(&mut rig, 1).flags(Flags::IO_LINK);
    let guard = endless_link(&mut rig, 2);
    rig.push(&head)?;
    rig.push(&guard)?;
    assert_eq!(rig.ring.submit()?, 2);
    assert_eq!(cancelled(&mut rig, cancel(2), 0)?, (-libc::ENOENT, vec![]));
    assert_eq!(cancelled(&mut rig, flagged(2, ONE_OF_MANY), 0)?, (0, vec![]));
    // It goes with its head, and does not count.
    let (res, mut names) = cancelled(&mut rig, flagged(0, ANY), 2)?;
    names.sort_unstable();
    assert_eq!((res, names), (1, vec![1, 2]));
    Ok(())
}

fn cancel_does_not_find_what_has_not_begun(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let head = endless(&mut rig, 1).flags(Flags::IO_HARDLINK);
    let second = endless(&mut rig, 2);
    for entry in [head, read(&memory, 0).user_data(3).flags(Flags::IO_HARDLINK), second] {
        rig.push(&entry)?;
    }
    assert_eq!(rig.ring.submit()?, 3);
    for name in [2, 3] {
        assert_eq!(cancelled(&mut rig, cancel(name), 0)?, (-libc::ENOENT, vec![]), "{name}");
        assert_eq!(cancelled(&mut rig, flagged(name, ONE_OF_MANY), 0)?, (0, vec![]), "{name}");
    }
    rig.push(&cancel(1).entry())?;
    assert_eq!(sorted(rig.wait(3)?), [(1, -libc::ECANCELED), (3, 4096), (1000, 0)]);
    assert_eq!(cancelled(&mut rig, cancel(2), 1)?, (0, vec![2]), "it has begun now");
    Ok(())
}

fn cancel_that_finds_nothing_breaks_its_chain(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let linked = |entry: Fields, flag: Flags| Fields { flags: flag.bits(), ..entry }.entry();
    // Nothing found, by name; by count, which is none; a bad file; and both kinds of link.
    let rows = [
        (cancel(7), Flags::IO_LINK, -libc::ENOENT, -libc::ECANCELED),
        (flagged(7, ONE_OF_MANY), Flags::IO_LINK, 0, 0),
        (flagged(7, ANY), Flags::IO_LINK, 0, 0),
        (Fields { fd: -1, ..flagged(7, FD) }, Flags::IO_LINK, -libc::EBADF, -libc::ECANCELED),
        (cancel(7), Flags::IO_HARDLINK, -libc::ENOENT, 0),
        (Fields { fd: -1, ..flagged(7, FD) }, Flags::IO_HARDLINK, -libc::EBADF, 0),
        // Refused while it is prepared: its chain never begins.
        (flagged(7, 64), Flags::IO_HARDLINK, -libc::EINVAL, -libc::ECANCELED),
    ];
    for (entry, flag, own, next) in rows {
        rig.push(&linked(entry, flag))?;
        rig.push(&nop(2))?;
        assert_eq!(sorted(rig.wait(2)?), [(2, next), (1000, own)], "{entry:?} {flag:?}");
    }
    // A member that finds what pends goes on.
    pend(&mut rig, &[7])?;
    rig.push(&linked(cancel(7), Flags::IO_LINK))?;
    rig.push(&nop(2))?;
    assert_eq!(sorted(rig.wait(3)?), [(2, 0), (7, -libc::ECANCELED), (1000, 0)]);
    Ok(())
}

fn cancelled_timeouts_break_soft_chains_only(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    for (flag, res) in [(Flags::IO_LINK, -libc::ECANCELED), (Flags::IO_HARDLINK, 0)] {
        let head = endless(&mut rig, 1).flags(flag);
        rig.push(&head)?;
        rig.push(&opcode::Fsync::new(FILE).build().user_data(2))?;
        assert_eq!(rig.ring.submit()?, 2);
        rig.push(&cancel(1).entry())?;
        assert_eq!(sorted(rig.wait(3)?), [(1, -libc::ECANCELED), (2, res), (1000, 0)]);
    }
    Ok(())
}

fn cancel_may_be_silent(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let silent = Flags::SKIP_SUCCESS.bits();
    pend(&mut rig, &[1])?;
    rig.push(&Fields { flags: silent, ..cancel(1) }.entry())?;
    assert_eq!(sorted(rig.wait(1)?), [(1, -libc::ECANCELED)]);
    // A cancelled timeout has failed, which is never silent.
    let timeout = endless(&mut rig, 2).flags(Flags::SKIP_SUCCESS);
    rig.push(&timeout)?;
    assert_eq!(cancelled(&mut rig, cancel(2), 1)?, (0, vec![2]));
    rig.push(&Fields { flags: silent, ..cancel(1) }.entry())?;
    expect_errno(rig.wait(1)?[0].res, libc::ENOENT, "nothing found");
    assert_eq!(rig.one(nop(0))?, 0, "nothing else came");
    Ok(())
}
