//! The ring's descriptor in an event loop, and rings on other threads.

use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use io_uring::opcode;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::pattern;
use crate::support::rig::{Rig, read};

pub(super) const ALL: &[Case] = cases![
    the_descriptor_is_readable_when_completions_are_there,
    the_descriptor_is_not_readable_when_nothing_is_there,
    an_epoll_loop_makes_progress,
    an_epoll_loop_with_many_in_flight_loses_nothing,
    a_ring_works_on_another_thread,
    rings_on_several_threads_work_at_once,
];

/// Much longer than an operation takes.
const LONG: Duration = Duration::from_secs(20);

fn the_descriptor_is_readable_when_completions_are_there(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    for entry in [opcode::Nop::new().build(), read(&memory, 0)] {
        rig.push(&entry)?;
        rig.ring.submit_and_wait(1)?;
        assert!(rig.is_readable(Duration::ZERO)?, "a completion is in the ring");
        assert_eq!(rig.ready().len(), 1);
    }
    // Asked for before the operation ends, it is raised by its end.
    for _ in 0..3 {
        rig.push(&read(&memory, 0))?;
        rig.ring.submit()?;
        let mut done = 0;
        while done == 0 {
            assert!(rig.is_readable(LONG)?, "it was never raised");
            done = rig.ready().len();
        }
    }
    Ok(())
}

fn the_descriptor_is_not_readable_when_nothing_is_there(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    assert!(!rig.is_readable(Duration::from_millis(20))?, "a new ring");
    let memory = rig.plain(4096);
    for _ in 0..3 {
        assert_eq!(rig.one(read(&memory, 0))?, 4096);
        rig.settle()?;
    }
    Ok(())
}

/// Runs `count` reads, `depth` at once, in an epoll loop. Answers how often it was woken.
fn epoll_loop(rig: &mut Rig, count: usize, depth: usize) -> Result<usize, Stop> {
    rig.put(1, 0, 1 << 20)?;
    let memory = rig.plain(depth * 4096);
    let offset = |i: usize| (i as u64 * 4096) % (1 << 20);
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(rig.ring.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, 7))?;
    let mut slots: Vec<usize> = (0..depth).collect();
    let mut in_slot = vec![0; depth];
    let (mut started, mut ended, mut woken) = (0, 0, 0);
    while ended < count {
        while started < count
            && let Some(slot) = slots.pop()
        {
            in_slot[slot] = started;
            rig.push(&read(&memory.part(slot * 4096, 4096), offset(started)).user_data(slot as u64))?;
            started += 1;
        }
        rig.ring.submit()?;
        let timeout = EpollTimeout::try_from(LONG).unwrap_or(EpollTimeout::NONE);
        let mut events = [EpollEvent::empty()];
        match epoll.wait(&mut events, timeout) {
            // The kernel interrupts sleepers to run the completions of their rings.
            Err(Errno::EINTR) => {}
            raised => assert_eq!(raised?, 1, "{ended} of {count} ended, then no event came"),
        }
        woken += 1;
        for done in rig.ready() {
            let slot = done.user_data as usize;
            assert_eq!(done.res, 4096);
            pattern::check(1, offset(in_slot[slot]), &memory.part(slot * 4096, 4096).read());
            slots.push(slot);
            ended += 1;
        }
    }
    rig.settle()?;
    Ok(woken)
}

fn an_epoll_loop_makes_progress(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let woken = epoll_loop(&mut rig, 100, 1)?;
    // Each read ends once; a loop that spins would be woken thousands of times.
    assert!(woken <= 300, "woken {woken} times for 100 reads");
    Ok(())
}

fn an_epoll_loop_with_many_in_flight_loses_nothing(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(32)?;
    let woken = epoll_loop(&mut rig, 1000, 32)?;
    assert!(woken <= 3000, "woken {woken} times for 1000 reads");
    Ok(())
}

fn a_ring_works_on_another_thread(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    rig.put(1, 0, 65536)?;
    for round in 0..3 {
        let there = thread::spawn(move || -> Result<Rig, Stop> {
            rig.expect(round + 1, 0, 65536)?;
            rig.put(round + 2, 0, 65536)?;
            Ok(rig)
        });
        rig = there.join().map_err(|_| Stop::Fail("the other thread panicked".into()))??;
        rig.expect(round + 2, 0, 65536)?;
    }
    Ok(())
}

fn rings_on_several_threads_work_at_once(bench: &Bench) -> Outcome {
    let workers: Vec<_> = (0..4u64)
        .map(|worker| {
            let bench = bench.clone();
            thread::spawn(move || -> Outcome {
                let mut rig = bench.rig(8)?;
                let base = worker << 20;
                for round in 0..10 {
                    rig.put(worker * 100 + round, base, 256 << 10)?;
                    rig.expect(worker * 100 + round, base, 256 << 10)?;
                }
                Ok(())
            })
        })
        .collect();
    for worker in workers {
        worker.join().map_err(|_| Stop::Fail("a worker panicked".into()))??;
    }
    Ok(())
}
