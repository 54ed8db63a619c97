//! Registered buffers: registering, and ranges that are not in them.

use io_uring::{opcode, squeue::Entry};

use crate::case::{Bench, Case, Outcome, cases};
use crate::support::pattern;
use crate::support::raw::{Memory, edit, register_buffers};
use crate::support::rig::{FILE, expect_errno, read, read_fixed, write_fixed};

pub(super) const ALL: &[Case] = cases![
    registering_buffers_twice_is_busy,
    unregistering_no_buffers_fails,
    buffers_can_be_registered_again,
    a_buffer_that_is_not_registered_is_a_fault,
    a_range_outside_its_buffer_is_a_fault,
    an_empty_range_of_a_buffer_moves_nothing,
    plain_operations_ignore_the_buffer_index,
    plain_operations_reach_registered_memory,
    buffers_that_cannot_be_are_refused,
    holes_can_be_registered,
    many_buffers_can_be_registered,
];

fn registering_buffers_twice_is_busy(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(8192);
    rig.register(&[&memory])?;
    let error = rig.register(&[&memory]).expect_err("registered twice");
    assert_eq!(errno(&error), libc::EBUSY, "{error}");
    assert_eq!(rig.one(read_fixed(&memory, 0, 0))?, 8192, "the first registration holds");
    Ok(())
}

fn unregistering_no_buffers_fails(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let error = rig.ring.submitter().unregister_buffers().expect_err("none are registered");
    assert_eq!(errno(&error), libc::ENXIO, "{error}");
    let memory = rig.plain(4096);
    rig.register(&[&memory])?;
    rig.ring.submitter().unregister_buffers()?;
    let error = rig.ring.submitter().unregister_buffers().expect_err("unregistered twice");
    assert_eq!(errno(&error), libc::ENXIO, "{error}");
    Ok(())
}

fn buffers_can_be_registered_again(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    rig.put(4, 0, 8192)?;
    for round in 0..20 {
        let memory = Memory::plain(8192 + 4096 * (round % 3));
        rig.register(&[&memory])?;
        assert_eq!(rig.one(read_fixed(&memory.part(4096, 4096), 0, 4096))?, 4096);
        pattern::check(4, 4096, &memory.part(4096, 4096).read());
        rig.ring.submitter().unregister_buffers()?;
        expect_errno(rig.one(read_fixed(&memory.part(0, 512), 0, 0))?, libc::EFAULT, "after unregistering");
        // The memory goes now, and another mapping may take its place.
        drop(memory);
    }
    Ok(())
}

fn a_buffer_that_is_not_registered_is_a_fault(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    for entry in [read_fixed(&memory, 0, 0), write_fixed(&memory, 0, 0)] {
        expect_errno(rig.one(entry)?, libc::EFAULT, "nothing registered");
    }
    rig.register(&[&memory])?;
    for index in [1, 2, 1000, u16::MAX] {
        for entry in [read_fixed(&memory, index, 0), write_fixed(&memory, index, 0)] {
            expect_errno(rig.one(entry)?, libc::EFAULT, &format!("buffer {index} of 1"));
        }
    }
    Ok(())
}

fn a_range_outside_its_buffer_is_a_fault(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(64 << 10);
    rig.register(&[&memory.part(8192, 8192), &memory.part(16384, 8192)])?;
    let entry = |address: u64, len: u32| -> [Entry; 2] {
        let at = address as *mut u8;
        [
            opcode::ReadFixed::new(FILE, at, len, 0).offset(0).build(),
            opcode::WriteFixed::new(FILE, at, len, 0).offset(0).build(),
        ]
    };
    let start = memory.part(8192, 0).address();
    let ranges = [
        (start - 512, 512),
        (start - 512, 1024),
        (start, 8192 + 512),
        (start + 8192, 512),
        (start + 4096, 8192),
        (start - 4096, 16384),
        (0, 512),
        (u64::MAX - 511, 512),
        (u64::MAX - 511, 4096),
        (start, 0xffff_fe00),
    ];
    for (address, len) in ranges {
        for entry in entry(address, len) {
            let what = format!("{len:#x} bytes at {:#x} from the buffer", address.wrapping_sub(start));
            expect_errno(rig.one(entry)?, libc::EFAULT, &what);
        }
    }
    for entry in entry(start, 8192) {
        assert_eq!(rig.one(entry)?, 8192, "all of it");
    }
    Ok(())
}

