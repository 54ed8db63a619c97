//! Reads and writes: what was written comes back, whatever its length and wherever its memory.

use io_uring::squeue::Entry;
use io_uring::{opcode, types};

use crate::case::{Bench, Case, Outcome, Stop, cases, skip};
use crate::support::pattern::{self, Random};
use crate::support::raw::Memory;
use crate::support::rig::{FILE, Rig, read, read_fixed, write, write_fixed};

pub(super) const ALL: &[Case] = cases![
    read_returns_what_write_wrote,
    readv_returns_what_writev_wrote,
    read_fixed_returns_what_write_fixed_wrote,
    all_kinds_of_operations_see_the_same_data,
    memory_of_the_ring_serves_all_kinds_of_operations,
    memory_may_start_anywhere_that_is_aligned,
    memory_that_is_not_aligned_is_invalid,
    fixed_buffers_may_be_used_at_any_offset,
    a_write_changes_nothing_around_it,
    a_read_changes_nothing_around_it,
    a_descriptor_serves_as_well_as_a_fixed_file,
    many_transfers_at_once_do_not_mix,
];

/// Around what matters: pages, two pages, MDTS (512 KiB in QEMU), and longer than several of it.
const LENGTHS: [usize; 20] = [
    512,
    1024,
    3584,
    4096,
    4608,
    7680,
    8192,
    8704,
    12288,
    16384 + 512,
    65536,
    128 << 10,
    (512 << 10) - 512,
    512 << 10,
    (512 << 10) + 512,
    (512 << 10) + 4096,
    1 << 20,
    2 << 20,
    (2 << 20) + 512,
    (3 << 20) + 1536,
];

fn readv(rig: &mut Rig, parts: &[Memory], offset: u64) -> Entry {
    let iovecs: Vec<_> = parts.iter().map(Memory::iovec).collect();
    opcode::Readv::new(FILE, rig.iovecs(&iovecs), parts.len() as u32).offset(offset).build()
}

fn writev(rig: &mut Rig, parts: &[Memory], offset: u64) -> Entry {
    let iovecs: Vec<_> = parts.iter().map(Memory::iovec).collect();
    opcode::Writev::new(FILE, rig.iovecs(&iovecs), parts.len() as u32).offset(offset).build()
}

/// For each length: writes with one operation, reads with the other, and compares.
fn round_trip(
    rig: &mut Rig,
    memory: &Memory,
    mut writes: impl FnMut(&mut Rig, &Memory, u64) -> Entry,
    mut reads: impl FnMut(&mut Rig, &Memory, u64) -> Entry,
) -> Result<(), Stop> {
    for (i, len) in LENGTHS.into_iter().enumerate() {
        let (seed, offset) = (i as u64 + 1, 512 * (i as u64 * 3 + 1));
        let part = memory.part(0, len);
        part.write(&pattern::bytes(seed, offset, len));
        let entry = writes(rig, &part, offset);
        assert_eq!(rig.one(entry)?, len as i32, "write of {len}");
        part.write(&vec![0xa5; len]);
        let entry = reads(rig, &part, offset);
        assert_eq!(rig.one(entry)?, len as i32, "read of {len}");
        pattern::check(seed, offset, &part.read());
    }
    Ok(())
}

fn read_returns_what_write_wrote(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4 << 20);
    round_trip(&mut rig, &memory, |_, m, o| write(m, o), |_, m, o| read(m, o))
}

fn readv_returns_what_writev_wrote(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4 << 20);
    let halves = |m: &Memory| {
        let first = m.len() / 1024 * 512;
        [m.part(0, first), m.part(first, m.len() - first)]
    };
    round_trip(&mut rig, &memory, |r, m, o| writev(r, &halves(m), o), |r, m, o| readv(r, &halves(m), o))
}

fn read_fixed_returns_what_write_fixed_wrote(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4 << 20);
    rig.register(&[&memory])?;
    round_trip(&mut rig, &memory, |_, m, o| write_fixed(m, 0, o), |_, m, o| read_fixed(m, 0, o))
}

