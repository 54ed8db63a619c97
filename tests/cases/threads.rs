//! Messages between rings of two threads: they wake who sleeps.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};

use super::messages::{arrived, fd_of, message};
use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::control::sleep;
use crate::support::rig::{Rig, read};

pub(super) const ALL: &[Case] = cases![
    messages_wake_a_ring_that_sleeps,
    messages_wake_who_polls_the_ring,
    messages_cross_between_threads,
    messages_go_back_and_forth,
];

/// Longest that anything here may hang.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs `there` with a ring on another thread, `here` with that ring's descriptor, and waits for both.
fn with_other<R: Send + 'static>(
    bench: &Bench,
    there: impl FnOnce(Rig) -> Result<R, Stop> + Send + 'static,
    here: impl FnOnce(i32) -> Outcome,
) -> Result<R, Stop> {
    let rig = bench.rig(16)?;
    let fd = fd_of(&rig);
    let (done, result) = mpsc::channel();
    let thread = thread::spawn(move || done.send(there(rig)));
    here(fd)?;
    let result =
        result.recv_timeout(LIMIT).map_err(|_| Stop::Fail("the other thread sleeps on, or panicked".into()))?;
    thread.join().expect("it has answered")?;
    result
}

/// Sleeps in the kernel until `count` completions have come.
fn sleep_for(rig: &mut Rig, count: usize) -> Result<Vec<(u64, i32)>, Stop> {
    let mut all = Vec::new();
    while all.len() < count {
        let ready = rig.ready();
        if ready.is_empty() {
            sleep(&rig.ring, 1).map_err(|errno| Stop::Fail(format!("sleeping: errno {errno}")))?;
        }
        all.extend(ready.iter().map(|done| (done.user_data, done.res)));
    }
    Ok(all)
}

fn messages_wake_a_ring_that_sleeps(bench: &Bench) -> Outcome {
    let mut from = bench.rig(8)?;
    let there = |mut rig: Rig| sleep_for(&mut rig, 1);
    let got = with_other(bench, there, |target| {
        // It most likely sleeps by then.
        thread::sleep(Duration::from_millis(50));
        assert_eq!(from.one(message(target, 5, 6).entry())?, 0);
        Ok(())
    })?;
    assert_eq!(got, [(5, 6)]);
    Ok(())
}

fn messages_wake_who_polls_the_ring(bench: &Bench) -> Outcome {
    let (mut from, mut to) = (bench.rig(8)?, bench.rig(8)?);
    let target = fd_of(&to);
    assert!(!to.is_readable(Duration::ZERO)?);
    assert_eq!(from.one(message(target, 5, 6).entry())?, 0);
    assert!(to.is_readable(LIMIT)?);
    assert_eq!(arrived(&mut to, 1)?, [(5, 6, 0)]);
    to.settle()?;
    let there = |mut rig: Rig| {
        assert!(rig.is_readable(LIMIT)?);
        arrived(&mut rig, 1)
    };
    let got = with_other(bench, there, |target| {
        thread::sleep(Duration::from_millis(50));
        assert_eq!(from.one(message(target, 7, 8).entry())?, 0);
        Ok(())
    })?;
    assert_eq!(got, [(7, 8, 0)]);
    Ok(())
}

fn messages_cross_between_threads(bench: &Bench) -> Outcome {
    const COUNT: u64 = 2000;
    const MARK: u64 = 1 << 32;
    let mut here = bench.rig(16)?;
    let back = fd_of(&here);
    // Each sends in its own order and takes what the other sends, amid reads of its own.
    fn exchange(rig: &mut Rig, other: i32) -> Outcome {
        let memory = rig.plain(4096);
        let (mut next, mut sent, mut reads) = (0, 0, 0);
        while next < COUNT || sent < COUNT {
            for i in sent..COUNT.min(sent + 8) {
                rig.push(&message(other, MARK | i, i as i32).entry())?;
                sent = i + 1;
            }
            rig.push(&read(&memory, 0).user_data(2000))?;
            rig.ring.submit_and_wait(1)?;
            for done in rig.ready() {
                match done.user_data {
                    1000 => assert_eq!(done.res, 0),
                    2000 => {
                        assert_eq!(done.res, 4096);
                        reads += 1;
                    }
                    name => {
                        assert_eq!((name, done.res), (MARK | next, next as i32));
                        next += 1;
                    }
                }
            }
        }
        assert!(reads > 0);
        Ok(())
    }
    let there = move |mut rig: Rig| {
        exchange(&mut rig, back)?;
        Ok(rig)
    };
    // The ring of the other thread lives until both have ended.
    with_other(bench, there, |target| exchange(&mut here, target)).map(drop)
}

fn messages_go_back_and_forth(bench: &Bench) -> Outcome {
    const ROUNDS: u64 = 300;
    let mut here = bench.rig(8)?;
    let back = fd_of(&here);
    let there = move |mut rig: Rig| {
        for round in 0..ROUNDS {
            assert_eq!(sleep_for(&mut rig, 1)?, [(round, 1)]);
            rig.push(&silent_message(back, round, 2))?;
            assert_eq!(rig.ring.submit()?, 1);
        }
        Ok(rig)
    };
    let rig = with_other(bench, there, |target| {
        for round in 0..ROUNDS {
            here.push(&silent_message(target, round, 1))?;
            assert_eq!(here.ring.submit()?, 1);
            assert_eq!(sleep_for(&mut here, 1)?, [(round, 2)]);
        }
        Ok(())
    })?;
    drop(rig);
    Ok(())
}

fn silent_message(target: i32, user_data: u64, res: i32) -> Entry {
    message(target, user_data, res).entry().flags(Flags::SKIP_SUCCESS)
}
