//! Waits of `io_uring_enter` with an argument: timeouts, least waits, absolute times, and signals.

use std::time::{Duration, Instant};

use io_uring::squeue::Entry;
use io_uring::{opcode, types};
use nix::time::{ClockId, clock_gettime};

use crate::case::{Bench, Case, Outcome, cases};
use crate::support::calls::{
    ABS_TIMER, EXT_ARG, GETEVENTS, NOTHING, REGISTER_CLOCK, UNMAPPED, enter, fields, getevents, register_bytes,
    sigmask, timespec,
};
use crate::support::raw::Memory;
use crate::support::rig::Rig;
use crate::support::signals::{Pending, Striker};

pub(super) const ALL: &[Case] = cases![
    a_wait_times_out,
    a_timeout_is_any_number_of_seconds_and_nanoseconds,
    a_wait_that_times_out_with_something_is_no_error,
    a_wait_for_nothing_does_not_wait,
    arguments_of_a_wait_are_checked,
    a_signal_mask_is_looked_at_when_the_wait_begins,
    an_expired_timeout_ends_a_wait,
    a_least_wait_is_waited_for_more,
    a_least_wait_without_completions_goes_on,
    a_wait_may_end_at_a_time,
    an_absolute_wait_is_of_the_clock_that_was_registered,
    a_signal_ends_a_wait,
    a_signal_that_is_masked_does_not_end_a_wait,
    a_pending_signal_that_the_mask_opens_ends_a_wait,
];

const WAIT: u32 = GETEVENTS | EXT_ARG;
const EINVAL: i32 = -libc::EINVAL;
const EFAULT: i32 = -libc::EFAULT;
const ETIME: i32 = -libc::ETIME;
const EINTR: i32 = -libc::EINTR;

fn nop(rig: &mut Rig, user_data: u64) -> Outcome {
    Ok(rig.push(&opcode::Nop::new().build().user_data(user_data))?)
}

/// One completion that is there.
fn ready(rig: &mut Rig) -> Outcome {
    nop(rig, 1)?;
    assert_eq!(enter(&rig.ring, 1, 0, 0, NOTHING), 1);
    Ok(())
}

/// Waits at most `limit`; answers after how long, too.
fn wait(rig: &Rig, want: u32, limit: &Memory) -> (i32, Duration) {
    let start = Instant::now();
    (enter(&rig.ring, 0, want, WAIT, Some(&getevents(0, 0, 0, limit.address()))), start.elapsed())
}

fn millis(count: i64) -> Memory {
    timespec(0, count * 1_000_000)
}

/// Longer than any case takes.
fn long() -> Memory {
    timespec(100, 0)
}

fn a_wait_times_out(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    for want in [1, 4] {
        let (res, took) = wait(&rig, want, &millis(10));
        assert_eq!(res, ETIME);
        assert!(took >= Duration::from_millis(10), "{took:?}");
    }
    // What is pushed and not submitted does not come.
    nop(&mut rig, 1)?;
    assert_eq!(wait(&rig, 1, &millis(1)).0, ETIME);
    assert_eq!(rig.wait(1)?.len(), 1);
    assert_eq!(wait(&rig, 1, &millis(0)).0, ETIME);
    Ok(())
}

fn a_timeout_is_any_number_of_seconds_and_nanoseconds(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    // A sum that is not positive is over at once.
    for (seconds, nanos) in [(0, 0), (-1, 0), (0, -1), (-1, 999_999_999), (-2, 1_999_999_999)] {
        assert_eq!(wait(&rig, 1, &timespec(seconds, nanos)).0, ETIME, "{seconds} s {nanos} ns");
    }
    let (res, took) = wait(&rig, 1, &timespec(-1, 1_010_000_000));
    assert_eq!(res, ETIME);
    assert!(took >= Duration::from_millis(10), "{took:?}");
    ready(&mut rig)?;
    assert_eq!(wait(&rig, 2, &timespec(-1, 0)).0, 0);
    assert_eq!(wait(&rig, 1, &timespec(i64::MAX, 0)).0, 0);
    Ok(())
}

