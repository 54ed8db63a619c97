//! `rw_flags`, I/O priorities, personalities, and entries that no kernel knows.

use io_uring::squeue::Entry;
use io_uring::{opcode, squeue};

use crate::case::{Bench, Case, Outcome, Version, cases, skip};
use crate::support::raw::{Memory, edit};
use crate::support::rig::{FILE, expect_errno, read, write};

pub(super) const ALL: &[Case] = cases![
    durable_writes_move_their_data,
    flags_that_change_nothing_are_accepted,
    polled_completion_on_an_unpolled_ring_is_invalid,
    a_flag_against_signals_changes_nothing,
    a_stream_that_there_is_not_is_invalid_to_write_to,
    atomic_writes_are_not_supported,
    uncached_io_is_not_supported,
    unknown_rw_flags_are_not_supported,
    io_priorities_are_checked,
    a_personality_that_is_not_registered_is_invalid,
    opcodes_beyond_the_last_are_invalid,
    opcodes_of_later_kernels_are_invalid,
    the_reserved_entry_flag_is_invalid,
    attributes_of_unknown_type_are_invalid,
    protection_information_is_for_devices_that_have_it,
];

const HIPRI: i32 = 1;
const DSYNC: i32 = 2;
const SYNC: i32 = 4;
const NOWAIT: i32 = 8;
const APPEND: i32 = 0x10;
const NOAPPEND: i32 = 0x20;
const ATOMIC: i32 = 0x40;
const DONTCACHE: i32 = 0x80;
const NOSIGNAL: i32 = 0x100;

fn reads(memory: &Memory, flags: i32) -> Entry {
    opcode::Read::new(FILE, memory.ptr(), memory.len() as u32).offset(0).rw_flags(flags).build()
}

fn writes(memory: &Memory, flags: i32) -> Entry {
    opcode::Write::new(FILE, memory.ptr(), memory.len() as u32).offset(0).rw_flags(flags).build()
}

fn durable_writes_move_their_data(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    for (seed, flags) in [(1, DSYNC), (2, SYNC), (3, DSYNC | SYNC)] {
        for len in [512, 65536, 1 << 20] {
            let memory = rig.filled(seed, 0, len);
            assert_eq!(rig.one(writes(&memory, flags))?, len as i32, "flags {flags:#x}");
            rig.expect(seed, 0, len)?;
            assert_eq!(rig.one(reads(&memory, flags))?, len as i32, "flags {flags:#x}");
        }
    }
    Ok(())
}

fn flags_that_change_nothing_are_accepted(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.filled(1, 0, 4096);
    for flags in [NOWAIT, APPEND, NOWAIT | APPEND, NOAPPEND] {
        assert_eq!(rig.one(writes(&memory, flags))?, 4096, "write, flags {flags:#x}");
        assert_eq!(rig.one(reads(&memory, flags))?, 4096, "read, flags {flags:#x}");
    }
    rig.expect(1, 0, 4096)?;
    for entry in [reads(&memory, APPEND | NOAPPEND), writes(&memory, APPEND | NOAPPEND)] {
        expect_errno(rig.one(entry)?, libc::EINVAL, "both to append and not to");
    }
    Ok(())
}

fn polled_completion_on_an_unpolled_ring_is_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    for flags in [HIPRI, HIPRI | DSYNC] {
        expect_errno(rig.one(reads(&memory, flags))?, libc::EINVAL, "read");
        expect_errno(rig.one(writes(&memory, flags))?, libc::EINVAL, "write");
    }
    Ok(())
}

fn a_flag_against_signals_changes_nothing(bench: &Bench) -> Outcome {
    bench.since(6, 18)?;
    let mut rig = bench.rig(4)?;
    let memory = rig.filled(1, 0, 4096);
    assert_eq!(rig.one(writes(&memory, NOSIGNAL))?, 4096);
    assert_eq!(rig.one(reads(&memory, NOSIGNAL))?, 4096);
    rig.expect(1, 0, 4096)
}

