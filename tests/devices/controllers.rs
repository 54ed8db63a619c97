//! Controllers and namespaces of several kinds, and several of them in one ring.

use dmaring::{CompletionMode, Device, Ring};
use io_uring::squeue::Entry;
use io_uring::{opcode, types};

use super::zoo::{self, FEW, LONG, MANY, PLAIN, SECOND, SHORT, UNLIMITED};
use crate::case::{Bench, Case, Outcome, Stop, cases, fail};
use crate::support::pattern;
use crate::support::raw::Memory;
use crate::support::rig::{Rig, expect_errno, read, read_fixed, write};

pub(super) const ALL: &[Case] = cases![
    two_controllers_work_in_one_ring,
    registered_buffers_are_reached_by_controllers_added_later,
    three_namespaces_keep_their_own_data,
    blocks_of_4096_bytes_are_the_unit,
    a_namespace_with_metadata_is_refused,
    an_absent_namespace_is_refused_with_those_there_are,
    long_transfers_are_split_at_the_longest_transfer,
    lists_of_pages_are_chained,
    when_all_queue_pairs_are_taken_the_error_says_so,
    a_queue_pair_without_a_vector_is_polled_or_refused,
    shadow_doorbells_serve_every_depth_and_mode,
    the_controller_says_how_it_is,
];

fn read_of(file: types::Fixed, memory: &Memory, offset: u64) -> Entry {
    opcode::Read::new(file, memory.ptr(), memory.len() as u32).offset(offset).build()
}

fn write_of(file: types::Fixed, memory: &Memory, offset: u64) -> Entry {
    opcode::Write::new(file, memory.ptr(), memory.len() as u32).offset(offset).build()
}

/// Writes to each file what nobody else writes, all at once, then reads all at once.
fn fill_and_check(rig: &mut Rig, files: &[types::Fixed], len: usize) -> Result<(), Stop> {
    let memory: Vec<Memory> = files.iter().map(|_| rig.plain(len)).collect();
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for (file, memory) in files.iter().zip(&memory) {
        memory.write(&pattern::bytes(u64::from(file.0) + 50, 8192, len));
        writes.push(write_of(*file, memory, 8192));
        reads.push(read_of(*file, memory, 8192));
    }
    let expected = vec![len as i32; files.len()];
    assert_eq!(rig.all(&writes)?, expected);
    for memory in &memory {
        memory.write(&vec![0; len]);
    }
    assert_eq!(rig.all(&reads)?, expected);
    for (file, memory) in files.iter().zip(&memory) {
        pattern::check(u64::from(file.0) + 50, 8192, &memory.read());
    }
    Ok(())
}

fn two_controllers_work_in_one_ring(_: &Bench) -> Outcome {
    let mut rig = zoo::rig(PLAIN, 8)?;
    let second = rig.ring.add_device(&zoo::device(SECOND)?, 1)?;
    assert_eq!(second.0, 1, "the next fixed file");
    for len in [512, 8192, 2 << 20] {
        fill_and_check(&mut rig, &[types::Fixed(0), second], len)?;
    }
    // Interleaved in one batch, they complete each on its own.
    let memory = rig.alloc(64 * 4096)?;
    let reads: Vec<_> =
        (0..64).map(|i| read_of(types::Fixed(i % 2), &memory.part(i as usize * 4096, 4096), 8192)).collect();
    assert_eq!(rig.all(&reads)?, vec![4096; 64]);
    for i in 0..64 {
        pattern::check(50 + i % 2, 8192, &memory.part(i as usize * 4096, 4096).read());
    }
    Ok(())
}

