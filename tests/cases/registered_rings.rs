//! Rings that a thread has registered for itself (`REGISTER_RING_FDS`).

use std::os::fd::AsRawFd;

use io_uring::opcode;

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::calls::{
    GETEVENTS, REGISTER_PROBE, REGISTER_RING_FDS, UNMAPPED, UNREGISTER_EVENTFD, UNREGISTER_RING_FDS, enter_by_index,
    register, register_by_index, register_bytes, rsrc_update, word,
};
use crate::support::raw::Memory;
use crate::support::rig::{Rig, read};

pub(super) const ALL: &[Case] = cases![
    rings_are_registered_at_a_place,
    registered_rings_are_checked,
    registering_rings_stops_at_the_first_error,
    a_registered_ring_is_entered_by_its_index,
    a_registered_ring_is_changed_by_its_index,
    the_index_of_a_ring_is_its_threads,
];

const EINVAL: i32 = -libc::EINVAL;
const EFAULT: i32 = -libc::EFAULT;
const NONE: u64 = 0;

/// Any place that is free.
const ANY: u32 = u32::MAX;

/// Registers or unregisters rings, given as place and data; the places that stand there after.
fn ring_fds(rig: &Rig, opcode: u32, rings: &[(u32, i32)]) -> (i32, Vec<u32>) {
    let memory = Memory::plain(16 * rings.len());
    for (i, (place, data)) in rings.iter().enumerate() {
        memory.part(16 * i, 16).write(&rsrc_update(*place, 0, u64::from(data.cast_unsigned())));
    }
    let res = register(&rig.ring, opcode, memory.address(), rings.len() as u32);
    (res, (0..rings.len()).map(|i| word(&memory, 16 * i)).collect())
}

/// Forgets all of this thread's.
fn forget(rig: &Rig) {
    let all: Vec<_> = (0..16).map(|place| (place, 0)).collect();
    assert_eq!(ring_fds(rig, UNREGISTER_RING_FDS, &all).0, 16, "free places are forgotten too");
}

fn rings_are_registered_at_a_place(bench: &Bench) -> Outcome {
    let rig = bench.rig(4)?;
    let fd = rig.ring.as_raw_fd();
    forget(&rig);
    let set = |place| ring_fds(&rig, REGISTER_RING_FDS, &[(place, fd)]);
    assert_eq!([set(ANY), set(ANY)], [(1, vec![0]), (1, vec![1])], "the first that is free, told");
    assert_eq!(set(5), (1, vec![5]));
    assert_eq!([set(0), set(5)], [(-libc::EBUSY, vec![0]), (-libc::EBUSY, vec![5])]);
    assert_eq!(ring_fds(&rig, UNREGISTER_RING_FDS, &[(0, 0)]).0, 1);
    assert_eq!(set(ANY), (1, vec![0]));
    let all = ring_fds(&rig, REGISTER_RING_FDS, &[(ANY, fd); 16]);
    assert_eq!(all, (13, vec![2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, ANY, ANY, ANY]));
    assert_eq!(set(ANY), (-libc::EBUSY, vec![ANY]));
    forget(&rig);
    // They are the thread's, whatever ring was asked.
    let other = bench.rig(4)?;
    assert_eq!(set(3), (1, vec![3]));
    assert_eq!(ring_fds(&other, REGISTER_RING_FDS, &[(3, fd)]), (-libc::EBUSY, vec![3]));
    forget(&other);
    Ok(())
}

fn registered_rings_are_checked(bench: &Bench) -> Outcome {
    let rig = bench.rig(4)?;
    let fd = rig.ring.as_raw_fd();
    let null = std::fs::File::open("/dev/null")?;
    forget(&rig);
    let set = |place, fd| ring_fds(&rig, REGISTER_RING_FDS, &[(place, fd)]).0;
    let unset = |place, data| ring_fds(&rig, UNREGISTER_RING_FDS, &[(place, data)]).0;
    for place in [16, 17, 1 << 31, ANY - 1] {
        assert_eq!((set(place, fd), unset(place, 0)), (EINVAL, EINVAL), "place {place}");
        assert_eq!(set(place, -1), EINVAL, "before the descriptor");
    }
    assert_eq!([set(ANY, -1), set(0, i32::MAX)], [-libc::EBADF; 2]);
    assert_eq!(set(ANY, null.as_raw_fd()), -libc::EOPNOTSUPP, "no ring");
    assert_eq!(set(0, fd), 1);
    assert_eq!(
        [set(0, -1), set(0, null.as_raw_fd())],
        [-libc::EBADF, -libc::EOPNOTSUPP],
        "before the place is looked at"
    );
    assert_eq!([unset(ANY, 0), unset(0, 1)], [EINVAL; 2]);
    for opcode in [REGISTER_RING_FDS, UNREGISTER_RING_FDS] {
        let reserved = rsrc_update(1, 1, 0);
        assert_eq!(register_bytes(&rig.ring, opcode, &reserved, 1), EINVAL);
        let call = |address, count| register(&rig.ring, opcode, address, count);
        assert_eq!([call(UNMAPPED, 0), call(UNMAPPED, 17), call(NONE, 0)], [EINVAL; 3]);
        assert_eq!([call(UNMAPPED, 1), call(NONE, 16)], [EFAULT; 2]);
    }
    assert_eq!([unset(0, 0), unset(0, 0)], [1, 1], "a free place is no error");
    Ok(())
}