/// `write_stream` stands where other operations have the index of a file, and has a byte.
fn a_stream_that_there_is_not_is_invalid_to_write_to(bench: &Bench) -> Outcome {
    bench.since(6, 16)?;
    let mut rig = bench.rig(4)?;
    let memory = rig.filled(1, 0, 4096);
    let with_stream = |entry, stream: u32| edit(entry, |bytes| bytes[44..48].copy_from_slice(&stream.to_ne_bytes()));
    for stream in [1, 255, u32::MAX] {
        expect_errno(rig.one(with_stream(write(&memory, 0), stream))?, libc::EINVAL, "write");
        assert_eq!(rig.one(with_stream(read(&memory, 0), stream))?, 4096, "a read has none");
    }
    assert_eq!(rig.one(with_stream(write(&memory, 0), 256))?, 4096, "beyond the byte");
    Ok(())
}

fn atomic_writes_are_not_supported(bench: &Bench) -> Outcome {
    bench.since(6, 11)?;
    if bench.backend == "guest_kernel" {
        return skip("the kernel passes on to NVMe what the controller does atomically");
    }
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    expect_errno(rig.one(reads(&memory, ATOMIC))?, libc::EOPNOTSUPP, "read");
    expect_errno(rig.one(writes(&memory, ATOMIC))?, libc::EOPNOTSUPP, "write");
    Ok(())
}

fn uncached_io_is_not_supported(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    expect_errno(rig.one(reads(&memory, DONTCACHE))?, libc::EOPNOTSUPP, "read");
    expect_errno(rig.one(writes(&memory, DONTCACHE))?, libc::EOPNOTSUPP, "write");
    Ok(())
}

fn unknown_rw_flags_are_not_supported(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    for flags in [0x1000, 1 << 20, i32::MIN, 0x1000 | DSYNC] {
        expect_errno(rig.one(reads(&memory, flags))?, libc::EOPNOTSUPP, &format!("read, flags {flags:#x}"));
        expect_errno(rig.one(writes(&memory, flags))?, libc::EOPNOTSUPP, &format!("write, flags {flags:#x}"));
    }
    Ok(())
}

fn io_priorities_are_checked(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    let with = |entry: Entry, ioprio: u16| edit(entry, |bytes| bytes[2..4].copy_from_slice(&ioprio.to_ne_bytes()));
    // Classes: none, real-time, best-effort, idle.
    for good in [0, 1 << 13, (1 << 13) | 7, (2 << 13) | 4, 3 << 13] {
        assert_eq!(rig.one(with(read(&memory, 0), good))?, 4096, "ioprio {good:#x}");
        assert_eq!(rig.one(with(write(&memory, 0), good))?, 4096, "ioprio {good:#x}");
    }
    for bad in [1, 7, 4 << 13, 5 << 13, 7 << 13, u16::MAX] {
        expect_errno(rig.one(with(read(&memory, 0), bad))?, libc::EINVAL, &format!("ioprio {bad:#x}"));
        expect_errno(rig.one(with(write(&memory, 0), bad))?, libc::EINVAL, &format!("ioprio {bad:#x}"));
    }
    Ok(())
}

fn a_personality_that_is_not_registered_is_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    for personality in [1, 77, u16::MAX] {
        for entry in [opcode::Nop::new().build(), read(&memory, 0), opcode::Fsync::new(FILE).build()] {
            let res = rig.one(entry.personality(personality))?;
            expect_errno(res, libc::EINVAL, &format!("personality {personality}"));
        }
    }
    Ok(())
}

fn opcodes_beyond_the_last_are_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    // 63 and 64 come with 6.19.
    for number in [65, 100, 254, 255] {
        let entry = edit(opcode::Nop::new().build(), |bytes| bytes[0] = number);
        expect_errno(rig.one(entry)?, libc::EINVAL, &format!("opcode {number}"));
    }
    Ok(())
}

