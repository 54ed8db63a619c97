//! Messages between rings of two threads: they wake who sleeps.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};

use super::messages::{arrived, fd_of, message};
use crate::case::{Bench, Case, Outcome, Stop, cases, fail};
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

/// What a thread does with a ring of its own and the descriptor of the other's.
type Task = fn(&mut Rig, i32) -> Outcome;

/// Runs both, each on a thread; the rings live until both have ended.
fn two_threads(bench: &Bench, first: Task, second: Task) -> Outcome {
    let rigs = [bench.rig(16)?, bench.rig(16)?];
    let others = [fd_of(&rigs[1]), fd_of(&rigs[0])];
    let (done, results) = mpsc::channel();
    for ((mut rig, other), task) in rigs.into_iter().zip(others).zip([first, second]) {
        let done = done.clone();
        thread::spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| task(&mut rig, other)));
            let panicked = |payload: Box<dyn std::any::Any + Send>| {
                fail(payload.downcast_ref::<String>().map_or("a thread panicked", String::as_str))
            };
            let _ = done.send((rig, outcome.unwrap_or_else(panicked)));
        });
    }
    let mut ended = Vec::new();
    for _ in 0..2 {
        let (rig, outcome) = results.recv_timeout(LIMIT).map_err(|_| Stop::Fail("a thread sleeps on".into()))?;
        ended.push(rig);
        outcome?;
    }
    Ok(())
}

/// Sleeps in `enter` until `count` completions have come.
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

/// Sends when the other thread most likely sleeps.
fn send_late(rig: &mut Rig, other: i32) -> Outcome {
    thread::sleep(Duration::from_millis(50));
    assert_eq!(rig.one(message(other, 5, 6).entry())?, 0);
    Ok(())
}

fn messages_wake_a_ring_that_sleeps(bench: &Bench) -> Outcome {
    two_threads(bench, send_late, |rig, _| {
        assert_eq!(sleep_for(rig, 1)?, [(5, 6)]);
        Ok(())
    })
}

fn messages_wake_who_polls_the_ring(bench: &Bench) -> Outcome {
    let (mut from, mut to) = (bench.rig(8)?, bench.rig(8)?);
    let target = fd_of(&to);
    assert!(!to.is_readable(Duration::ZERO)?);
    assert_eq!(from.one(message(target, 5, 6).entry())?, 0);
    assert!(to.is_readable(LIMIT)?);
    assert_eq!(arrived(&mut to, 1)?, [(5, 6, 0)]);
    to.settle()?;
    two_threads(bench, send_late, |rig, _| {
        assert!(rig.is_readable(LIMIT)?);
        assert_eq!(arrived(rig, 1)?, [(5, 6, 0)]);
        rig.settle()
    })
}

fn messages_cross_between_threads(bench: &Bench) -> Outcome {
    two_threads(bench, exchange, exchange)
}

/// Sends in its own order and takes what the other sends, in its order, amid reads of its own.
fn exchange(rig: &mut Rig, other: i32) -> Outcome {
    const COUNT: u64 = 2000;
    const MARK: u64 = 1 << 32;
    const READ: u64 = 2000;
    let memory = rig.plain(4096);
    let (mut next, mut sent, mut reading) = (0, 0, false);
    while next < COUNT || sent < COUNT || reading {
        let batch = sent..COUNT.min(sent + 8);
        sent = batch.end;
        for i in batch {
            rig.push(&message(other, MARK | i, i as i32).entry())?;
        }
        if !reading && next < COUNT {
            rig.push(&read(&memory, 0).user_data(READ))?;
            reading = true;
        }
        rig.ring.submit_and_wait(1)?;
        for done in rig.ready() {
            match done.user_data {
                1000 => assert_eq!(done.res, 0),
                READ => {
                    assert_eq!(done.res, 4096);
                    reading = false;
                }
                name => {
                    assert_eq!((name, done.res), (MARK | next, next as i32));
                    next += 1;
                }
            }
        }
    }
    Ok(())
}

const ROUNDS: u64 = 300;

fn messages_go_back_and_forth(bench: &Bench) -> Outcome {
    let first: Task = |rig, other| {
        for round in 0..ROUNDS {
            rig.push(&silent(other, round, 1))?;
            assert_eq!(rig.ring.submit()?, 1);
            assert_eq!(sleep_for(rig, 1)?, [(round, 2)]);
        }
        Ok(())
    };
    let second: Task = |rig, other| {
        for round in 0..ROUNDS {
            assert_eq!(sleep_for(rig, 1)?, [(round, 1)]);
            rig.push(&silent(other, round, 2))?;
            assert_eq!(rig.ring.submit()?, 1);
        }
        Ok(())
    };
    two_threads(bench, first, second)
}

fn silent(target: i32, user_data: u64, res: i32) -> Entry {
    message(target, user_data, res).entry().flags(Flags::SKIP_SUCCESS)
}