fn registered_buffers_are_reached_by_controllers_added_later(_: &Bench) -> Outcome {
    let mut rig = zoo::rig(PLAIN, 8)?;
    let fixed = rig.plain(16384);
    let own = rig.alloc(16384)?;
    rig.register(&[&fixed])?;
    let second = rig.ring.add_device(&zoo::device(SECOND)?, 1)?;
    own.write(&pattern::bytes(1, 0, 16384));
    assert_eq!(rig.one(write_of(second, &own, 0))?, 16384);
    let entry = opcode::ReadFixed::new(second, fixed.ptr(), 16384, 0).offset(0).build();
    assert_eq!(rig.one(entry)?, 16384);
    pattern::check(1, 0, &fixed.read());
    assert_eq!(rig.one(read_fixed(&fixed, 0, 0))?, 16384, "and by the first");
    assert_eq!(rig.ring.stats().bounced_bytes, 0);
    Ok(())
}

fn three_namespaces_keep_their_own_data(_: &Bench) -> Outcome {
    let device = zoo::device(MANY)?;
    let nsids: Vec<u32> = device.namespaces().iter().map(|namespace| namespace.nsid).collect();
    assert_eq!(nsids, [1, 2, 3]);
    let mut rig = zoo::open(MANY, 1, zoo::polled(8))?;
    let files = [types::Fixed(0), rig.ring.add_device(&device, 2)?, rig.ring.add_device(&device, 3)?];
    for len in [4096, 65536, 1 << 20] {
        fill_and_check(&mut rig, &files, len)?;
    }
    let mut third = zoo::open(MANY, 3, zoo::polled(8))?;
    third.expect(52, 8192, 1 << 20)?;
    assert!(third.ring.target().name.ends_with("/3"), "{:?}", third.ring.target());
    Ok(())
}

fn blocks_of_4096_bytes_are_the_unit(_: &Bench) -> Outcome {
    let mut rig = zoo::open(MANY, 2, zoo::polled(8))?;
    assert_eq!(rig.ring.target().block_bytes, 4096);
    let (memory, fixed) = (rig.plain(64 << 10), rig.plain(64 << 10));
    rig.register(&[&fixed])?;
    for (offset, len) in [(512, 4096), (0, 512), (0, 4608), (2048, 4096), (4096, 6144), (4096 + 512, 512)] {
        for entry in [
            read(&memory.part(0, len), offset),
            write(&memory.part(0, len), offset),
            read_fixed(&fixed.part(0, len), 0, offset),
        ] {
            expect_errno(rig.one(entry)?, libc::EINVAL, &format!("{len} at {offset}"));
        }
    }
    let end = rig.size();
    for (offset, len) in [(0, 4096), (4096, 65536), (8192, 1 << 20), (end - 4096, 4096)] {
        rig.put(offset + 1, offset, len)?;
        rig.expect(offset + 1, offset, len)?;
    }
    assert_eq!(rig.one(read(&memory, end - 4096))?, 4096, "short at the end");
    assert_eq!(rig.one(read(&memory.part(0, 512), end))?, 0);
    expect_errno(rig.one(write(&memory, end))?, libc::ENOSPC, "at the end");
    // Memory is not bound to the block size.
    assert_eq!(rig.one(read(&memory.part(516, 4096), 0))?, 4096);
    pattern::check(1, 0, &memory.part(516, 4096).read());
    Ok(())
}

fn a_namespace_with_metadata_is_refused(_: &Bench) -> Outcome {
    let device = zoo::device(MANY)?;
    assert_eq!(device.unusable().len(), 1, "{:?}", device.unusable());
    let Err(error) = zoo::polled(4).open(&zoo::name(MANY, 4)) else { return fail("it was opened") };
    let text = error.to_string();
    assert!(text.contains("namespace 4") && text.contains("8 bytes of metadata") && text.contains("format"), "{text}");
    let Err(error) = zoo::rig(MANY, 4)?.ring.add_device(&device, 4) else { return fail("it was added") };
    assert!(error.to_string().contains("metadata"), "{error}");
    Ok(())
}

