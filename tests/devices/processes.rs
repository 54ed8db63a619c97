//! Processes that die, fork, or leave with I/O in flight.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use io_uring::opcode;

use super::helper::{self, BLOCK_BYTES, BLOCKS, Running};
use super::zoo::{self, ODD, PLAIN, SECOND};
use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::isolate::in_child;
use crate::support::pattern;
use crate::support::rig::{read, write};

pub(super) const ALL: &[Case] = cases![
    what_was_acknowledged_survives_a_killed_process,
    a_killed_process_with_slow_io_leaves_the_device_usable,
    a_child_of_fork_cannot_use_the_ring,
    a_child_of_fork_that_drops_the_ring_takes_nothing_from_its_parent,
    fork_under_load_harms_nothing,
    a_dropped_ring_leaves_nothing_in_flight,
    dropped_buffers_are_not_reused_in_flight,
    buffers_can_be_unregistered_under_load,
];

/// Starts the loader, kills it after `count` acknowledged writes, and answers for each block the last
/// one, and how many had been started at most.
fn kill_under_load(mode: &str, count: usize) -> Result<HashMap<u64, u64>, Stop> {
    zoo::bind(SECOND)?;
    let mut loader = Running(helper::command("load", &[&zoo::name(SECOND, 1), mode]).spawn()?);
    let Some(out) = loader.0.stdout.take() else { return Err(Stop::Fail("no output".into())) };
    let mut acknowledged = HashMap::new();
    let mut killed = false;
    for (i, line) in BufReader::new(out).lines().enumerate() {
        let number: u64 = match line?.parse() {
            Ok(number) => number,
            // The last line may be cut short.
            Err(_) if killed => break,
            Err(error) => return Err(error.into()),
        };
        let last = acknowledged.entry(number % BLOCKS).or_insert(number);
        *last = number.max(*last);
        if i >= count && !killed {
            loader.0.kill()?;
            killed = true;
        }
    }
    loader.0.wait()?;
    Ok(acknowledged)
}

fn what_was_acknowledged_survives_a_killed_process(_: &Bench) -> Outcome {
    for mode in ["poll", "interrupt", "poll"] {
        let acknowledged = kill_under_load(mode, 500)?;
        assert!(acknowledged.len() > 400, "only {} blocks", acknowledged.len());
        let mut rig = zoo::rig(SECOND, 8)?;
        for (block, number) in acknowledged {
            let data = rig.get(block * BLOCK_BYTES as u64, BLOCK_BYTES)?;
            // A later write of the block may have got through without being acknowledged.
            let written =
                (0..3).map(|later| number + later * BLOCKS).find(|n| data == pattern::bytes(*n, 0, BLOCK_BYTES));
            assert!(written.is_some(), "block {block}: write {number} was acknowledged and is gone");
        }
    }
    Ok(())
}

