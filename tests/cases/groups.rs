//! Groups of provided buffers: what goes in, what comes out, and what is refused.

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::buffer_ring::{
    BufferRing, buf_reg, head, provide, read_into, register_ring, remove, submit_all, submit_one, unregister_ring, used,
};
use crate::support::raw::{Memory, edit};
use crate::support::rig::Rig;

pub(super) const ALL: &[Case] = cases![
    buffers_are_removed_and_counted,
    malformed_buffers_are_refused,
    the_first_thing_wrong_with_buffers_counts,
    malformed_removals_are_refused,
    a_group_holds_65535_buffers,
    a_group_is_provided_or_a_ring,
    an_emptied_group_may_become_a_ring,
];

const GROUP: u16 = 1;
const EINVAL: i32 = -libc::EINVAL;

/// With a count that the builders' 16 bits cannot hold.
fn many(entry: Entry, count: i32) -> Entry {
    edit(entry, |bytes| bytes[4..8].copy_from_slice(&count.to_ne_bytes()))
}

/// With a buffer id that the builders' 16 bits cannot hold.
fn numbered(entry: Entry, id: u64) -> Entry {
    edit(entry, |bytes| bytes[8..16].copy_from_slice(&id.to_ne_bytes()))
}

fn with(entry: &Entry, at: usize, value: u8) -> Entry {
    edit(entry.clone(), |bytes| bytes[at] = value)
}

fn result(rig: &mut Rig, entry: &Entry) -> Result<i32, Stop> {
    let (res, flags) = submit_one(rig, entry)?;
    assert_eq!(flags, 0);
    Ok(res)
}

fn buffers_are_removed_and_counted(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4 * 4096);
    assert_eq!(result(&mut rig, &remove(GROUP, 1))?, -libc::ENOENT, "a group that never was");
    assert_eq!(result(&mut rig, &provide(GROUP, memory.address(), 4096, 4, 0))?, 0);
    assert_eq!(result(&mut rig, &remove(GROUP + 1, 1))?, -libc::ENOENT);
    assert_eq!(result(&mut rig, &remove(GROUP, 1))?, 1, "the one that was next");
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 0, 0))?, (4096, used(1)));
    assert_eq!(result(&mut rig, &many(remove(GROUP, 1), 65536))?, 2, "all there are");
    assert_eq!(result(&mut rig, &remove(GROUP, 1))?, 0, "an empty group stays one");
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 0, 0))?, (-libc::ENOBUFS, 0));
    Ok(())
}

fn malformed_buffers_are_refused(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let address = memory.address();
    let good = provide(GROUP, address, 4096, 1, 0);
    let (e2big, eoverflow) = (-libc::E2BIG, -libc::EOVERFLOW);
    let entries = [
        (many(good.clone(), 0), e2big, "none"),
        (many(good.clone(), 65537), e2big, "65537"),
        (many(good.clone(), -1), e2big, "-1"),
        (provide(GROUP, address, 0, 1, 0), EINVAL, "of no length"),
        (numbered(good.clone(), 65536), e2big, "id 65536"),
        (numbered(good.clone(), 1 << 40), e2big, "id 2^40"),
        (provide(GROUP, address, 4096, 2, 65535), EINVAL, "ids to 65536"),
        (provide(GROUP, u64::MAX, 4096, 1, 0), eoverflow, "beyond the last address"),
        (provide(GROUP, 1 << 63, 4096, 1, 0), -libc::EFAULT, "addresses of the kernel's half"),
        (many(provide(GROUP, address, u32::MAX, 1, 0), 65536), -libc::EFAULT, "2^48 bytes"),
        (with(&good, 28, 1), EINVAL, "rw_flags"),
        (with(&good, 44, 1), EINVAL, "splice_fd_in"),
        (with(&good, 2, 1), EINVAL, "ioprio"),
    ];
    for (entry, errno, what) in entries {
        rig.push(&entry)?;
        rig.push(&opcode::Nop::new().build())?;
        assert_eq!(rig.ring.submit()?, 1, "{what}: a batch ends with it");
        assert_eq!(rig.wait(1)?[0].res, errno, "{what}");
        assert_eq!(rig.ring.submit()?, 1);
        rig.wait(1)?;
    }
    assert_eq!(result(&mut rig, &remove(GROUP, 1))?, -libc::ENOENT, "none of them has made the group");
    let fixed = good.clone().flags(Flags::FIXED_FILE);
    let accepted = [provide(GROUP, address, 4096, 1, 65535), provide(GROUP, address, u32::MAX, 1, 0), fixed];
    for entry in accepted.iter().chain([&with(&good, 48, 1)]) {
        assert_eq!(result(&mut rig, entry)?, 0);
    }
    assert_eq!(result(&mut rig, &remove(GROUP, 100))?, 4);
    Ok(())
}

