//! Between submission and completion, a polled ring makes no system call and no allocation.

use std::time::Duration;

use io_uring::opcode;
use io_uring::squeue::Entry;

use super::zoo::{self, PLAIN};
use crate::case::{Bench, Case, Outcome, Stop, cases, fail};
use crate::support::raw::Memory;
use crate::support::rig::{FILE, Rig, read, read_fixed, write, write_fixed};
use crate::support::sandbox::without_system_calls;
use crate::support::{counting, raw};

pub(super) const ALL: &[Case] = cases![
    fixed_io_makes_no_system_call,
    io_on_memory_of_the_ring_makes_no_system_call,
    vectored_io_makes_no_system_call,
    bounced_io_makes_no_system_call,
    waiting_makes_no_system_call,
    the_sandbox_catches_a_system_call,
    fixed_io_allocates_nothing,
    io_on_memory_of_the_ring_allocates_nothing,
    vectored_io_allocates_nothing,
    bounced_io_allocates_nothing,
    long_transfers_allocate_nothing,
    the_counter_catches_an_allocation,
];

const DEPTH: usize = 32;
const ROUNDS: usize = 200;
const LIMIT: Duration = Duration::from_secs(60);

/// A ring and entries for it that read and write in one way.
struct Work {
    rig: Rig,
    entries: Vec<Entry>,
    len: i32,
}

fn work(len: usize, make: impl FnOnce(&mut Rig) -> Result<Vec<Entry>, Stop>) -> Result<Work, Stop> {
    let mut rig = zoo::rig(PLAIN, DEPTH as u32)?;
    let entries = make(&mut rig)?;
    assert_eq!(entries.len(), DEPTH);
    Ok(Work { rig, entries, len: len as i32 })
}

fn parts(memory: &Memory, len: usize) -> impl Iterator<Item = (u64, Memory)> {
    (0..DEPTH).map(move |i| ((i * len) as u64, memory.part(i * len, len)))
}

fn fixed() -> Result<Work, Stop> {
    work(4096, |rig| {
        let memory = rig.plain(DEPTH * 4096);
        rig.register(&[&memory])?;
        let entry = |(at, part): (u64, Memory)| {
            if at % 8192 == 0 { read_fixed(&part, 0, at) } else { write_fixed(&part, 0, at) }
        };
        Ok(parts(&memory, 4096).map(entry).collect())
    })
}

fn own() -> Result<Work, Stop> {
    work(8192, |rig| {
        let memory = rig.alloc(DEPTH * 8192)?;
        let entry = |(at, part): (u64, Memory)| if at % 16384 == 0 { read(&part, at) } else { write(&part, at) };
        Ok(parts(&memory, 8192).map(entry).collect())
    })
}

fn vectored() -> Result<Work, Stop> {
    work(16384, |rig| {
        let memory = rig.alloc(DEPTH * 16384)?;
        let mut entries = Vec::new();
        for (at, part) in parts(&memory, 16384) {
            // Backwards, so that no two are one piece.
            let iovecs: Vec<_> = (0..8).rev().map(|i| part.part(i * 2048, 2048).iovec()).collect();
            entries.push(opcode::Readv::new(FILE, rig.iovecs(&iovecs), 8).offset(at).build());
        }
        Ok(entries)
    })
}

fn bounced() -> Result<Work, Stop> {
    work(16384, |rig| {
        let memory = rig.plain(DEPTH * 16384);
        let entry = |(at, part): (u64, Memory)| if at % 32768 == 0 { read(&part, at) } else { write(&part, at) };
        Ok(parts(&memory, 16384).map(entry).collect())
    })
}

fn long() -> Result<Work, Stop> {
    work(1 << 20, |rig| {
        let memory = rig.alloc(DEPTH << 20)?;
        Ok(parts(&memory, 1 << 20).map(|(at, part)| read(&part, at)).collect())
    })
}