fn an_absent_namespace_is_refused_with_those_there_are(_: &Bench) -> Outcome {
    zoo::bind(MANY)?;
    for nsid in [5, 1000, 0xffff_fffe] {
        let Err(error) = zoo::polled(4).open(&zoo::name(MANY, nsid)) else { return fail("it was opened") };
        let text = error.to_string();
        assert!(text.contains(&nsid.to_string()) && text.contains("1, 2, 3"), "{text}");
        assert_eq!(error.errno(), libc::ENXIO);
    }
    Ok(())
}

/// Writes and reads `len` bytes, in place and bounced; answers the commands of one transfer.
fn commands_of(rig: &mut Rig, len: usize) -> Result<u64, Stop> {
    let own = rig.alloc(len)?;
    own.write(&pattern::bytes(len as u64, 0, len));
    let before = rig.ring.stats().commands;
    assert_eq!(rig.one(write(&own, 0))?, len as i32);
    let commands = rig.ring.stats().commands - before;
    rig.expect(len as u64, 0, len)?;
    own.write(&vec![0; len]);
    assert_eq!(rig.one(read(&own, 0))?, len as i32);
    pattern::check(len as u64, 0, &own.read());
    Ok(commands)
}

fn long_transfers_are_split_at_the_longest_transfer(_: &Bench) -> Outcome {
    // The driver stays one page below 4 MiB: a first page begun in the middle makes it 1,024 pages.
    let longest_of_all = (4 << 20) - 4096;
    for (index, limit) in [(PLAIN, 512 << 10), (SHORT, 8 << 10), (LONG, 4 << 20)] {
        let device = zoo::device(index)?;
        assert_eq!(device.info().max_transfer_bytes, Some(limit as u64));
        let longest = limit.min(longest_of_all);
        let mut rig = zoo::rig(index, 8)?;
        for len in [512, longest - 512, longest, longest + 512, 2 * longest, 5 * longest - 1024] {
            let commands = commands_of(&mut rig, len)?;
            assert_eq!(commands, len.div_ceil(longest) as u64, "{len} bytes, at most {longest} at once");
        }
    }
    let device = zoo::device(UNLIMITED)?;
    assert_eq!(device.info().max_transfer_bytes, None);
    let mut rig = zoo::rig(UNLIMITED, 8)?;
    for len in [512, 512 << 10, 4 << 20, (4 << 20) + 512, 9 << 20] {
        commands_of(&mut rig, len)?;
    }
    Ok(())
}

fn lists_of_pages_are_chained(_: &Bench) -> Outcome {
    for index in [UNLIMITED, LONG] {
        let mut rig = zoo::rig(index, 8)?;
        let fixed = rig.plain((4 << 20) + 8192);
        rig.register(&[&fixed])?;
        // 512 pages fill one list; the first page is not in it. A start inside a page adds one.
        for pages in [510, 511, 512, 513, 514, 515, 1022, 1023, 1024] {
            for start in [0, 512, 4092] {
                let len = pages * 4096;
                let part = fixed.part(start, len);
                part.write(&pattern::bytes(pages as u64, 0, len));
                assert_eq!(rig.one(write(&part, 0))?, len as i32, "{pages} pages from {start}");
                part.write(&vec![0; len]);
                assert_eq!(rig.one(read_fixed(&part, 0, 0))?, len as i32, "{pages} pages from {start}");
                pattern::check(pages as u64, 0, &part.read());
            }
        }
        assert_eq!(rig.ring.stats().bounced_bytes, 0);
    }
    Ok(())
}

fn when_all_queue_pairs_are_taken_the_error_says_so(_: &Bench) -> Outcome {
    let (mut first, second) = (zoo::rig(FEW, 4)?, zoo::rig(FEW, 4)?);
    let Err(error) = zoo::polled(4).open(&zoo::name(FEW, 1)) else { return fail("a third queue pair of two") };
    let text = error.to_string();
    assert!(text.contains('2') && text.contains("queue pairs") && text.contains("close"), "{text}");
    assert_eq!(error.errno(), libc::EBUSY);
    first.put(1, 0, 4096)?;
    drop(second);
    let mut third = zoo::rig(FEW, 4)?;
    third.expect(1, 0, 4096)?;
    Ok(())
}