fn a_killed_process_with_slow_io_leaves_the_device_usable(_: &Bench) -> Outcome {
    zoo::bind(ODD)?;
    for _ in 0..2 {
        let mut loader = Running(helper::command("load", &[&zoo::name(ODD, 1), "interrupt"]).spawn()?);
        let mut said = String::new();
        if let Some(out) = loader.0.stdout.take() {
            BufReader::new(out).read_line(&mut said)?;
        }
        drop(loader);
        let start = Instant::now();
        let mut rig = zoo::open(ODD, 2, zoo::polled(8))?;
        rig.get(0, 65536)?;
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
    Ok(())
}

fn a_child_of_fork_cannot_use_the_ring(_: &Bench) -> Outcome {
    for builder in [zoo::polled(8), zoo::interrupted(8)] {
        let mut rig = zoo::open(PLAIN, 1, builder)?;
        rig.put(1, 0, 65536)?;
        let fixed = rig.plain(65536);
        rig.register(&[&fixed])?;
        let said = in_child(|| {
            let mut said = Vec::new();
            for _ in 0..2 {
                match rig.ring.submit() {
                    Ok(count) => said.push(format!("submitted {count}")),
                    Err(error) => said.push(error.to_string()),
                }
            }
            if let Err(error) = rig.ring.submit_and_wait(1) {
                said.push(error.to_string());
            }
            if let Err(error) = rig.ring.alloc(4096) {
                said.push(error.to_string());
            }
            said.push(format!("{} completions", rig.ring.completion().len()));
            // The memory that was registered is the child's own copy.
            let byte = fixed.read()[0];
            said.push(format!("byte {byte}"));
            said.join("; ")
        })?;
        assert!(said.matches("belongs to the process that made it").count() >= 3, "{said}");
        assert!(said.contains("0 completions; byte 0"), "{said}");
        rig.expect(1, 0, 65536)?;
        rig.put(2, 0, 65536)?;
        rig.expect(2, 0, 65536)?;
    }
    Ok(())
}

fn a_child_of_fork_that_drops_the_ring_takes_nothing_from_its_parent(_: &Bench) -> Outcome {
    for builder in [zoo::polled(8), zoo::interrupted(8)] {
        let mut rig = Some(zoo::open(PLAIN, 1, builder)?);
        let dropped = in_child(|| {
            drop(rig.take());
            "dropped".to_owned()
        })?;
        assert_eq!(dropped, "dropped");
        let Some(mut rig) = rig else { return Err(Stop::Fail("the child's copy is not ours".into())) };
        rig.put(4, 0, 1 << 20)?;
        rig.expect(4, 0, 1 << 20)?;
    }
    Ok(())
}

fn fork_under_load_harms_nothing(_: &Bench) -> Outcome {
    let mut rig = zoo::rig(PLAIN, 32)?;
    rig.put(3, 0, 1 << 20)?;
    let (own, fixed) = (rig.alloc(16 << 16)?, rig.plain(16 << 16));
    rig.register(&[&fixed])?;
    for _ in 0..10 {
        for i in 0..16usize {
            let at = i << 16;
            rig.push(&read(&own.part(at, 1 << 16), at as u64))?;
            rig.push(&read(&fixed.part(at, 1 << 16), at as u64))?;
        }
        rig.ring.submit()?;
        in_child(|| "nothing".to_owned())?;
        let done = rig.wait(32)?;
        assert!(done.iter().all(|done| done.res == 1 << 16), "{done:?}");
        for memory in [&own, &fixed] {
            pattern::check(3, 0, &memory.read());
            memory.write(&vec![0; 16 << 16]);
        }
    }
    Ok(())
}

fn a_dropped_ring_leaves_nothing_in_flight(_: &Bench) -> Outcome {
    for builder in [zoo::polled(8), zoo::interrupted(8)] {
        let mut rig = zoo::open(ODD, 1, builder)?;
        let (own, plain, fixed) = (rig.alloc(2 << 20)?, rig.plain(2 << 20), rig.plain(2 << 20));
        rig.register(&[&fixed])?;
        for memory in [&own, &plain, &fixed] {
            memory.write(&vec![0x77; 2 << 20]);
            rig.push(&read(memory, 0))?;
        }
        rig.ring.submit()?;
        let start = Instant::now();
        drop(rig);
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        // The device writes nothing any more, whatever it had written before.
        let before = [own.read(), plain.read(), fixed.read()];
        std::thread::sleep(Duration::from_millis(300));
        assert!([own.read(), plain.read(), fixed.read()] == before, "memory changed after the ring was gone");
        let mut rig = zoo::open(ODD, 2, zoo::polled(8))?;
        rig.get(0, 4096)?;
    }
    Ok(())
}

fn dropped_buffers_are_not_reused_in_flight(_: &Bench) -> Outcome {
    let mut rig = zoo::open(ODD, 1, zoo::polled(8))?;
    let mut buffer = rig.ring.alloc(512 << 10)?;
    let (address, len) = (buffer.as_mut_ptr(), buffer.len() as u32);
    rig.push(&opcode::Read::new(crate::support::rig::FILE, address, len).offset(0).build())?;
    rig.ring.submit()?;
    drop(buffer);
    // While the read is in flight its memory is nobody else's.
    let mut others = Vec::new();
    for _ in 0..4 {
        let other = rig.ring.alloc(512 << 10)?;
        let free = rig.ready().len() == 1;
        assert!(free || other.as_ptr() != address.cast_const(), "a buffer in flight was handed out");
        others.push(other);
        if free {
            return Ok(());
        }
    }
    let done = rig.wait(1)?;
    assert_eq!(done[0].res, 512 << 10);
    Ok(())
}

fn buffers_can_be_unregistered_under_load(_: &Bench) -> Outcome {
    let mut rig = zoo::open(ODD, 1, zoo::interrupted(8))?;
    for _ in 0..2 {
        let fixed = rig.plain(1 << 20);
        rig.register(&[&fixed])?;
        for i in 0..4 {
            rig.push(&write(&fixed.part(i << 18, 1 << 18), i as u64))?;
            rig.push(&read(&fixed.part(i << 18, 1 << 18), (i << 18) as u64))?;
        }
        rig.ring.submit()?;
        rig.ring.submitter().unregister_buffers()?;
        let mut results: Vec<i32> = rig.wait(8)?.iter().map(|done| done.res).collect();
        results.sort_unstable();
        // Offsets 1 to 3 are no blocks.
        assert_eq!(results, [-22, -22, -22, 1 << 18, 1 << 18, 1 << 18, 1 << 18, 1 << 18]);
    }
    Ok(())
}
