//! Offsets and lengths at, beyond and across the end, and those that are no blocks.

use io_uring::{opcode, squeue::Entry};

use crate::case::{Bench, Case, Outcome, cases};
use crate::support::pattern;
use crate::support::raw::Memory;
use crate::support::rig::{FILE, expect_errno, read, read_fixed, write, write_fixed};

pub(super) const ALL: &[Case] = cases![
    read_at_the_end_is_empty,
    read_past_the_end_is_empty_even_unaligned,
    read_straddling_the_end_is_short,
    write_at_the_end_has_no_space,
    write_straddling_the_end_is_short,
    unaligned_offset_is_invalid,
    unaligned_length_is_invalid,
    zero_length_moves_nothing,
    offset_minus_one_is_the_file_position_and_does_not_advance_it,
    offset_minus_two_is_invalid,
    offsets_that_overflow_are_invalid,
    a_length_beyond_the_memory_is_cut_at_the_end_of_the_device,
];

fn len_of(memory: &Memory) -> i32 {
    memory.len() as i32
}

fn read_at_the_end_is_empty(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let (end, memory) = (rig.size(), rig.plain(4096));
    memory.write(&[7; 4096]);
    assert_eq!(rig.one(read(&memory, end))?, 0);
    assert!(memory.read().iter().all(|byte| *byte == 7), "nothing was read");
    Ok(())
}

fn read_past_the_end_is_empty_even_unaligned(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let (end, memory) = (rig.size(), rig.plain(4096));
    for past in [1, 3, 512, 4096, 1 << 20, 1 << 40] {
        assert_eq!(rig.one(read(&memory, end + past))?, 0, "{past} past the end");
        assert_eq!(rig.one(read(&memory.part(0, 5), end + past))?, 0, "5 bytes, {past} past the end");
    }
    Ok(())
}

fn read_straddling_the_end_is_short(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let end = rig.size();
    rig.put(1, end - 8192, 8192)?;
    let (memory, fixed) = (rig.plain(2 << 20), rig.plain(2 << 20));
    rig.register(&[&fixed])?;
    for left in [512, 4096, 8192] {
        memory.write(&vec![9; 2 << 20]);
        assert_eq!(rig.one(read(&memory, end - left))?, left as i32);
        let data = memory.read();
        pattern::check(1, end - left, &data[..left as usize]);
        assert!(data[left as usize..].iter().all(|byte| *byte == 9), "nothing beyond was touched");
        assert_eq!(rig.one(read_fixed(&fixed, 0, end - left))?, left as i32);
        pattern::check(1, end - left, &fixed.read()[..left as usize]);
    }
    Ok(())
}

fn write_at_the_end_has_no_space(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let (end, memory) = (rig.size(), rig.plain(4096));
    for past in [0, 512, 4096, 1 << 40] {
        expect_errno(rig.one(write(&memory, end + past))?, libc::ENOSPC, &format!("{past} past the end"));
    }
    for past in [1, 3, 511] {
        expect_errno(rig.one(write(&memory, end + past))?, libc::ENOSPC, &format!("{past} past the end"));
    }
    Ok(())
}

fn write_straddling_the_end_is_short(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let end = rig.size();
    let fixed = rig.plain(1 << 20);
    rig.register(&[&fixed])?;
    for left in [512, 4096, 8192] {
        let memory = rig.filled(left, end - left, 1 << 20);
        assert_eq!(rig.one(write(&memory, end - left))?, left as i32);
        rig.expect(left, end - left, left as usize)?;
        fixed.write(&pattern::bytes(left + 1, end - left, 1 << 20));
        assert_eq!(rig.one(write_fixed(&fixed, 0, end - left))?, left as i32);
        rig.expect(left + 1, end - left, left as usize)?;
    }
    Ok(())
}

