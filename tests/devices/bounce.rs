//! Memory that the device does not reach, pressure on queues and pools, and the counters that tell.

use io_uring::opcode;

use super::zoo::{self, PLAIN, SHORT};
use crate::case::{Bench, Case, Outcome, cases};
use crate::support::pattern::{self, Random};
use crate::support::raw::Memory;
use crate::support::rig::{FILE, expect_errno, read, read_fixed, write, write_fixed};

pub(super) const ALL: &[Case] = cases![
    memory_in_reach_is_never_bounced,
    plain_memory_is_bounced_to_the_byte,
    without_bounce_memory_plain_memory_is_a_fault,
    little_bounce_memory_makes_transfers_wait,
    more_requests_than_the_queue_holds_all_complete,
    mixed_requests_under_pressure_keep_their_data,
    a_batch_takes_one_doorbell,
    counters_count_what_was_done,
];

fn memory_in_reach_is_never_bounced(_: &Bench) -> Outcome {
    let mut rig = zoo::rig(PLAIN, 8)?;
    let (own, fixed) = (rig.alloc(1 << 20)?, rig.plain(1 << 20));
    rig.register(&[&fixed])?;
    for (start, len) in [(0, 512), (4, 512), (4092, 4096), (512, 1 << 19), (0, 1 << 20)] {
        for entry in [read(&own.part(start, len), 0), write(&own.part(start, len), 0)] {
            assert_eq!(rig.one(entry)?, len as i32);
        }
        let part = fixed.part(start, len);
        for entry in [read(&part, 0), read_fixed(&part, 0, 0), write_fixed(&part, 0, 0)] {
            assert_eq!(rig.one(entry)?, len as i32);
        }
    }
    assert_eq!(rig.ring.stats().bounced_bytes, 0);
    Ok(())
}

fn plain_memory_is_bounced_to_the_byte(_: &Bench) -> Outcome {
    let mut rig = zoo::rig(PLAIN, 8)?;
    let plain = rig.plain(4 << 20);
    let mut expected = 0;
    for len in [512, 4096, 65536 + 512, 3 << 20] {
        for entry in [write(&plain.part(0, len), 0), read(&plain.part(4, len), 0)] {
            assert_eq!(rig.one(entry)?, len as i32);
            expected += len as u64;
            assert_eq!(rig.ring.stats().bounced_bytes, expected);
        }
    }
    let end = rig.size();
    assert_eq!(rig.one(read(&plain, end - 1024))?, 1024);
    assert_eq!(rig.ring.stats().bounced_bytes, expected + 1024, "only what is moved");
    Ok(())
}

fn without_bounce_memory_plain_memory_is_a_fault(_: &Bench) -> Outcome {
    let mut rig = zoo::open(PLAIN, 1, zoo::polled(8).bounce_limit(0))?;
    let (plain, own, memory) = (rig.plain(8192), rig.alloc(8192)?, rig.plain(16384));
    let fixed = memory.part(0, 8192);
    rig.register(&[&fixed])?;
    for entry in [read(&plain, 0), write(&plain, 0)] {
        expect_errno(rig.one(entry)?, libc::EFAULT, "plain memory");
    }
    // Half in reach is not in reach.
    for entry in [read(&memory, 0), write(&memory.part(4096, 8192), 0)] {
        expect_errno(rig.one(entry)?, libc::EFAULT, "memory that begins in a registered buffer");
    }
    for entry in [read(&own, 0), write(&own, 0), read(&fixed, 0), read_fixed(&fixed, 0, 0)] {
        assert_eq!(rig.one(entry)?, 8192);
    }
    assert_eq!(rig.ring.stats().bounced_bytes, 0);
    Ok(())
}

fn little_bounce_memory_makes_transfers_wait(_: &Bench) -> Outcome {
    for limit in [4096, 8192, 64 << 10] {
        let mut rig = zoo::open(PLAIN, 1, zoo::polled(16).bounce_limit(limit))?;
        let len = 256 << 10;
        let memory = rig.plain(16 * len);
        let parts: Vec<Memory> = (0..16).map(|i| memory.part(i * len, len)).collect();
        for (i, part) in parts.iter().enumerate() {
            part.write(&pattern::bytes(limit as u64, (i * len) as u64, len));
        }
        let writes: Vec<_> = parts.iter().enumerate().map(|(i, part)| write(part, (i * len) as u64)).collect();
        assert_eq!(rig.all(&writes)?, vec![len as i32; 16], "limit {limit}");
        memory.write(&vec![0; 16 * len]);
        let reads: Vec<_> = parts.iter().enumerate().map(|(i, part)| read(part, (i * len) as u64)).collect();
        assert_eq!(rig.all(&reads)?, vec![len as i32; 16], "limit {limit}");
        pattern::check(limit as u64, 0, &memory.read());
    }
    Ok(())
}