fn a_wait_that_times_out_with_something_is_no_error(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    ready(&mut rig)?;
    let (res, took) = wait(&rig, 2, &millis(10));
    assert_eq!(res, 0);
    assert!(took >= Duration::from_millis(10), "{took:?}");
    nop(&mut rig, 2)?;
    let limit = millis(10);
    assert_eq!(enter(&rig.ring, 1, 4, WAIT, Some(&getevents(0, 0, 0, limit.address()))), 1, "the submitted");
    assert_eq!(rig.ready().len(), 2);
    // Nor with nothing, when something was submitted.
    let timeout = types::Timespec::new().sec(100);
    rig.push(&opcode::Timeout::new(&raw const timeout).build().user_data(7))?;
    assert_eq!(enter(&rig.ring, 1, 1, WAIT, Some(&getevents(0, 0, 0, limit.address()))), 1);
    assert_eq!(wait(&rig, 1, &limit).0, ETIME);
    rig.push(&opcode::TimeoutRemove::new(7).build())?;
    assert_eq!(rig.wait(2)?.len(), 2);
    Ok(())
}

fn a_wait_for_nothing_does_not_wait(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    assert_eq!(wait(&rig, 0, &long()).0, 0);
    ready(&mut rig)?;
    for want in [0, 1] {
        assert_eq!(wait(&rig, want, &long()).0, 0);
    }
    // Without GETEVENTS the argument is not read.
    assert_eq!(enter(&rig.ring, 0, 9, EXT_ARG, Some(&getevents(UNMAPPED, 3, 0, UNMAPPED))), 0);
    assert_eq!(enter(&rig.ring, 0, 9, EXT_ARG, Some(&[0; 5])), 0);
    Ok(())
}

fn arguments_of_a_wait_are_checked(bench: &Bench) -> Outcome {
    // Before, the timespec was read when the wait began.
    bench.since(6, 13)?;
    let mut rig = bench.rig(4)?;
    // The same with nothing there, and with enough.
    for _ in 0..2 {
        for want in [0, 1] {
            assert_eq!(enter(&rig.ring, 0, want, WAIT, None::<&[u8; 0]>), EINVAL);
            assert_eq!(enter(&rig.ring, 0, want, WAIT, Some(&[0; 23])), EINVAL);
            assert_eq!(enter(&rig.ring, 0, want, WAIT, Some(&[0; 32])), EINVAL);
            assert_eq!(enter(&rig.ring, 0, want, WAIT, None::<&[u8; 24]>), EFAULT);
            assert_eq!(enter(&rig.ring, 0, want, WAIT, Some(&getevents(0, 0, 0, UNMAPPED))), EFAULT);
        }
        ready(&mut rig)?;
    }
    rig.ready();
    let (mask, limit, over) = (sigmask(u64::MAX), millis(10), timespec(-1, 0));
    let ask = |mask, bytes, limit| enter(&rig.ring, 0, 1, WAIT, Some(&getevents(mask, bytes, 0, limit)));
    for bytes in [0, 4, 7, 16, 128] {
        assert_eq!(ask(mask.address(), bytes, limit.address()), EINVAL, "a mask of {bytes} bytes");
        assert_eq!(ask(UNMAPPED, bytes, limit.address()), EINVAL, "its length comes before its address");
        assert_eq!(ask(UNMAPPED, bytes, UNMAPPED), EFAULT, "the timespec comes before both");
        assert_eq!(ask(mask.address(), bytes, over.address()), EINVAL, "and is waited for after them");
        assert_eq!(ask(0, bytes, limit.address()), ETIME, "there is no mask");
    }
    assert_eq!(ask(UNMAPPED, 8, limit.address()), EFAULT);
    assert_eq!(ask(mask.address(), 8, limit.address()), ETIME);
    Ok(())
}