fn all_kinds_of_operations_see_the_same_data(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let fixed = rig.plain(64 << 10);
    rig.register(&[&fixed])?;
    let plain = rig.plain(64 << 10);
    let len = plain.len() as i32;
    for kind in 0..3 {
        let seed = 40 + kind;
        let source = if kind == 2 { &fixed } else { &plain };
        source.write(&pattern::bytes(seed, 4096, source.len()));
        let entry = match kind {
            0 => write(source, 4096),
            1 => writev(&mut rig, std::slice::from_ref(source), 4096),
            _ => write_fixed(source, 0, 4096),
        };
        assert_eq!(rig.one(entry)?, len);
        for target in [&plain, &fixed] {
            target.write(&[0; 64 << 10]);
            let vector = readv(&mut rig, std::slice::from_ref(target), 4096);
            for entry in [read(target, 4096), vector] {
                assert_eq!(rig.one(entry)?, len);
                pattern::check(seed, 4096, &target.read());
            }
        }
        fixed.write(&[0; 64 << 10]);
        assert_eq!(rig.one(read_fixed(&fixed, 0, 4096))?, len);
        pattern::check(seed, 4096, &fixed.read());
    }
    Ok(())
}

fn memory_of_the_ring_serves_all_kinds_of_operations(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    for len in [512, 4096, 100 << 10, 3 << 20] {
        let memory = rig.alloc(len)?;
        let seed = len as u64;
        memory.write(&pattern::bytes(seed, 8192, len));
        assert_eq!(rig.one(write(&memory, 8192))?, len as i32);
        memory.write(&vec![0; len]);
        assert_eq!(rig.one(read(&memory, 8192))?, len as i32);
        pattern::check(seed, 8192, &memory.read());
        memory.write(&vec![0; len]);
        let entry = readv(&mut rig, std::slice::from_ref(&memory), 8192);
        assert_eq!(rig.one(entry)?, len as i32);
        pattern::check(seed, 8192, &memory.read());
    }
    Ok(())
}

fn memory_may_start_anywhere_that_is_aligned(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let room = 1 << 20;
    let plain = rig.plain(room + 8192);
    let own = rig.alloc(room + 8192)?;
    rig.put(77, 0, room)?;
    let align = bench.memory_alignment();
    for start in [0, 4, 8, 60, 508, 512, 516, 2048, 3584, 4092, 4096].into_iter().filter(|s| s % align == 0) {
        for len in [512, 4096, 8192, 12288, 512 << 10, room] {
            for memory in [&plain, &own] {
                let part = memory.part(start, len);
                part.write(&vec![0; len]);
                assert_eq!(rig.one(read(&part, 0))?, len as i32, "{len} at {start} of a page");
                pattern::check(77, 0, &part.read());
                assert_eq!(rig.one(write(&part, 2 << 20))?, len as i32, "{len} at {start} of a page");
                rig.expect_moved(77, 2 << 20, len)?;
            }
        }
    }
    Ok(())
}

fn memory_that_is_not_aligned_is_invalid(bench: &Bench) -> Outcome {
    if bench.backend == "kernel_loop" {
        return skip("a loop device asks for the alignment of the file behind it, not for that of NVMe");
    }
    let mut rig = bench.rig(4)?;
    let plain = rig.plain(16384);
    let own = rig.alloc(16384)?;
    for memory in [&plain, &own] {
        for start in [1, 2, 3, 5, 511, 4095] {
            for entry in [read(&memory.part(start, 512), 0), write(&memory.part(start, 512), 0)] {
                let res = rig.one(entry)?;
                assert_eq!(res, -libc::EINVAL, "at byte {start} of a page");
            }
        }
    }
    Ok(())
}

