//! Memory of the program that holds the arguments of waits (`REGISTER_MEM_REGION`, `EXT_ARG_REG`).

use std::time::{Duration, Instant};

use io_uring::opcode;
use nix::time::{ClockId, clock_gettime};

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::calls::{
    ABS_TIMER, EXT_ARG, EXT_ARG_REG, GETEVENTS, REGISTER_ENABLE_RINGS, REGISTER_MEM_REGION, UNMAPPED, enter, fields,
    getevents, low, reg_wait, register, sigmask, timespec,
};
use crate::support::raw::Memory;
use crate::support::rig::Rig;
use crate::support::signals::Striker;

pub(super) const ALL: &[Case] = cases![
    a_region_is_checked_when_it_is_registered,
    a_region_is_one,
    waits_take_their_argument_from_the_region,
    arguments_in_the_region_are_checked,
    places_in_the_region_are_checked,
    a_wait_without_a_region_is_a_fault,
];

const R_DISABLED: u32 = 1 << 6;
const WAIT: u32 = GETEVENTS | EXT_ARG | EXT_ARG_REG;
const WAIT_ARG: u64 = 1;
const EINVAL: i32 = -libc::EINVAL;
const EFAULT: i32 = -libc::EFAULT;
const ETIME: i32 = -libc::ETIME;
/// `IORING_REG_WAIT_TS`.
const HAS_TIME: u32 = 1;
const REGION: usize = 128 << 10;

/// `struct io_uring_region_desc`, in memory.
fn description(address: u64, size: u64, flags: u32) -> Memory {
    let memory = Memory::plain(64);
    memory.write(&fields::<20>(&[&address.to_ne_bytes(), &size.to_ne_bytes(), &flags.to_ne_bytes()]));
    memory
}

/// `REGISTER_MEM_REGION` of a description, with flags.
fn call(rig: &Rig, description: u64, flags: u64) -> i32 {
    let memory = Memory::plain(32);
    memory.write(&fields::<16>(&[&description.to_ne_bytes(), &flags.to_ne_bytes()]));
    register(&rig.ring, REGISTER_MEM_REGION, memory.address(), 1)
}

/// A ring with a region for arguments.
fn ring(bench: &Bench) -> Result<(Rig, Memory), Stop> {
    bench.since(6, 13)?;
    let mut rig = bench.open(bench.builder(4).setup_flags(R_DISABLED))?;
    let region = rig.plain(REGION);
    let description = description(region.address(), REGION as u64, 1);
    assert_eq!(call(&rig, description.address(), WAIT_ARG), 0);
    assert_eq!(register(&rig.ring, REGISTER_ENABLE_RINGS, 0, 0), 0);
    Ok((rig, region))
}

fn wait(rig: &Rig, submit: u32, want: u32, at: Option<&[u8; 64]>) -> (i32, Duration) {
    let start = Instant::now();
    (enter(&rig.ring, submit, want, WAIT, at), start.elapsed())
}

const MILLIS_10: (i64, i64) = (0, 10_000_000);

fn a_region_is_checked_when_it_is_registered(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(8192);
    let at = memory.address();
    let region = |address, size, flags| call(&rig, description(address, size, flags).address(), 0);
    assert_eq!(call(&rig, UNMAPPED, 0), EFAULT);
    assert_eq!(call(&rig, 0, 0), EFAULT);
    let good = description(at, 8192, 1);
    assert_eq!(call(&rig, good.address(), WAIT_ARG), EINVAL, "waits need it before the ring is enabled");
    for flags in [2, 3, 1 << 63] {
        assert_eq!(call(&rig, good.address(), flags), EINVAL, "flags {flags:#x}");
        assert_eq!(call(&rig, UNMAPPED, flags), EFAULT, "after the description was read");
    }
    for byte in [16, 31] {
        let argument = Memory::plain(32);
        argument.write(&good.address().to_ne_bytes());
        argument.part(byte, 1).write(&[1]);
        assert_eq!(register(&rig.ring, REGISTER_MEM_REGION, argument.address(), 1), EINVAL, "byte {byte}");
    }
    assert_eq!(region(at, 8192, 2), EINVAL, "unknown flags");
    assert_eq!(region(at, 8192, 0), EFAULT, "memory of the kernel has no address");
    assert_eq!(region(0, 8192, 1), EFAULT);
    assert_eq!(region(at, 0, 1), EINVAL);
    assert_eq!(region(at, 100, 1), EINVAL, "no whole pages");
    assert_eq!(region(at + 1, 4096, 1), EINVAL);
    assert_eq!(region(UNMAPPED, 4096, 1), EFAULT);
    assert_eq!(region(4096u64.wrapping_neg(), 8192, 1), -libc::EOVERFLOW);
    for byte in [20, 24, 32, 63] {
        let description = description(at, 8192, 1);
        description.part(byte, 1).write(&[1]);
        assert_eq!(call(&rig, description.address(), 0), EINVAL, "byte {byte} of the description");
    }
    let ask = |address, count| register(&rig.ring, REGISTER_MEM_REGION, address, count);
    assert_eq!([ask(good.address(), 0), ask(good.address(), 2), ask(0, 1)], [EINVAL; 3]);
    assert_eq!(ask(UNMAPPED, 1), EFAULT);
    assert_eq!(call(&rig, good.address(), 0), 0, "none of them has made one");
    Ok(())
}