/// NOP128 and URING_CMD128.
fn opcodes_of_later_kernels_are_invalid(bench: &Bench) -> Outcome {
    if !bench.is_device() && Version::running() >= Version::new(6, 19) {
        return skip("this kernel has the operations of 6.19");
    }
    let mut rig = bench.rig(4)?;
    let mut large = bench.open(bench.builder(4).sqe128())?;
    for number in [63, 64] {
        let entry = edit(opcode::Nop::new().build(), |bytes| bytes[0] = number);
        expect_errno(rig.one(entry.clone())?, libc::EINVAL, &format!("opcode {number}"));
        expect_errno(large.one(entry)?, libc::EINVAL, &format!("opcode {number}, on large entries"));
    }
    Ok(())
}

fn the_reserved_entry_flag_is_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    let nop = opcode::Nop::new().build().flags(squeue::Flags::empty());
    for entry in [nop, read(&memory, 0)] {
        let entry = edit(entry, |bytes| bytes[1] |= 1 << 7);
        expect_errno(rig.one(entry)?, libc::EINVAL, "bit 7");
    }
    Ok(())
}

fn attributes_of_unknown_type_are_invalid(bench: &Bench) -> Outcome {
    bench.since(6, 14)?;
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    // `attr_type_mask` is the last word of the entry.
    for mask in [2u64, 1 << 40, u64::MAX] {
        let entry = edit(read(&memory, 0), |bytes| bytes[56..64].copy_from_slice(&mask.to_ne_bytes()));
        expect_errno(rig.one(entry)?, libc::EINVAL, &format!("attributes {mask:#x}"));
    }
    Ok(())
}

/// `struct io_uring_attr_pi`: flags, tag and length; address; seed; reserved.
fn protection_information_is_for_devices_that_have_it(bench: &Bench) -> Outcome {
    bench.since(6, 14)?;
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    let end = rig.size();
    let attribute = rig.plain(32);
    let words = |words: [u64; 4]| words.into_iter().flat_map(u64::to_ne_bytes).collect::<Vec<u8>>();
    let with = |entry: Entry, address: u64| {
        edit(entry, |bytes| {
            bytes[48..56].copy_from_slice(&address.to_ne_bytes());
            bytes[56] = 1;
        })
    };
    let mut results = |entry: Entry| -> Result<(usize, i32), crate::case::Stop> {
        rig.push(&entry.user_data(1))?;
        rig.push(&opcode::Nop::new().build().user_data(2))?;
        let submitted = rig.ring.submit()?;
        rig.ring.submit()?;
        let done = rig.wait(2)?;
        let own = done.iter().find(|done| done.user_data == 1).map_or(0, |done| done.res);
        Ok((submitted, own))
    };
    // These have none, which shows when it is issued, before anything else does.
    for flags in [0, 1] {
        attribute.write(&words([8 << 32 | flags, memory.address(), 0, 0]));
        let plain = |entry| with(entry, attribute.address());
        for entry in [read(&memory, 0), write(&memory, 0), read(&memory, end), read(&memory.part(0, 0), 0)] {
            assert_eq!(results(plain(entry.clone()))?, (2, -libc::EINVAL), "{entry:?}");
        }
    }
    // What is wrong with the attribute itself shows while the entry is prepared.
    for address in [0, 8, 1 << 63] {
        assert_eq!(results(with(read(&memory, 0), address))?, (1, -libc::EFAULT), "{address:#x}");
    }
    attribute.write(&words([8 << 32, memory.address(), 0, 1]));
    assert_eq!(results(with(read(&memory, 0), attribute.address()))?, (1, -libc::EINVAL), "reserved");
    attribute.write(&words([8 << 32, 1 << 63, 0, 0]));
    assert_eq!(results(with(read(&memory, 0), attribute.address()))?, (1, -libc::EFAULT), "where it is to go");
    assert_eq!(rig.one(read(&memory, 0))?, 4096);
    Ok(())
}