fn a_signal_mask_is_looked_at_when_the_wait_begins(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    // Without EXT_ARG the argument is the mask.
    assert_eq!(enter(&rig.ring, 0, 1, GETEVENTS, Some(&[0xff; 7])), EINVAL);
    assert_eq!(enter(&rig.ring, 0, 0, GETEVENTS, Some(&[0xff; 7])), 0);
    ready(&mut rig)?;
    assert_eq!(enter(&rig.ring, 0, 1, GETEVENTS, Some(&[0xff; 7])), 0);
    assert_eq!(enter(&rig.ring, 0, 1, GETEVENTS, Some(&[0xff; 8])), 0);
    assert_eq!(enter(&rig.ring, 0, 1, GETEVENTS, None::<&[u8; 7]>), 0);
    for (mask, bytes) in [(UNMAPPED, 8), (UNMAPPED, 7)] {
        assert_eq!(enter(&rig.ring, 0, 1, WAIT, Some(&getevents(mask, bytes, 0, 0))), 0);
    }
    Ok(())
}

fn timeout(timespec: &types::Timespec) -> Entry {
    opcode::Timeout::new(&raw const *timespec).build().user_data(5)
}

fn an_expired_timeout_ends_a_wait(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let soon = types::Timespec::new().nsec(10_000_000);
    rig.push(&timeout(&soon))?;
    // However many are waited for (`io_should_wake`).
    assert_eq!(enter(&rig.ring, 1, 3, GETEVENTS, NOTHING), 1);
    let done = rig.ready();
    assert_eq!((done.len(), done[0].user_data, done[0].res), (1, 5, ETIME));
    Ok(())
}

/// Waits with a least wait, in milliseconds.
fn least(rig: &Rig, (submit, want): (u32, u32), least_millis: u32, limit: u64) -> (i32, Duration) {
    let start = Instant::now();
    let argument = getevents(0, 0, least_millis * 1000, limit);
    (enter(&rig.ring, submit, want, WAIT, Some(&argument)), start.elapsed())
}

fn a_least_wait_is_waited_for_more(bench: &Bench) -> Outcome {
    bench.since(6, 12)?;
    let mut rig = bench.rig(4)?;
    let limit = long();
    ready(&mut rig)?;
    // With one there it is over when the least wait is.
    for limit in [limit.address(), 0] {
        let (res, took) = least(&rig, (0, 2), 20, limit);
        assert_eq!(res, 0);
        assert!(took >= Duration::from_millis(20), "{took:?}");
    }
    nop(&mut rig, 2)?;
    let (res, took) = least(&rig, (1, 3), 20, limit.address());
    assert_eq!(res, 1, "the submitted");
    assert!(took >= Duration::from_millis(20), "{took:?}");
    // What is wanted ends it at once.
    assert_eq!(least(&rig, (0, 2), 1_000_000, limit.address()).0, 0);
    assert_eq!(least(&rig, (0, 0), 1_000_000, limit.address()).0, 0);
    Ok(())
}

fn a_least_wait_without_completions_goes_on(bench: &Bench) -> Outcome {
    bench.since(6, 12)?;
    let rig = bench.rig(4)?;
    let limit = millis(60);
    let (res, took) = least(&rig, (0, 2), 20, limit.address());
    assert_eq!(res, ETIME);
    assert!(took >= Duration::from_millis(60), "{took:?}");
    // Without a limit it is one, and a limit that is shorter does not count.
    let shorter = millis(10);
    for limit in [0, shorter.address()] {
        let (res, took) = least(&rig, (0, 1), 20, limit);
        assert_eq!(res, ETIME);
        assert!(took >= Duration::from_millis(20), "{took:?}");
    }
    Ok(())
}

fn a_wait_may_end_at_a_time(bench: &Bench) -> Outcome {
    bench.since(6, 12)?;
    let mut rig = bench.rig(4)?;
    let now = || -> Result<_, crate::case::Stop> { Ok(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?)) };
    let until = |rig: &Rig, time: Duration, want| {
        let limit = timespec(time.as_secs() as i64, time.subsec_nanos().into());
        enter(&rig.ring, 0, want, WAIT | ABS_TIMER, Some(&getevents(0, 0, 0, limit.address())))
    };
    let end = now()? + Duration::from_millis(30);
    assert_eq!(until(&rig, end, 1), ETIME);
    assert!(now()? >= end);
    // Times that have been.
    for time in [end, Duration::ZERO] {
        assert_eq!(until(&rig, time, 1), ETIME);
    }
    ready(&mut rig)?;
    assert_eq!(until(&rig, end, 2), 0);
    assert_eq!(until(&rig, now()? + Duration::from_secs(100), 1), 0);
    // The least wait stays a duration.
    let limit = timespec((now()?.as_secs() + 100) as i64, 0);
    let start = Instant::now();
    let argument = getevents(0, 0, 20_000, limit.address());
    assert_eq!(enter(&rig.ring, 0, 2, WAIT | ABS_TIMER, Some(&argument)), 0);
    assert!(start.elapsed() >= Duration::from_millis(20));
    Ok(())
}