fn a_queue_pair_without_a_vector_is_polled_or_refused(_: &Bench) -> Outcome {
    let mut with_vector = zoo::open(FEW, 1, zoo::interrupted(4))?;
    with_vector.put(1, 0, 4096)?;
    // Two vectors: one for the admin queue, one for the first queue pair.
    match zoo::interrupted(4).open(&zoo::name(FEW, 1)) {
        Ok(ring) => Rig::new(ring).expect(1, 0, 4096)?,
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("vectors") && text.contains("polling"), "{text}");
        }
    }
    let mut polled = zoo::rig(FEW, 4)?;
    polled.expect(1, 0, 4096)?;
    with_vector.expect(1, 0, 4096)?;
    Ok(())
}

/// They are off here unless asked for, so nothing else in this guest runs with them.
fn shadow_doorbells_serve_every_depth_and_mode(_: &Bench) -> Outcome {
    zoo::bind(SECOND)?;
    let device = Device::options().shadow_doorbells(true).open(&zoo::name(SECOND, 1))?;
    assert!(device.info().identify.has_shadow_doorbells(), "as QEMU 7.1 and later");
    for mode in [CompletionMode::Poll, CompletionMode::Interrupt] {
        // Twice on the same identifiers, around the rings several times, 64 commands in rings of 8 and of 128.
        for entries in [4, 64, 4, 64] {
            let mut rig = Rig::new(Ring::builder(entries).completion(mode).open_device(&device, 1)?);
            let memory = rig.alloc(64 * 4096)?;
            for round in 0..8 {
                memory.write(&pattern::bytes(round, 0, 64 * 4096));
                let part = |i: usize| memory.part(i * 4096, 4096);
                let writes: Vec<_> = (0..64).map(|i| write(&part(i), i as u64 * 4096)).collect();
                assert_eq!(rig.all(&writes)?, vec![4096; 64]);
                memory.write(&vec![0; 64 * 4096]);
                for i in 0..8 {
                    assert_eq!(rig.one(read(&part(i), i as u64 * 4096))?, 4096);
                }
                let reads: Vec<_> = (8..64).map(|i| read(&part(i), i as u64 * 4096)).collect();
                assert_eq!(rig.all(&reads)?, vec![4096; 56]);
                pattern::check(round, 0, &memory.read());
            }
            let stats = rig.ring.stats();
            assert!(stats.sq_doorbells > 0, "the first one is always asked for");
            assert!(stats.sq_doorbells + stats.cq_doorbells + stats.saved_doorbells <= 2 * stats.commands);
        }
    }
    Ok(())
}

fn the_controller_says_how_it_is(_: &Bench) -> Outcome {
    let mut rig = zoo::rig(SECOND, 8)?;
    let device = zoo::device(SECOND)?;
    let before = device.smart()?;
    let own = rig.alloc(512 << 10)?;
    for _ in 0..10 {
        assert_eq!(rig.one(read(&own, 0))?, 512 << 10);
        assert_eq!(rig.one(write(&own, 0))?, 512 << 10);
    }
    let after = device.smart()?;
    assert_eq!(after.host_read_commands - before.host_read_commands, 10);
    assert_eq!(after.host_write_commands - before.host_write_commands, 10);
    // 10,240 blocks of 512 bytes each way; both looks are rounded up to 1,000.
    for units in [after.data_units_read - before.data_units_read, after.data_units_written - before.data_units_written]
    {
        assert!((10..=11).contains(&units), "{units} units");
    }
    assert_eq!((after.temperature_celsius(), after.critical_warning.0), (Some(50), 0), "as QEMU reports");
    // QEMU 7.2 keeps no errors: its one entry is not used.
    assert_eq!(device.error_log()?, []);
    Ok(())
}