fn unaligned_offset_is_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let (plain, fixed) = (rig.plain(4096), rig.plain(4096));
    rig.register(&[&fixed])?;
    for offset in [1, 4, 256, 511, 513, 4095, rig.size() - 1, rig.size() - 100] {
        let entries = [
            read(&plain, offset),
            write(&plain, offset),
            read_fixed(&fixed, 0, offset),
            write_fixed(&fixed, 0, offset),
        ];
        for entry in entries {
            expect_errno(rig.one(entry)?, libc::EINVAL, &format!("offset {offset}"));
        }
    }
    Ok(())
}

fn unaligned_length_is_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let (plain, fixed) = (rig.plain(8192), rig.plain(8192));
    rig.register(&[&fixed])?;
    for len in [1, 4, 256, 511, 513, 4095, 4097, 8188] {
        let (plain, fixed) = (plain.part(0, len), fixed.part(0, len));
        let entries = [read(&plain, 0), write(&plain, 0), read_fixed(&fixed, 0, 0), write_fixed(&fixed, 0, 0)];
        for entry in entries {
            expect_errno(rig.one(entry)?, libc::EINVAL, &format!("length {len}"));
        }
    }
    Ok(())
}

fn zero_length_moves_nothing(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let (end, memory) = (rig.size(), rig.plain(4096));
    let nothing = memory.part(0, 0);
    for offset in [0, 512, 1, end - 512, end, end + 1, 1 << 50] {
        assert_eq!(rig.one(read(&nothing, offset))?, 0, "read at {offset}");
        assert_eq!(rig.one(write(&nothing, offset))?, 0, "write at {offset}");
    }
    let null: [Entry; 2] = [
        opcode::Read::new(FILE, std::ptr::null_mut(), 0).offset(0).build(),
        opcode::Write::new(FILE, std::ptr::null(), 0).offset(0).build(),
    ];
    for entry in null {
        assert_eq!(rig.one(entry)?, 0, "nothing at no address");
    }
    Ok(())
}

fn offset_minus_one_is_the_file_position_and_does_not_advance_it(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    rig.put(3, 0, 8192)?;
    let memory = rig.plain(4096);
    for _ in 0..3 {
        memory.write(&[0; 4096]);
        assert_eq!(rig.one(read(&memory, u64::MAX))?, 4096);
        pattern::check(3, 0, &memory.read());
    }
    memory.write(&pattern::bytes(4, 0, 4096));
    for _ in 0..2 {
        assert_eq!(rig.one(write(&memory, u64::MAX))?, 4096);
    }
    rig.expect(4, 0, 4096)?;
    rig.expect(3, 4096, 4096)?;
    Ok(())
}

fn offset_minus_two_is_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    for offset in [u64::MAX - 1, 1 << 63, u64::MAX - 4095] {
        expect_errno(rig.one(read(&memory, offset))?, libc::EINVAL, &format!("read at {offset:#x}"));
        expect_errno(rig.one(write(&memory, offset))?, libc::EINVAL, &format!("write at {offset:#x}"));
    }
    Ok(())
}

fn offsets_that_overflow_are_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    let last = i64::MAX as u64;
    for offset in [last, last - 511, last - 4094] {
        expect_errno(rig.one(read(&memory, offset))?, libc::EINVAL, &format!("read at {offset:#x}"));
        expect_errno(rig.one(write(&memory, offset))?, libc::EINVAL, &format!("write at {offset:#x}"));
    }
    assert_eq!(rig.one(read(&memory, last - 4096))?, 0, "the last offset that does not");
    Ok(())
}

fn a_length_beyond_the_memory_is_cut_at_the_end_of_the_device(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let end = rig.size();
    rig.put(5, end - 4096, 4096)?;
    let memory = rig.plain(4096);
    // As long as the field allows, though one page is all that is left to read.
    for len in [1 << 30, 0x7fff_f000, 0xffff_fe00] {
        let entry = opcode::Read::new(FILE, memory.ptr(), len).offset(end - 4096).build();
        assert_eq!(rig.one(entry)?, len_of(&memory), "length {len:#x}");
        pattern::check(5, end - 4096, &memory.read());
    }
    Ok(())
}
