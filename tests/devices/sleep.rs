//! Waiting by interrupt sleeps.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use dmaring::CompletionMode;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::zoo::{self, ODD, PLAIN, SLOW_BYTES_PER_SECOND};
use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::rig::{Rig, read};

pub(super) const ALL: &[Case] = cases![
    a_wait_by_interrupt_sleeps,
    an_adaptive_ring_learns_that_a_device_is_slow,
    an_event_loop_on_a_slow_device_sleeps,
    an_idle_ring_is_not_woken,
    interrupts_are_counted,
];

/// Takes about two seconds on the slow namespace.
const LEN: usize = 2 * SLOW_BYTES_PER_SECOND as usize;

fn cpu_time() -> Result<Duration, Stop> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(micros as u64))
}

/// Fails unless most of the time was slept through.
fn expect_slept(cpu: Duration, elapsed: Duration) {
    assert!(elapsed > Duration::from_millis(800), "the device was not slow: {elapsed:?}");
    assert!(cpu < elapsed / 3, "{cpu:?} of CPU time in {elapsed:?}");
}

fn a_wait_by_interrupt_sleeps(_: &Bench) -> Outcome {
    let mut rig = zoo::open(ODD, 1, zoo::interrupted(4))?;
    let memory = rig.alloc(LEN)?;
    let (before, cpu, start) = (rig.ring.stats(), cpu_time()?, Instant::now());
    assert_eq!(rig.one(read(&memory, 0))?, LEN as i32);
    let (elapsed, cpu) = (start.elapsed(), cpu_time()? - cpu);
    let after = rig.ring.stats();
    expect_slept(cpu, elapsed);
    let commands = after.commands - before.commands;
    // For each command a sleep and a look at the event, and one more of each a second.
    let most = 3 * commands + 3 * (elapsed.as_secs() + 2);
    let calls = after.system_calls - before.system_calls;
    assert!(calls <= most, "{calls} system calls for {commands} commands in {elapsed:?}");
    assert!(after.interrupts > before.interrupts);
    Ok(())
}

fn an_adaptive_ring_learns_that_a_device_is_slow(_: &Bench) -> Outcome {
    let mut rig = zoo::open(ODD, 1, zoo::polled(4))?;
    rig.ring.set_completion_mode(CompletionMode::Adaptive)?;
    assert_ne!(rig.ring.stats().poll_limit_ns, 0, "it begins by looking");
    let memory = rig.alloc(LEN / 16)?;
    let (before, cpu, start) = (rig.ring.stats(), cpu_time()?, Instant::now());
    for i in 0..16 {
        assert_eq!(rig.one(read(&memory, (i * LEN / 16) as u64))?, (LEN / 16) as i32);
    }
    expect_slept(cpu_time()? - cpu, start.elapsed());
    let after = rig.ring.stats();
    assert_eq!(after.poll_limit_ns, 0, "it sleeps at once");
    assert!(after.interrupts >= before.interrupts + 8, "{after:?}");
    Ok(())
}

/// Waits in the program's own poll; answers how often it was woken.
fn wait_in_loop(rig: &mut Rig, count: usize) -> Result<usize, Stop> {
    let (mut woken, mut taken) = (0, 0);
    while taken < count {
        let timeout = PollTimeout::try_from(Duration::from_secs(20)).unwrap_or(PollTimeout::MAX);
        let raised = poll(&mut [PollFd::new(rig.ring.as_fd(), PollFlags::POLLIN)], timeout)?;
        assert_eq!(raised, 1, "no event for 20 s");
        woken += 1;
        taken += rig.ready().len();
    }
    Ok(woken)
}

fn an_event_loop_on_a_slow_device_sleeps(_: &Bench) -> Outcome {
    // Armed by asking for the descriptor, a ring made for polling sleeps as well.
    for builder in [zoo::interrupted(8), zoo::polled(8)] {
        let mut rig = zoo::open(ODD, 1, builder)?;
        let memory = rig.alloc(LEN)?;
        let (_, cpu, start) = (rig.ring.as_fd(), cpu_time()?, Instant::now());
        for i in 0..8 {
            rig.push(&read(&memory.part(i * LEN / 8, LEN / 8), (i * LEN / 8) as u64))?;
        }
        rig.ring.submit()?;
        let woken = wait_in_loop(&mut rig, 8)?;
        let (elapsed, cpu) = (start.elapsed(), cpu_time()? - cpu);
        expect_slept(cpu, elapsed);
        assert!(woken <= 40, "woken {woken} times for 8 reads");
    }
    Ok(())
}

fn an_idle_ring_is_not_woken(_: &Bench) -> Outcome {
    for builder in [zoo::interrupted(8), zoo::polled(8)] {
        let mut rig = zoo::open(PLAIN, 1, builder)?;
        let memory = rig.alloc(4096)?;
        assert_eq!(rig.one(read(&memory, 0))?, 4096);
        // An interrupt that was held back while nobody wanted it comes with the first look.
        rig.settle()?;
        let calls = rig.ring.stats().system_calls;
        let cpu = cpu_time()?;
        let timeout = PollTimeout::try_from(Duration::from_secs(1)).unwrap_or(PollTimeout::MAX);
        let raised = poll(&mut [PollFd::new(rig.ring.as_fd(), PollFlags::POLLIN)], timeout)?;
        assert_eq!(raised, 0, "nothing was in flight");
        assert!(cpu_time()? - cpu < Duration::from_millis(300));
        assert!(rig.ring.stats().system_calls - calls < 10);
    }
    Ok(())
}

fn interrupts_are_counted(_: &Bench) -> Outcome {
    let mut rig = zoo::open(PLAIN, 1, zoo::interrupted(4))?;
    let memory = rig.alloc(4096)?;
    for _ in 0..50 {
        assert_eq!(rig.one(read(&memory, 0))?, 4096);
    }
    let stats = rig.ring.stats();
    // At most one a command; a completion may be found before it is announced.
    assert!((1..=50).contains(&stats.interrupts), "{stats:?}");
    assert!(stats.system_calls <= 4 * 50, "{stats:?}");
    Ok(())
}