fn registering_rings_stops_at_the_first_error(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let fd = rig.ring.as_raw_fd();
    forget(&rig);
    let done = ring_fds(&rig, REGISTER_RING_FDS, &[(ANY, fd), (ANY, -1), (ANY, fd)]);
    assert_eq!(done, (1, vec![0, ANY, ANY]), "how many there were before it");
    assert_eq!(ring_fds(&rig, REGISTER_RING_FDS, &[(ANY, -1), (ANY, fd)]).0, -libc::EBADF);
    assert_eq!(ring_fds(&rig, UNREGISTER_RING_FDS, &[(0, 0), (16, 0), (1, 0)]).0, 1);
    assert_eq!(ring_fds(&rig, REGISTER_RING_FDS, &[(0, fd)]).0, 1, "it was forgotten");
    forget(&rig);
    assert_eq!(rig.one(opcode::Nop::new().build())?, 0, "the ring goes on");
    Ok(())
}

/// A ring that this thread has registered at a place.
fn registered(bench: &Bench, place: u32) -> Result<Rig, Stop> {
    let rig = bench.rig(4)?;
    forget(&rig);
    let fd = rig.ring.as_raw_fd();
    assert_eq!(ring_fds(&rig, REGISTER_RING_FDS, &[(place, fd)]), (1, vec![place]));
    Ok(rig)
}

/// Nothing stands at that place, or nothing of this ring's.
fn expect_nowhere(res: i32) {
    assert!([EINVAL, -libc::EBADF].contains(&res), "{res}");
}

fn a_registered_ring_is_entered_by_its_index(bench: &Bench) -> Outcome {
    for place in [0, 5, 15] {
        let mut rig = registered(bench, place)?;
        for count in [1, 4] {
            for i in 0..count {
                rig.push(&opcode::Nop::new().build().user_data(i.into()))?;
            }
            assert_eq!(enter_by_index(&rig.ring, place, count, count, GETEVENTS), count as i32);
            let names: Vec<u64> = rig.ready().iter().map(|done| done.user_data).collect();
            assert_eq!(names, (0..count.into()).collect::<Vec<_>>());
        }
        let memory = rig.plain(4096);
        rig.push(&read(&memory, 0))?;
        assert_eq!(enter_by_index(&rig.ring, place, 1, 1, GETEVENTS), 1);
        assert_eq!(rig.ready()[0].res, 4096);
        assert_eq!(enter_by_index(&rig.ring, place, 0, 0, 1 << 8), EINVAL, "unknown flags");
        forget(&rig);
        expect_nowhere(enter_by_index(&rig.ring, place, 0, 0, 0));
        assert_eq!(rig.one(opcode::Nop::new().build())?, 0, "its descriptor goes on");
    }
    Ok(())
}

/// `IORING_REGISTER_USE_REGISTERED_RING`.
fn a_registered_ring_is_changed_by_its_index(bench: &Bench) -> Outcome {
    bench.since(6, 3)?;
    let rig = registered(bench, 7)?;
    let call = |opcode, address, count| register_by_index(&rig.ring, 7, opcode, address, count);
    assert_eq!(call(UNREGISTER_EVENTFD, NONE, 0), -libc::ENXIO, "the ring has none");
    assert_eq!(call(99, NONE, 0), EINVAL);
    let probe = Memory::plain(4096);
    assert_eq!(call(REGISTER_PROBE, probe.address(), 30), 0);
    assert_eq!(probe.part(1, 1).read(), [30]);
    // The index itself can be taken away by it.
    let itself = Memory::plain(16);
    itself.write(&rsrc_update(7, 0, 0));
    assert_eq!(call(UNREGISTER_RING_FDS, itself.address(), 1), 1);
    expect_nowhere(call(UNREGISTER_EVENTFD, NONE, 0));
    assert_eq!(register(&rig.ring, UNREGISTER_EVENTFD, NONE, 0), -libc::ENXIO);
    Ok(())
}

fn the_index_of_a_ring_is_its_threads(bench: &Bench) -> Outcome {
    let mut rig = registered(bench, 3)?;
    let there = |rig: &mut Rig| enter_by_index(&rig.ring, 3, 0, 0, 0);
    let elsewhere = std::thread::scope(|scope| scope.spawn(|| there(&mut rig)).join());
    expect_nowhere(elsewhere.map_err(|_| Stop::Fail("the other thread panicked".into()))?);
    assert_eq!(there(&mut rig), 0);
    forget(&rig);
    Ok(())
}