fn a_region_is_one(bench: &Bench) -> Outcome {
    let (rig, region) = ring(bench)?;
    let description = description(region.address(), REGION as u64, 1);
    assert_eq!(call(&rig, description.address(), 0), -libc::EBUSY);
    assert_eq!(call(&rig, UNMAPPED, 7), -libc::EBUSY, "before anything is read");
    assert_eq!(register(&rig.ring, REGISTER_MEM_REGION, UNMAPPED, 1), -libc::EBUSY);
    assert_eq!(register(&rig.ring, REGISTER_MEM_REGION, UNMAPPED, 2), EINVAL);
    Ok(())
}

fn waits_take_their_argument_from_the_region(bench: &Bench) -> Outcome {
    let (mut rig, region) = ring(bench)?;
    region.write(&reg_wait(MILLIS_10, 0, HAS_TIME, (0, 0)));
    let (res, took) = wait(&rig, 0, 1, None);
    assert_eq!(res, ETIME);
    assert!(took >= Duration::from_millis(10), "{took:?}");
    assert_eq!(wait(&rig, 0, 0, None).0, 0);
    // Without the flag there is no limit.
    region.write(&reg_wait((-1, 0), 0, 0, (0, 0)));
    rig.push(&opcode::Nop::new().build())?;
    assert_eq!(wait(&rig, 1, 1, None).0, 1);
    region.write(&reg_wait((100, 0), 20_000, HAS_TIME, (0, 0)));
    let (res, took) = wait(&rig, 0, 2, None);
    assert_eq!(res, 0, "the least wait is over");
    assert!(took >= Duration::from_millis(20), "{took:?}");
    assert_eq!(rig.ready().len(), 1);
    let now = || -> Result<_, Stop> { Ok(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?)) };
    let end = now()? + Duration::from_millis(30);
    region.write(&reg_wait((end.as_secs() as i64, end.subsec_nanos().into()), 0, HAS_TIME, (0, 0)));
    assert_eq!(enter(&rig.ring, 0, 1, WAIT | ABS_TIMER, None::<&[u8; 64]>), ETIME);
    assert!(now()? >= end);
    {
        let _striker = Striker::new();
        let mask = sigmask(u64::MAX);
        region.write(&reg_wait((0, 50_000_000), 0, HAS_TIME, (mask.address(), 8)));
        assert_eq!(wait(&rig, 0, 1, None).0, ETIME, "the signal is masked");
        region.write(&reg_wait((100, 0), 0, HAS_TIME, (0, 0)));
        assert_eq!(wait(&rig, 0, 1, None).0, -libc::EINTR);
    }
    // The ordinary argument still works.
    let limit = timespec(0, 10_000_000);
    assert_eq!(enter(&rig.ring, 0, 1, GETEVENTS | EXT_ARG, Some(&getevents(0, 0, 0, limit.address()))), ETIME);
    Ok(())
}

fn arguments_in_the_region_are_checked(bench: &Bench) -> Outcome {
    let (rig, region) = ring(bench)?;
    let mask = sigmask(0);
    for want in [0, 1] {
        assert_eq!(enter(&rig.ring, 0, want, WAIT, None::<&[u8; 24]>), EINVAL, "the length is that of the argument");
        assert_eq!(enter(&rig.ring, 0, want, WAIT, None::<&[u8; 0]>), EINVAL);
        region.write(&reg_wait(MILLIS_10, 0, 2 | HAS_TIME, (0, 0)));
        assert_eq!(wait(&rig, 0, want, None).0, EINVAL, "unknown flags");
    }
    for (address, bytes, errno) in [(UNMAPPED, 8, EFAULT), (UNMAPPED, 7, EINVAL), (mask.address(), 16, EINVAL)] {
        region.write(&reg_wait(MILLIS_10, 0, HAS_TIME, (address, bytes)));
        assert_eq!(wait(&rig, 0, 1, None).0, errno);
        assert_eq!(wait(&rig, 0, 0, None).0, 0, "the mask is not looked at");
    }
    // What is reserved does not count.
    let mut argument = reg_wait(MILLIS_10, 0, HAS_TIME, (0, 0));
    argument[36..].fill(0xff);
    region.write(&argument);
    assert_eq!(wait(&rig, 0, 1, None).0, ETIME);
    Ok(())
}

fn places_in_the_region_are_checked(bench: &Bench) -> Outcome {
    let (rig, region) = ring(bench)?;
    let argument = reg_wait(MILLIS_10, 0, HAS_TIME, (0, 0));
    for place in [65536, 65544, REGION - 72] {
        region.part(place, 64).write(&argument);
        assert_eq!(wait(&rig, 0, 1, Some(low(place))).0, ETIME, "{place:#x}");
        region.part(place, 64).write(&[0xff; 64]);
    }
    // For the last place there is, the kernel takes the first: its `array_index_nospec` stops one short.
    region.write(&argument);
    region.part(REGION - 64, 64).write(&argument);
    assert_eq!(wait(&rig, 0, 1, Some(low(REGION - 64))).0, ETIME);
    // Not aligned, and not inside.
    for place in [65537, 65540, REGION - 56, REGION - 8, REGION, REGION + 64] {
        assert_eq!(wait(&rig, 0, 1, Some(low(place))).0, EFAULT, "{place:#x}");
    }
    Ok(())
}

fn a_wait_without_a_region_is_a_fault(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let mut rig = bench.rig(4)?;
    assert_eq!(wait(&rig, 0, 1, None).0, EFAULT);
    assert_eq!(wait(&rig, 0, 0, None).0, EFAULT);
    assert_eq!(wait(&rig, 0, 1, Some(low(65536))).0, EFAULT);
    // A region that is not for waits is none.
    let region = rig.plain(4096);
    let description = description(region.address(), 4096, 1);
    assert_eq!(call(&rig, description.address(), 0), 0);
    assert_eq!(wait(&rig, 0, 1, None).0, EFAULT);
    Ok(())
}
