//! READV and WRITEV with vectors of all shapes.

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::pattern::{self, Random};
use crate::support::raw::Memory;
use crate::support::rig::{FILE, Rig, expect_errno};

pub(super) const ALL: &[Case] = cases![
    vectors_of_1_to_1024_segments_move_in_order,
    segments_of_mixed_lengths_move_in_order,
    segments_of_mixed_memory_move_in_order,
    empty_segments_are_skipped,
    more_than_1024_segments_are_invalid,
    a_vector_of_nothing_moves_nothing,
    a_vector_of_nothing_in_a_chain_moves_nothing,
    a_segment_of_negative_length_is_invalid,
    segments_that_do_not_add_up_to_blocks_are_invalid,
    segments_that_split_blocks_are_moved_where_memory_may_be_split,
    a_vector_in_no_memory_is_a_fault,
    a_long_vector_is_longer_than_any_command,
];

fn vector(rig: &mut Rig, write: bool, iovecs: &[libc::iovec], offset: u64) -> Entry {
    let (base, count) = (rig.iovecs(iovecs), iovecs.len() as u32);
    if write {
        opcode::Writev::new(FILE, base, count).offset(offset).build()
    } else {
        opcode::Readv::new(FILE, base, count).offset(offset).build()
    }
}

/// Writes `parts` in order, reads them back in order, and looks at each.
fn round_trip(rig: &mut Rig, parts: &[Memory], seed: u64) -> Result<(), Stop> {
    let offset = 4096;
    let iovecs: Vec<_> = parts.iter().map(Memory::iovec).collect();
    let total: usize = parts.iter().map(Memory::len).sum();
    let data = pattern::bytes(seed, offset, total);
    let mut at = 0;
    for part in parts {
        part.write(&data[at..at + part.len()]);
        at += part.len();
    }
    let entry = vector(rig, true, &iovecs, offset);
    assert_eq!(rig.one(entry)?, total as i32, "write of {} segments", parts.len());
    pattern::check(seed, offset, &rig.get(offset, total)?);
    for part in parts {
        part.write(&vec![0; part.len()]);
    }
    let entry = vector(rig, false, &iovecs, offset);
    assert_eq!(rig.one(entry)?, total as i32, "read of {} segments", parts.len());
    let read: Vec<u8> = parts.iter().flat_map(Memory::read).collect();
    pattern::check(seed, offset, &read);
    Ok(())
}

/// Segments of these lengths, apart from each other and in descending order of addresses.
fn scattered(memory: &Memory, lens: &[usize], gap: usize) -> Vec<Memory> {
    let mut end = memory.len();
    let part = |len: &usize| {
        end -= (len + gap).next_multiple_of(512);
        memory.part(end, *len)
    };
    lens.iter().map(part).collect()
}

fn vectors_of_1_to_1024_segments_move_in_order(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let plain = rig.plain(2 << 20);
    let own = rig.alloc(2 << 20)?;
    for memory in [plain, own] {
        for count in [1, 2, 3, 7, 8, 9, 16, 63, 64, 65, 127, 128, 129, 256, 500, 1023, 1024] {
            round_trip(&mut rig, &scattered(&memory, &vec![512; count], 512), count as u64)?;
        }
        for count in [1, 2, 9, 64, 130] {
            round_trip(&mut rig, &scattered(&memory, &vec![4096; count], 0), count as u64)?;
            round_trip(&mut rig, &scattered(&memory, &vec![4096; count], 512), count as u64)?;
        }
    }
    Ok(())
}

fn segments_of_mixed_lengths_move_in_order(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let plain = rig.plain(8 << 20);
    let own = rig.alloc(8 << 20)?;
    let mut random = Random::new(3);
    for round in 0..40 {
        let count = 1 + random.below(40);
        let lens: Vec<usize> = (0..count).map(|_| 512 * (1 + random.below(40)) as usize).collect();
        let memory = if round % 2 == 0 { &plain } else { &own };
        round_trip(&mut rig, &scattered(memory, &lens, 512 * random.below(3) as usize), round)?;
    }
    Ok(())
}

fn segments_of_mixed_memory_move_in_order(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let (plain, own, fixed) = (rig.plain(1 << 20), rig.alloc(1 << 20)?, rig.plain(1 << 20));
    rig.register(&[&fixed])?;
    let mut random = Random::new(8);
    for round in 0..20 {
        let mut used = [0; 3];
        let mut parts = Vec::new();
        for _ in 0..1 + random.below(30) {
            let kind = random.below(3) as usize;
            let len = 512 * (1 + random.below(30)) as usize;
            parts.push([&plain, &own, &fixed][kind].part(used[kind], len));
            used[kind] += len;
        }
        round_trip(&mut rig, &parts, round)?;
    }
    Ok(())
}