fn the_first_thing_wrong_with_buffers_counts(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let kernel = 1 << 63;
    // rw_flags, count, length, address, id: each with the next.
    let entries = [
        (with(&many(provide(GROUP, 0, 1, 1, 0), 0), 28, 1), libc::EINVAL),
        (many(provide(GROUP, 0, 0, 1, 0), 0), libc::E2BIG),
        (provide(GROUP, kernel, 0, 1, 0), libc::EINVAL),
        (numbered(provide(GROUP, kernel, 1, 1, 0), 65536), libc::EFAULT),
        (numbered(provide(GROUP, u64::MAX, 1, 1, 0), 65536), libc::EOVERFLOW),
        (numbered(provide(GROUP, 0, 1, 2, 0), 65536), libc::E2BIG),
    ];
    for (entry, errno) in entries {
        assert_eq!(result(&mut rig, &entry)?, -errno, "{entry:?}");
    }
    Ok(())
}

fn malformed_removals_are_refused(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    assert_eq!(result(&mut rig, &provide(GROUP, memory.address(), 4096, 1, 0))?, 0);
    for count in [0, 65537, -1, i32::MIN] {
        assert_eq!(result(&mut rig, &many(remove(GROUP, 1), count))?, EINVAL, "{count}");
    }
    for (at, what) in [(2, "ioprio"), (8, "off"), (16, "addr"), (24, "len"), (28, "rw_flags"), (44, "splice_fd_in")] {
        assert_eq!(result(&mut rig, &with(&remove(GROUP, 1), at, 1))?, EINVAL, "{what}");
        assert_eq!(result(&mut rig, &with(&remove(77, 1), at, 1))?, EINVAL, "{what}, of no group");
    }
    assert_eq!(result(&mut rig, &remove(GROUP, 1))?, 1);
    Ok(())
}

fn a_group_holds_65535_buffers(bench: &Bench) -> Outcome {
    bench.since(6, 16)?;
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(65536);
    let all = many(provide(GROUP, memory.address(), 1, 1, 0), 65536);
    let two = provide(GROUP, memory.address(), 1, 2, 0);
    // As many as fit are taken, and an answer of 0 does not say how many.
    assert_eq!(result(&mut rig, &all)?, 0);
    assert_eq!(result(&mut rig, &two)?, -libc::EOVERFLOW);
    assert_eq!(result(&mut rig, &remove(GROUP, 1))?, 1);
    assert_eq!(result(&mut rig, &two)?, 0);
    assert_eq!(result(&mut rig, &two)?, -libc::EOVERFLOW);
    assert_eq!(result(&mut rig, &many(remove(GROUP, 1), 65536))?, 65535);
    assert_eq!(result(&mut rig, &all)?, 0);
    assert_eq!(result(&mut rig, &remove(GROUP, 65535))?, 65535);
    assert_eq!(result(&mut rig, &remove(GROUP, 1))?, 0);
    Ok(())
}

fn a_group_is_provided_or_a_ring(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let mut ring = BufferRing::new(&mut rig, GROUP, 8, 0);
    let give = provide(GROUP, memory.address(), 4096, 1, 0);
    assert_eq!(submit_all(&mut rig, &[give, remove(GROUP, 1)])?, [(0, EINVAL, 0), (1, EINVAL, 0)]);
    ring.add(&memory, 3);
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 0, 0))?, (4096, used(3)));
    // And the other way round.
    assert_eq!(result(&mut rig, &provide(2, memory.address(), 4096, 1, 5))?, 0);
    let other = rig.plain(4096);
    assert_eq!(register_ring(&rig, &buf_reg(other.address(), 8, 2, 0)), -libc::EEXIST);
    assert_eq!((head(&rig, 2), unregister_ring(&rig, 2)), (EINVAL, EINVAL));
    assert_eq!(submit_one(&mut rig, &read_into(2, 0, 0))?, (4096, used(5)));
    Ok(())
}

fn an_emptied_group_may_become_a_ring(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory: Memory = rig.plain(4096);
    assert_eq!(result(&mut rig, &provide(GROUP, memory.address(), 4096, 1, 5))?, 0);
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 0, 0))?, (4096, used(5)));
    assert_eq!((head(&rig, GROUP.into()), unregister_ring(&rig, GROUP)), (EINVAL, EINVAL), "still a provided one");
    let ring = BufferRing::new(&mut rig, GROUP, 8, 0);
    assert_eq!(ring.head(&rig), 0);
    assert_eq!(unregister_ring(&rig, GROUP), 0);
    assert_eq!(unregister_ring(&rig, GROUP), -libc::ENOENT);
    assert_eq!(head(&rig, GROUP.into()), -libc::ENOENT);
    assert_eq!(result(&mut rig, &remove(GROUP, 1))?, -libc::ENOENT, "the group is gone with its ring");
    assert_eq!(result(&mut rig, &provide(GROUP, memory.address(), 4096, 1, 6))?, 0);
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 0, 0))?, (4096, used(6)));
    Ok(())
}