fn an_empty_range_of_a_buffer_moves_nothing(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    rig.register(&[&memory])?;
    for start in [0, 512, 4096] {
        let part = memory.part(start, 0);
        assert_eq!(rig.one(read_fixed(&part, 0, 0))?, 0, "read at {start}");
        assert_eq!(rig.one(write_fixed(&part, 0, 0))?, 0, "write at {start}");
    }
    Ok(())
}

fn plain_operations_ignore_the_buffer_index(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    rig.put(2, 0, 4096)?;
    let memory = rig.plain(4096);
    let entry = edit(read(&memory, 0), |bytes| bytes[40..42].copy_from_slice(&77u16.to_ne_bytes()));
    assert_eq!(rig.one(entry)?, 4096);
    pattern::check(2, 0, &memory.read());
    Ok(())
}

fn plain_operations_reach_registered_memory(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    rig.put(2, 0, 64 << 10)?;
    let memory = rig.plain(64 << 10);
    rig.register(&[&memory.part(4096, 32 << 10)])?;
    // Inside the buffer, across its start, across its end.
    for (start, len) in [(8192, 8192), (0, 16384), (32 << 10, 32 << 10)] {
        let part = memory.part(start, len);
        part.write(&vec![0; len]);
        assert_eq!(rig.one(read(&part, 0))?, len as i32);
        pattern::check(2, 0, &part.read());
    }
    Ok(())
}

fn buffers_that_cannot_be_are_refused(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    let iovec = |address: u64, len: usize| libc::iovec { iov_base: address as *mut _, iov_len: len };
    let good = memory.iovec();
    let cases = [
        (vec![], libc::EINVAL, "none"),
        (vec![iovec(0, 1); (1 << 14) + 1], libc::EINVAL, "more than 16,384"),
        (vec![good, iovec(0, 4096)], libc::EFAULT, "no address"),
        (vec![good, iovec(memory.address(), 0)], libc::EFAULT, "no length"),
        (vec![good, iovec(memory.address(), (1 << 30) + 1)], libc::EFAULT, "more than 1 GiB"),
        (vec![iovec(u64::MAX - 4095, 4096)], libc::EOVERFLOW, "beyond the address space"),
    ];
    for (iovecs, expected, what) in cases {
        let error = register_buffers(&rig.ring, &iovecs).expect_err(what);
        assert_eq!(errno(&error), expected, "{what}: {error}");
    }
    rig.register(&[&memory])?;
    assert_eq!(rig.one(read_fixed(&memory, 0, 0))?, 4096, "none of them left anything behind");
    Ok(())
}

fn holes_can_be_registered(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    let hole = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    register_buffers(&rig.ring, &[hole, memory.iovec(), hole])?;
    assert_eq!(rig.one(read_fixed(&memory, 1, 0))?, 4096);
    for index in [0, 2] {
        expect_errno(rig.one(read_fixed(&memory, index, 0))?, libc::EFAULT, "a hole");
    }
    Ok(())
}

fn many_buffers_can_be_registered(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    rig.put(6, 0, 4096)?;
    let memory = rig.plain(1000 * 4096);
    // In an order that is not that of their addresses.
    let parts: Vec<_> = (0..1000).map(|i| memory.part((i * 7 % 1000) * 4096, 4096)).collect();
    rig.register(&parts.iter().collect::<Vec<_>>())?;
    for index in [0, 1, 499, 998, 999] {
        assert_eq!(rig.one(read_fixed(&parts[index], index as u16, 0))?, 4096);
        pattern::check(6, 0, &parts[index].read());
    }
    Ok(())
}

/// The errno in an error, directly or in what it wraps.
fn errno(error: &std::io::Error) -> i32 {
    let wrapped = error.get_ref().and_then(|inner| inner.downcast_ref::<dmaring::Error>());
    wrapped.map_or(error.raw_os_error().unwrap_or(0), dmaring::Error::errno)
}