fn empty_segments_are_skipped(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let plain = rig.plain(64 << 10);
    let own = rig.alloc(64 << 10)?;
    for memory in [plain, own] {
        for lens in [&[0, 512][..], &[512, 0], &[0, 0, 4096, 0, 512, 0, 0], &[4096, 0, 4096]] {
            let mut at = 0;
            let parts: Vec<_> = lens
                .iter()
                .map(|len| {
                    at += len;
                    memory.part(at - len, *len)
                })
                .collect();
            round_trip(&mut rig, &parts, lens.len() as u64)?;
        }
    }
    let null = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let memory = rig.filled(1, 4096, 512);
    let entry = vector(&mut rig, true, &[null, memory.iovec(), null], 4096);
    assert_eq!(rig.one(entry)?, 512, "an empty segment at no address");
    Ok(())
}

fn more_than_1024_segments_are_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(1 << 20);
    for count in [1025, 2000] {
        let iovecs: Vec<_> = scattered(&memory, &vec![512; count], 0).iter().map(Memory::iovec).collect();
        for write in [false, true] {
            let entry = vector(&mut rig, write, &iovecs, 0);
            expect_errno(rig.one(entry)?, libc::EINVAL, &format!("{count} segments"));
        }
    }
    let entry = opcode::Readv::new(FILE, rig.iovecs(&[memory.iovec()]), u32::MAX).offset(0).build();
    expect_errno(rig.one(entry)?, libc::EINVAL, "more segments than there is memory");
    Ok(())
}

fn a_vector_of_nothing_moves_nothing(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    for write in [false, true] {
        for iovecs in [&[][..], &[empty], &[empty; 9]] {
            let entry = vector(&mut rig, write, iovecs, 0);
            assert_eq!(rig.one(entry)?, 0, "{} empty segments", iovecs.len());
        }
    }
    Ok(())
}

fn a_vector_of_nothing_in_a_chain_moves_nothing(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    rig.put(2, 8192, 4096)?;
    memory.write(&pattern::bytes(1, 0, 4096));
    let data = pattern::bytes(1, 0, 4096);
    for flags in [Flags::IO_LINK, Flags::IO_HARDLINK, Flags::IO_DRAIN] {
        // What stands before it has memory, of which nothing may remain.
        let before = vector(&mut rig, true, &[memory.iovec()], 0);
        let nothing = vector(&mut rig, false, &[], 8192).flags(flags);
        assert_eq!(rig.results(&[before, nothing, opcode::Nop::new().build()])?, [4096, 0, 0], "{flags:?}");
        assert!(memory.read() == data, "{flags:?}: memory of the entry before it was read into");
    }
    Ok(())
}

fn a_segment_of_negative_length_is_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    let good = memory.iovec();
    let bad = libc::iovec { iov_len: usize::MAX, ..good };
    for iovecs in [&[good, bad][..], &[bad, good]] {
        for write in [false, true] {
            let entry = vector(&mut rig, write, iovecs, 0);
            expect_errno(rig.one(entry)?, libc::EINVAL, "a length above isize::MAX");
        }
    }
    Ok(())
}

fn segments_that_do_not_add_up_to_blocks_are_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(8192);
    for lens in [[512, 256], [4, 4], [4096, 508], [1024, 4]] {
        let parts = [memory.part(0, lens[0]), memory.part(4096, lens[1])];
        let iovecs = [parts[0].iovec(), parts[1].iovec()];
        for write in [false, true] {
            let entry = vector(&mut rig, write, &iovecs, 0);
            expect_errno(rig.one(entry)?, libc::EINVAL, &format!("{lens:?}"));
        }
    }
    Ok(())
}

fn segments_that_split_blocks_are_moved_where_memory_may_be_split(bench: &Bench) -> Outcome {
    bench.since(6, 18)?;
    let mut rig = bench.rig(4)?;
    let plain = rig.plain(64 << 10);
    let own = rig.alloc(64 << 10)?;
    for memory in [plain, own] {
        let parts = [memory.part(0, 256), memory.part(4096, 768), memory.part(8192 + 4, 4), memory.part(12288, 508)];
        if bench.memory_alignment() > 4 {
            let iovecs: Vec<_> = parts.iter().map(Memory::iovec).collect();
            let entry = vector(&mut rig, false, &iovecs, 0);
            expect_errno(rig.one(entry)?, libc::EINVAL, "segments shorter than blocks");
        } else {
            round_trip(&mut rig, &parts, 6)?;
        }
    }
    Ok(())
}

fn a_vector_in_no_memory_is_a_fault(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    for address in [0usize, 8, 1 << 63, usize::MAX - 7] {
        let entry = opcode::Readv::new(FILE, address as *const _, 2).offset(0).build();
        expect_errno(rig.one(entry)?, libc::EFAULT, &format!("iovecs at {address:#x}"));
    }
    Ok(())
}

fn a_long_vector_is_longer_than_any_command(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let plain = rig.plain(5 << 20);
    let own = rig.alloc(5 << 20)?;
    for memory in [plain, own] {
        let lens = [512, 1 << 20, 4096, (1 << 20) + 512, 8192, 1 << 20];
        round_trip(&mut rig, &scattered(&memory, &lens, 512), 12)?;
        round_trip(&mut rig, &[memory.part(512, 4 << 20), memory.part((4 << 20) + 1024, 1024)], 13)?;
    }
    Ok(())
}
