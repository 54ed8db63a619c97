//! Devices that fail, or do not answer.

use std::time::{Duration, Instant};

use super::zoo::{self, BAD_OFFSET, BAD_WRITE_OFFSET, ODD, SILENT, SILENT_BYTES};
use crate::case::{Bench, Case, Outcome, cases};
use crate::support::rig::{expect_errno, read, read_fixed, write};

pub(super) const ALL: &[Case] = cases![
    a_block_that_cannot_be_read_fails_its_read_alone,
    a_block_that_cannot_be_written_fails_its_write_alone,
    failures_are_those_of_the_kernel,
    a_long_transfer_with_a_bad_block_fails_as_a_whole,
    a_device_that_does_not_answer_is_given_up,
];

/// What the kernel answers for an unrecovered read and for a write fault; shown by
/// [`failures_are_those_of_the_kernel`].
const READ_ERRNO: i32 = libc::ENODATA;
const WRITE_ERRNO: i32 = libc::ENODATA;

fn a_block_that_cannot_be_read_fails_its_read_alone(_: &Bench) -> Outcome {
    for builder in [zoo::polled(8), zoo::interrupted(8)] {
        let mut rig = zoo::open(ODD, 2, builder)?;
        let (own, plain, fixed) = (rig.alloc(65536)?, rig.plain(65536), rig.plain(65536));
        rig.register(&[&fixed])?;
        for bad in
            [read(&own, BAD_OFFSET), read(&plain, BAD_OFFSET - 4096), read_fixed(&fixed.part(0, 512), 0, BAD_OFFSET)]
        {
            let before = read(&own, BAD_OFFSET - 65536);
            let after = read_fixed(&fixed.part(0, 4096), 0, BAD_OFFSET + 512);
            let results = rig.all(&[before, bad, after])?;
            assert_eq!(results, [65536, -READ_ERRNO, 4096]);
        }
    }
    Ok(())
}

fn a_block_that_cannot_be_written_fails_its_write_alone(_: &Bench) -> Outcome {
    let mut rig = zoo::open(ODD, 2, zoo::polled(8))?;
    let (own, plain) = (rig.alloc(65536)?, rig.plain(65536));
    for bad in [write(&own, BAD_WRITE_OFFSET), write(&plain, BAD_WRITE_OFFSET)] {
        let results = rig.all(&[write(&plain, 0), bad, write(&own, BAD_WRITE_OFFSET + 4096)])?;
        assert_eq!(results, [65536, -WRITE_ERRNO, 65536]);
    }
    Ok(())
}

fn failures_are_those_of_the_kernel(_: &Bench) -> Outcome {
    let function = zoo::unbind(ODD, 2)?;
    let disk = function.block_devices.iter().find(|disk| disk.nsid == Some(2)).map(|disk| disk.name.clone());
    let path = format!("/dev/{}", disk.unwrap_or_default());
    let mut rig = crate::support::rig::Rig::new(zoo::interrupted(8).open(&path)?);
    let memory = rig.plain(4096);
    expect_errno(rig.one(read(&memory, BAD_OFFSET))?, READ_ERRNO, "read");
    expect_errno(rig.one(write(&memory, BAD_WRITE_OFFSET))?, WRITE_ERRNO, "write");
    Ok(())
}

fn a_long_transfer_with_a_bad_block_fails_as_a_whole(_: &Bench) -> Outcome {
    for builder in [zoo::polled(8), zoo::polled(8).bounce_limit(16 << 10)] {
        let mut rig = zoo::open(ODD, 2, builder)?;
        let len = 4 << 20;
        let (own, plain) = (rig.alloc(len)?, rig.plain(len));
        for memory in [&own, &plain] {
            for _ in 0..3 {
                expect_errno(rig.one(read(memory, 0))?, READ_ERRNO, "8 commands, of which one fails");
                assert_eq!(rig.one(read(memory, 8 << 20))?, len as i32, "the ring goes on");
            }
            let reads: Vec<_> = (0..8).map(|i| read(memory, i << 22)).collect();
            let mut expected = vec![len as i32; 8];
            expected[0] = -READ_ERRNO;
            assert_eq!(rig.all(&reads)?, expected);
        }
    }
    Ok(())
}

fn a_device_that_does_not_answer_is_given_up(_: &Bench) -> Outcome {
    let mut rig = zoo::open(SILENT, 1, zoo::interrupted(8))?;
    let (own, plain) = (rig.alloc(SILENT_BYTES)?, rig.plain(SILENT_BYTES));
    // What comes first may use what the device has saved up; what follows cannot.
    for memory in [&own, &plain] {
        rig.push(&read(memory, 0))?;
    }
    let start = Instant::now();
    rig.ring.submit()?;
    let done = rig.wait(2)?;
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(75), "every wait is bounded: {elapsed:?}");
    let timed_out = done.iter().filter(|done| done.res == -libc::ETIMEDOUT).count();
    assert!(timed_out > 0 || elapsed > Duration::from_secs(25), "{done:?} after {elapsed:?}");
    // The controller was stopped: nothing is accepted until it is opened again.
    let res = rig.one(read(&own.part(0, 512), 0))?;
    expect_errno(res, libc::EIO, "after the controller was stopped");
    drop(rig);
    // It can be opened again; a read would have to wait for what the throttle still owes.
    let again = zoo::open(SILENT, 1, zoo::polled(8))?;
    assert_eq!(again.ring.target().size_bytes, 64 << 20);
    Ok(())
}