fn more_requests_than_the_queue_holds_all_complete(_: &Bench) -> Outcome {
    let mut rig = zoo::open(PLAIN, 1, zoo::polled(8).cq_entries(8))?;
    rig.put(1, 0, 1 << 20)?;
    let (own, plain) = (rig.alloc(1 << 20)?, rig.plain(1 << 20));
    for memory in [own, plain] {
        let mut submitted = 0u64;
        let mut seen = vec![false; 3000];
        // Nothing is taken until all are submitted: the rings and the queue are full many times over.
        while submitted < 3000 {
            for _ in 0..8 {
                let at = (submitted as usize * 4096) % (1 << 20);
                rig.push(&read(&memory.part(at, 4096), at as u64).user_data(submitted))?;
                submitted += 1;
            }
            assert_eq!(rig.ring.submit()?, 8);
        }
        let mut taken = 0;
        while taken < 3000 {
            for done in rig.wait(1)? {
                assert_eq!(done.res, 4096);
                assert!(!std::mem::replace(&mut seen[done.user_data as usize], true), "twice: {done:?}");
                taken += 1;
            }
        }
        pattern::check(1, 0, &memory.read());
    }
    assert_eq!(rig.ring.stats().stale_completions, 0);
    Ok(())
}

fn mixed_requests_under_pressure_keep_their_data(_: &Bench) -> Outcome {
    for index in [PLAIN, SHORT] {
        let mut rig = zoo::open(index, 1, zoo::polled(8).cq_entries(8).bounce_limit(32 << 10))?;
        let mut random = Random::new(5);
        let slot = 256 << 10;
        let (own, plain) = (rig.alloc(32 * slot)?, rig.plain(32 * slot));
        for round in 0..3 {
            let mut parts = Vec::new();
            for i in 0..32usize {
                let len = 512 * (1 + random.below(slot as u64 / 512)) as usize;
                let memory = if random.below(2) == 0 { &own } else { &plain };
                let part = memory.part(i * slot, len);
                part.write(&pattern::bytes(round, (i * slot) as u64, len));
                parts.push(part);
            }
            let expected: Vec<i32> = parts.iter().map(|part| part.len() as i32).collect();
            let writes: Vec<_> = parts.iter().enumerate().map(|(i, part)| write(part, (i * slot) as u64)).collect();
            assert_eq!(rig.all(&writes)?, expected);
            for part in &parts {
                part.write(&vec![0; part.len()]);
            }
            let reads: Vec<_> = parts.iter().enumerate().map(|(i, part)| read(part, (i * slot) as u64)).collect();
            assert_eq!(rig.all(&reads)?, expected);
            for (i, part) in parts.iter().enumerate() {
                pattern::check(round, (i * slot) as u64, &part.read());
            }
        }
    }
    Ok(())
}

fn a_batch_takes_one_doorbell(_: &Bench) -> Outcome {
    let mut rig = zoo::rig(PLAIN, 64)?;
    let fixed = rig.plain(64 * 4096);
    rig.register(&[&fixed])?;
    for batch in [1, 2, 32, 64] {
        let before = rig.ring.stats();
        for i in 0..batch {
            let part = fixed.part(i * 4096, 4096);
            let entry = if i % 3 == 2 { read(&part, 0) } else { read_fixed(&part, 0, 0) };
            rig.push(&entry)?;
        }
        assert_eq!(rig.ring.submit()?, batch);
        let after = rig.ring.stats();
        assert_eq!(after.sq_doorbells - before.sq_doorbells, 1, "a batch of {batch}");
        assert_eq!(after.commands - before.commands, batch as u64);
        rig.wait(batch)?;
        let rung = rig.ring.stats().cq_doorbells - before.cq_doorbells;
        assert!((1..=batch as u64).contains(&rung), "{rung} completion doorbells for {batch}");
    }
    let before = rig.ring.stats();
    for _ in 0..100 {
        rig.ring.submit()?;
        assert_eq!(rig.ready(), []);
    }
    let after = rig.ring.stats();
    let rung = (after.sq_doorbells - before.sq_doorbells, after.cq_doorbells - before.cq_doorbells);
    assert_eq!(rung, (0, 0), "nothing new, no doorbell");
    Ok(())
}

fn counters_count_what_was_done(_: &Bench) -> Outcome {
    let mut rig = zoo::rig(PLAIN, 8)?;
    let own = rig.alloc(2 << 20)?;
    let before = rig.ring.stats();
    assert_eq!(rig.one(read(&own, 0))?, 2 << 20);
    assert_eq!(rig.one(opcode::Nop::new().build())?, 0);
    let end = rig.size();
    assert_eq!(rig.one(read(&own, end))?, 0);
    let after = rig.ring.stats();
    assert_eq!(after.commands - before.commands, 4, "2 MiB at 512 KiB a command, and nothing else");
    assert_eq!(rig.one(opcode::Fsync::new(FILE).build())?, 0);
    let flushed = rig.ring.stats().commands - after.commands;
    assert_eq!(flushed, 1, "there is a volatile cache, so an fsync is a flush");
    assert_eq!(after.system_calls, before.system_calls, "polling makes none");
    assert_eq!(after.interrupts, before.interrupts);
    assert_eq!(after.stale_completions, 0);
    Ok(())
}