/// Submits `depth` entries and takes their completions, by polling alone.
fn round(work: &mut Work, depth: usize, wait: bool) -> Result<(), &'static str> {
    for entry in &work.entries[..depth] {
        raw::push(&mut work.rig.ring, entry).map_err(|_| "the submission queue is full")?;
    }
    let submitted = if wait { work.rig.ring.submit_and_wait(depth) } else { work.rig.ring.submit() };
    if !submitted.is_ok_and(|count| count == depth) {
        return Err("not everything was submitted");
    }
    let mut taken = 0;
    while taken < depth {
        for done in work.rig.ring.completion() {
            if done.result() != work.len {
                return Err("an operation failed");
            }
            taken += 1;
        }
        std::hint::spin_loop();
    }
    Ok(())
}

fn rounds(work: &mut Work, wait: bool) -> Result<(), &'static str> {
    for _ in 0..ROUNDS {
        round(work, 1, wait)?;
    }
    for _ in 0..ROUNDS / 4 {
        round(work, DEPTH, wait)?;
    }
    Ok(())
}

fn expect_no_system_call(make: fn() -> Result<Work, Stop>, wait: bool) -> Outcome {
    let mut work = make()?;
    // What is made at first use is made before.
    round(&mut work, DEPTH, wait).map_err(|what| Stop::Fail(what.to_owned()))?;
    let result = without_system_calls(LIMIT, move || {
        move || {
            let result = rounds(&mut work, wait);
            // Closing the ring takes system calls: that is left to the end of the process.
            std::mem::forget(work);
            result
        }
    });
    result.map_err(Stop::Fail)
}

fn fixed_io_makes_no_system_call(_: &Bench) -> Outcome {
    expect_no_system_call(fixed, false)
}

fn io_on_memory_of_the_ring_makes_no_system_call(_: &Bench) -> Outcome {
    expect_no_system_call(own, false)
}

fn vectored_io_makes_no_system_call(_: &Bench) -> Outcome {
    expect_no_system_call(vectored, false)
}

fn bounced_io_makes_no_system_call(_: &Bench) -> Outcome {
    expect_no_system_call(bounced, false)
}

fn waiting_makes_no_system_call(_: &Bench) -> Outcome {
    expect_no_system_call(fixed, true)
}

/// A test of the test.
fn the_sandbox_catches_a_system_call(_: &Bench) -> Outcome {
    let caught = without_system_calls(LIMIT, || {
        || {
            std::thread::yield_now();
            Ok(())
        }
    });
    match caught {
        Err(text) if text.contains(&libc::SYS_sched_yield.to_string()) => Ok(()),
        other => fail(format!("{other:?}")),
    }
}

fn expect_no_allocation(make: fn() -> Result<Work, Stop>) -> Outcome {
    let mut work = make()?;
    round(&mut work, DEPTH, false).map_err(|what| Stop::Fail(what.to_owned()))?;
    let before = counting::calls();
    let result = rounds(&mut work, false).and_then(|()| rounds(&mut work, true));
    let calls = counting::calls() - before;
    result.map_err(|what| Stop::Fail(what.to_owned()))?;
    assert_eq!(calls, 0, "calls of the allocator");
    Ok(())
}

fn fixed_io_allocates_nothing(_: &Bench) -> Outcome {
    expect_no_allocation(fixed)
}

fn io_on_memory_of_the_ring_allocates_nothing(_: &Bench) -> Outcome {
    expect_no_allocation(own)
}

fn vectored_io_allocates_nothing(_: &Bench) -> Outcome {
    expect_no_allocation(vectored)
}

fn bounced_io_allocates_nothing(_: &Bench) -> Outcome {
    expect_no_allocation(bounced)
}

fn long_transfers_allocate_nothing(_: &Bench) -> Outcome {
    let mut work = long()?;
    round(&mut work, DEPTH, false).map_err(|what| Stop::Fail(what.to_owned()))?;
    let before = counting::calls();
    let result = (0..4).try_for_each(|_| round(&mut work, DEPTH, false));
    let calls = counting::calls() - before;
    result.map_err(|what| Stop::Fail(what.to_owned()))?;
    assert_eq!(calls, 0, "calls of the allocator");
    Ok(())
}

/// A test of the test.
fn the_counter_catches_an_allocation(_: &Bench) -> Outcome {
    let before = counting::calls();
    drop(std::hint::black_box(vec![1u8; 100]));
    assert_eq!(counting::calls() - before, 2);
    Ok(())
}