fn fixed_buffers_may_be_used_at_any_offset(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(1 << 20);
    // Registered buffers need not start or end at a page.
    let buffers = [memory.part(0, 8192), memory.part(8192 + 512, 20000), memory.part(65536 - 512, 512 << 10)];
    rig.register(&[&buffers[0], &buffers[1], &buffers[2]])?;
    rig.put(5, 0, 1 << 20)?;
    let align = bench.memory_alignment();
    for (index, buffer) in buffers.iter().enumerate() {
        for start in [0, 4, 512, 1020, 3584, 4096, 7680, 9216].into_iter().filter(|s| s % align == 0) {
            // Older kernels want the pieces of a registered buffer in each page to be whole blocks.
            if start % 512 != 0 && bench.since(6, 18).is_err() {
                continue;
            }
            for len in [512, 1024, 4096, 8192, 65536, 256 << 10] {
                if start + len > buffer.len() {
                    continue;
                }
                let part = buffer.part(start, len);
                part.write(&vec![0; len]);
                assert_eq!(rig.one(read_fixed(&part, index as u16, 512))?, len as i32, "{index}: {start}+{len}");
                pattern::check(5, 512, &part.read());
            }
        }
    }
    Ok(())
}

fn a_write_changes_nothing_around_it(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let window = 2 << 20;
    for (offset, len) in [(512, 512), (4096, 4096), (3584, 9216), (512 << 10, 1 << 20)] {
        rig.put(1, 0, window)?;
        rig.put(2, offset, len)?;
        rig.expect(1, 0, offset as usize)?;
        rig.expect(2, offset, len)?;
        let after = offset + len as u64;
        rig.expect(1, after, window - after as usize)?;
    }
    Ok(())
}

fn a_read_changes_nothing_around_it(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    rig.put(3, 0, 1 << 20)?;
    let plain = rig.plain(2 << 20);
    let own = rig.alloc(2 << 20)?;
    for memory in [&plain, &own] {
        for (start, len) in [(512, 512), (4096, 512), (3584, 1024), (512, 1 << 20)] {
            memory.write(&vec![0x5a; memory.len()]);
            assert_eq!(rig.one(read(&memory.part(start, len), 0))?, len as i32);
            let data = memory.read();
            pattern::check(3, 0, &data[start..start + len]);
            assert!(data[..start].iter().chain(&data[start + len..]).all(|byte| *byte == 0x5a), "{start}+{len}");
        }
    }
    Ok(())
}

fn a_descriptor_serves_as_well_as_a_fixed_file(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    rig.put(9, 0, 4096)?;
    let fd = types::Fd(rig.ring.device_fd(0).ok_or(Stop::Fail("no descriptor of file 0".into()))?);
    let memory = rig.plain(4096);
    assert_eq!(rig.one(opcode::Read::new(fd, memory.ptr(), 4096).offset(0).build())?, 4096);
    pattern::check(9, 0, &memory.read());
    Ok(())
}

fn many_transfers_at_once_do_not_mix(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(64)?;
    let mut random = Random::new(11);
    let slot = 64 << 10;
    for round in 0..4u64 {
        let lens: Vec<usize> = (0..200).map(|_| 512 * (1 + random.below(slot as u64 / 512)) as usize).collect();
        let memory = if round % 2 == 0 { rig.plain(200 * slot) } else { rig.alloc(200 * slot)? };
        let parts: Vec<Memory> = lens.iter().enumerate().map(|(i, len)| memory.part(i * slot, *len)).collect();
        let offset = |i: usize| (i * slot) as u64;
        for (i, part) in parts.iter().enumerate() {
            part.write(&pattern::bytes(round, offset(i), part.len()));
        }
        let writes: Vec<_> = parts.iter().enumerate().map(|(i, part)| write(part, offset(i))).collect();
        let expected: Vec<i32> = lens.iter().map(|len| *len as i32).collect();
        assert_eq!(rig.all(&writes)?, expected);
        memory.write(&vec![0; 200 * slot]);
        let reads: Vec<_> = parts.iter().enumerate().map(|(i, part)| read(part, offset(i))).collect();
        assert_eq!(rig.all(&reads)?, expected);
        for (i, part) in parts.iter().enumerate() {
            pattern::check(round, offset(i), &part.read());
        }
    }
    Ok(())
}

impl Rig {
    /// As `expect`, for data that was read at offset 0 and written at `offset`.
    fn expect_moved(&mut self, seed: u64, offset: u64, len: usize) -> Result<(), Stop> {
        pattern::check(seed, 0, &self.get(offset, len)?);
        Ok(())
    }
}