fn an_absolute_wait_is_of_the_clock_that_was_registered(bench: &Bench) -> Outcome {
    bench.since(6, 12)?;
    let rig = bench.rig(4)?;
    // Both run alike on a machine that has never slept: which one was taken shows only on others.
    for clock in [ClockId::CLOCK_BOOTTIME, ClockId::CLOCK_MONOTONIC] {
        let bytes: [u8; 16] = fields(&[&clock.as_raw().to_ne_bytes(), &[0; 12]]);
        assert_eq!(register_bytes(&rig.ring, REGISTER_CLOCK, &bytes, 0), 0);
        let now = || -> Result<_, crate::case::Stop> { Ok(Duration::from(clock_gettime(clock)?)) };
        for span in [Duration::from_millis(30), Duration::ZERO] {
            let end = now()? + span;
            let limit = timespec(end.as_secs() as i64, end.subsec_nanos().into());
            let argument = getevents(0, 0, 0, limit.address());
            assert_eq!(enter(&rig.ring, 0, 1, WAIT | ABS_TIMER, Some(&argument)), ETIME, "{clock:?}");
            assert!(now()? >= end, "{clock:?}");
        }
        // Spans are spans on either.
        let (res, took) = wait(&rig, 1, &millis(10));
        assert_eq!(res, ETIME);
        assert!(took >= Duration::from_millis(10), "{took:?}");
    }
    Ok(())
}

fn a_signal_ends_a_wait(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let _striker = Striker::new();
    assert_eq!(enter(&rig.ring, 0, 1, GETEVENTS, NOTHING), EINTR);
    assert_eq!(wait(&rig, 1, &long()).0, EINTR);
    // With something submitted, or there, it is no error.
    nop(&mut rig, 1)?;
    assert_eq!(enter(&rig.ring, 1, 2, GETEVENTS, NOTHING), 1);
    assert_eq!(wait(&rig, 2, &long()).0, 0);
    assert_eq!(rig.ready().len(), 1);
    assert_eq!(enter(&rig.ring, 0, 1, GETEVENTS, NOTHING), EINTR, "and the ring goes on");
    Ok(())
}

fn a_signal_that_is_masked_does_not_end_a_wait(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let _striker = Striker::new();
    let (mask, limit) = (sigmask(u64::MAX), millis(50));
    let start = Instant::now();
    assert_eq!(enter(&rig.ring, 0, 1, WAIT, Some(&getevents(mask.address(), 8, 0, limit.address()))), ETIME);
    assert!(start.elapsed() >= Duration::from_millis(50));
    let soon = types::Timespec::new().nsec(50_000_000);
    rig.push(&timeout(&soon))?;
    assert_eq!(enter(&rig.ring, 1, 1, GETEVENTS, Some(&[0xff; 8])), 1);
    let done = rig.ready();
    assert_eq!((done.len(), done[0].res), (1, ETIME));
    Ok(())
}

fn a_pending_signal_that_the_mask_opens_ends_a_wait(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let mask = sigmask(0);
    let open = getevents(mask.address(), 8, 0, 0);
    {
        let _pending = Pending::new();
        assert_eq!(wait(&rig, 1, &millis(10)).0, ETIME, "the thread's own mask holds");
        assert_eq!(enter(&rig.ring, 0, 1, WAIT, Some(&open)), EINTR);
    }
    let _pending = Pending::new();
    ready(&mut rig)?;
    assert_eq!(enter(&rig.ring, 0, 1, WAIT, Some(&open)), 0, "nothing is waited for");
    Ok(())
}
