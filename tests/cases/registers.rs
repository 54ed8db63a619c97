//! `io_uring_register`: what is asked of a ring, clocks, sizes, personalities, and opcodes that do not exist.

use io_uring::opcode;

use crate::case::{Bench, Case, Outcome, Version, cases, skip};
use crate::support::calls::{
    REGISTER_CLOCK, REGISTER_ENABLE_RINGS, REGISTER_PERSONALITY, REGISTER_PROBE, REGISTER_QUERY, REGISTER_RESIZE_RINGS,
    UNMAPPED, UNREGISTER_PERSONALITY, USE_REGISTERED_RING, fields, long, register, register_bytes, word,
};
use crate::support::fields::Fields;
use crate::support::raw::Memory;
use crate::support::rig::{Done, Rig};

pub(super) const ALL: &[Case] = cases![
    register_opcodes_that_do_not_exist_are_invalid,
    register_opcodes_of_later_kernels_are_invalid,
    a_ring_that_is_not_registered_cannot_be_used,
    a_probe_is_checked,
    a_probe_names_the_operations,
    a_probe_tells_the_truth,
    a_query_answers_what_the_kernel_can,
    a_query_is_cut_to_its_length,
    queries_are_checked_one_by_one,
    the_clock_of_waits_is_monotonic_or_that_of_the_boot,
    resizing_is_for_deferred_rings,
    resizing_is_checked,
    personalities_that_do_not_exist_are_invalid,
];

const EINVAL: i32 = -libc::EINVAL;
const EFAULT: i32 = -libc::EFAULT;
const NONE: u64 = 0;

fn register_opcodes_that_do_not_exist_are_invalid(bench: &Bench) -> Outcome {
    let rig = bench.rig(4)?;
    for opcode in [100, 255, 1 << 30, u32::MAX, 100 | USE_REGISTERED_RING] {
        assert_eq!(register(&rig.ring, opcode, NONE, 0), EINVAL, "opcode {opcode:#x}");
        assert_eq!(register(&rig.ring, opcode, UNMAPPED, 1), EINVAL, "opcode {opcode:#x}");
    }
    // Rings are not named where this goes.
    assert_eq!(register(&rig.ring, 31, NONE, 0), EINVAL, "SEND_MSG_RING is for no ring");
    Ok(())
}

/// ZCRX_CTRL and BPF_FILTER.
fn register_opcodes_of_later_kernels_are_invalid(bench: &Bench) -> Outcome {
    if !bench.is_device() && Version::running() >= Version::new(6, 19) {
        return skip("this kernel has the register calls of 6.19");
    }
    let rig = bench.rig(4)?;
    let memory = Memory::plain(4096);
    for opcode in [36, 37] {
        for (address, count) in [(NONE, 0), (NONE, 1), (UNMAPPED, 1), (memory.address(), 1)] {
            assert_eq!(register(&rig.ring, opcode, address, count), EINVAL, "opcode {opcode}, {count}");
        }
    }
    Ok(())
}

fn a_ring_that_is_not_registered_cannot_be_used(bench: &Bench) -> Outcome {
    let rig = bench.rig(4)?;
    // The face passes the descriptor, which is beyond the table or names a hole in it.
    for opcode in [REGISTER_ENABLE_RINGS, REGISTER_PROBE] {
        let refused = register(&rig.ring, opcode | USE_REGISTERED_RING, NONE, 0);
        assert!([EINVAL, -libc::EBADF].contains(&refused), "{refused}");
    }
    Ok(())
}

fn a_probe_is_checked(bench: &Bench) -> Outcome {
    let rig = bench.rig(4)?;
    let ask = |address, count| register(&rig.ring, REGISTER_PROBE, address, count);
    assert_eq!([ask(NONE, 0), ask(NONE, 256), ask(UNMAPPED, 257)], [EINVAL; 3]);
    assert_eq!([ask(UNMAPPED, 0), ask(UNMAPPED, 256)], [EFAULT; 2]);
    for byte in [0, 1, 2, 15, 16, 23, 16 + 8 * 2] {
        let memory = Memory::plain(4096);
        memory.part(byte, 1).write(&[1]);
        assert_eq!(ask(memory.address(), 3), EINVAL, "byte {byte} is to be 0");
        assert_eq!(ask(memory.address(), 0), if byte < 16 { EINVAL } else { 0 }, "byte {byte}");
    }
    // Beyond the operations that there are nothing is looked at.
    let memory = Memory::plain(4096);
    memory.part(16 + 8 * 200, 1).write(&[1]);
    assert_eq!(ask(memory.address(), 256), 0);
    assert_eq!(ask(memory.address(), 256), EINVAL, "the answer stands there now");
    Ok(())
}

fn a_probe_names_the_operations(bench: &Bench) -> Outcome {
    let rig = bench.rig(4)?;
    for count in [0, 1, 3, 30, 256] {
        let memory = Memory::plain(4096);
        assert_eq!(register(&rig.ring, REGISTER_PROBE, memory.address(), count), 0);
        let bytes = memory.read();
        let (last, len) = (bytes[0], bytes[1]);
        assert_eq!(u32::from(len), count.min(u32::from(last) + 1));
        assert_eq!(bytes[2..16], [0; 14]);
        for (number, operation) in (0..len).zip(bytes[16..].chunks(8)) {
            assert_eq!(operation[0], number);
            assert!([0, 1].contains(&operation[2]) && operation[3..] == [0; 5] && operation[1] == 0, "{operation:?}");
            if [0, 1, 2, 3, 4, 5, 22, 23].contains(&number) {
                assert_eq!(operation[2], 1, "operation {number} is supported");
            }
        }
        assert!(bytes[16 + 8 * usize::from(len)..].iter().all(|byte| *byte == 0));
        if bench.is_device() {
            assert_eq!(last, 62);
        }
    }
    Ok(())
}

fn a_probe_tells_the_truth(bench: &Bench) -> Outcome {
    /// `IORING_CQE_F_NOTIF`: not the operation's result.
    const NOTIF: u32 = 1 << 3;
    let mut rig = bench.rig(8)?;
    let memory = Memory::plain(4096);
    assert_eq!(register(&rig.ring, REGISTER_PROBE, memory.address(), 256), 0);
    let probe = memory.read();
    let len = usize::from(probe[1]);
    let (mut served, mut others) = (0, 0);
    for (number, operation) in (0..).zip(probe[16..].chunks(8)).take(len) {
        // A descriptor that is not open, and nothing else: none of them does anything, but those that are served
        // are refused for another reason.
        rig.push(&Fields { opcode: number, fd: -1, user_data: 1000 + u64::from(number), ..Fields::default() }.entry())?;
        let mine = |done: &&Done| done.user_data == 1000 + u64::from(number) && done.flags & NOTIF == 0;
        let res = loop {
            if let Some(done) = rig.wait(1)?.iter().find(mine) {
                break done.res;
            }
        };
        let supported = operation[2] == 1;
        assert_eq!(res != -libc::EOPNOTSUPP, supported, "operation {number}: {res}");
        *if supported { &mut served } else { &mut others } += 1;
    }
    assert_eq!(served + others, len);
    if bench.is_device() {
        assert_eq!(served, 22);
    }
    Ok(())
}

/// A query: where the next is, data and its length, what is asked; in memory.
fn query(next: u64, data: u64, operation: u32, size: u32) -> Memory {
    let memory = Memory::plain(40);
    let words = [operation.to_ne_bytes(), size.to_ne_bytes()].concat();
    memory.write(&fields::<24>(&[&next.to_ne_bytes(), &data.to_ne_bytes(), &words]));
    memory
}

fn ask(rig: &Rig, query: u64) -> i32 {
    register(&rig.ring, REGISTER_QUERY, query, 0)
}

/// Length and result of an answered query.
fn answer(query: &Memory) -> (u32, i32) {
    (word(query, 20), word(query, 24).cast_signed())
}

fn a_query_answers_what_the_kernel_can(bench: &Bench) -> Outcome {
    bench.since(6, 18)?;
    let rig = bench.rig(4)?;
    let data = Memory::plain(64);
    data.write(&[0xee; 64]);
    let opcodes = query(NONE, data.address(), 0, 64);
    assert_eq!(ask(&rig, opcodes.address()), 0);
    assert_eq!(answer(&opcodes), (48, 0));
    // Requests, registers, features, flags of the set-up, of entering and of entries, kinds of queries.
    let answered = (word(&data, 0), word(&data, 4), [8, 16, 24, 32].map(|at| long(&data, at)), word(&data, 40));
    let features = u64::from(rig.ring.params().features);
    // Of a device ring without those of polling threads and their sharing.
    let known = if bench.is_device() { [features, 0x7ffd9, 0xf9, 0x7f] } else { [features, 0x7ffff, 0xff, 0x7f] };
    if bench.is_device() {
        assert_eq!(answered, (63, 36, known, 1));
    }
    assert!(answered.0 >= 63 && answered.1 >= 36 && answered.3 >= 1, "{answered:?}");
    for (found, known) in answered.2.into_iter().zip(known) {
        assert_eq!(found & known, known);
    }
    assert_eq!(data.part(44, 20).read(), [0; 20], "the rest is cleared");
    assert_eq!(ask(&rig, NONE), 0, "nothing is asked");
    Ok(())
}

fn a_query_is_cut_to_its_length(bench: &Bench) -> Outcome {
    bench.since(6, 18)?;
    let rig = bench.rig(4)?;
    for size in [4u32, 8, 40, 48] {
        let data = Memory::plain(64);
        data.write(&[0xee; 64]);
        let opcodes = query(NONE, data.address(), 0, size);
        assert_eq!(ask(&rig, opcodes.address()), 0);
        assert_eq!(answer(&opcodes), (size, 0));
        assert!(word(&data, 0) >= 63);
        assert!(data.part(size as usize, 64 - size as usize).read().iter().all(|byte| *byte == 0xee));
    }
    // And all that is longer is cleared, however long.
    let data = Memory::plain(8192);
    data.write(&[0xee; 8192]);
    assert_eq!(ask(&rig, query(NONE, data.address(), 0, 8000).address()), 0);
    let rest = data.part(48, 8192 - 48).read();
    assert!(rest[..7952].iter().all(|byte| *byte == 0) && rest[7952..].iter().all(|byte| *byte == 0xee));
    let nothing = query(NONE, NONE, 0, 0);
    assert_eq!(ask(&rig, nothing.address()), 0);
    assert_eq!(answer(&nothing), (0, EINVAL));
    Ok(())
}

fn queries_are_checked_one_by_one(bench: &Bench) -> Outcome {
    bench.since(6, 18)?;
    let rig = bench.rig(4)?;
    let data = Memory::plain(64);
    let at = data.address();
    let unknown = query(NONE, at, 1000, 64);
    let first = query(unknown.address(), at, 0, 8);
    assert_eq!(ask(&rig, first.address()), 0);
    assert_eq!((answer(&first), answer(&unknown)), ((8, 0), (0, -libc::EOPNOTSUPP)));
    assert_eq!(data.read(), [0; 64], "what is not answered is cleared");
    // The result and what is reserved are to be 0.
    for byte in [24, 28, 39] {
        let bad = query(NONE, at, 0, 64);
        bad.part(byte, 1).write(&[1]);
        data.write(&[0xee; 64]);
        assert_eq!(ask(&rig, bad.address()), 0);
        assert_eq!(answer(&bad), (0, EINVAL), "byte {byte}");
        assert_eq!(data.read(), [0; 64]);
        bad.write(&query(NONE, at, 1000, 64).part(0, 24).read());
        assert_eq!(ask(&rig, bad.address()), 0);
        assert_eq!(answer(&bad).1, -libc::EOPNOTSUPP, "after what is asked");
    }
    let good = query(UNMAPPED, at, 0, 8);
    assert_eq!(ask(&rig, good.address()), EFAULT, "the next one");
    assert_eq!(answer(&good), (8, 0), "this one is answered");
    assert_eq!(ask(&rig, query(NONE, UNMAPPED, 0, 8).address()), EFAULT);
    assert_eq!(ask(&rig, UNMAPPED), EFAULT);
    let endless = query(NONE, at, 0, 8);
    endless.write(&endless.address().to_ne_bytes());
    endless.part(24, 4).write(&[0; 4]);
    assert_eq!(ask(&rig, endless.address()), -libc::ERANGE);
    for count in [1, 1000] {
        assert_eq!(register(&rig.ring, REGISTER_QUERY, NONE, count), EINVAL);
    }
    Ok(())
}

fn the_clock_of_waits_is_monotonic_or_that_of_the_boot(bench: &Bench) -> Outcome {
    bench.since(6, 12)?;
    let mut rig = bench.rig(4)?;
    let set = |clock: u32, reserved: u32| {
        let bytes: [u8; 16] = fields(&[&clock.to_ne_bytes(), &[0; 8], &reserved.to_ne_bytes()]);
        register_bytes(&rig.ring, REGISTER_CLOCK, &bytes, 0)
    };
    for clock in 0..12 {
        let known = [libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME].contains(&(clock as i32));
        assert_eq!(set(clock, 0), if known { 0 } else { EINVAL }, "clock {clock}");
        assert_eq!(set(clock, 1), EINVAL);
    }
    assert_eq!(set(u32::MAX, 0), EINVAL);
    assert_eq!(register(&rig.ring, REGISTER_CLOCK, UNMAPPED, 0), EFAULT);
    assert_eq!(register(&rig.ring, REGISTER_CLOCK, UNMAPPED, 1), EINVAL);
    assert_eq!(register(&rig.ring, REGISTER_CLOCK, NONE, 0), EINVAL);
    assert_eq!(rig.one(opcode::Nop::new().build())?, 0);
    Ok(())
}

/// `REGISTER_RESIZE_RINGS`, to sizes and with flags.
fn resize(rig: &Rig, sq_entries: u32, cq_entries: u32, flags: u32) -> i32 {
    let mut bytes = [0; 120];
    for (at, word) in [sq_entries, cq_entries, flags].into_iter().enumerate() {
        bytes[4 * at..4 * at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    register_bytes(&rig.ring, REGISTER_RESIZE_RINGS, &bytes, 1)
}

const CQSIZE: u32 = 8;

fn resizing_is_for_deferred_rings(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    for flags in [0, 1 << 12] {
        let rig = bench.open(bench.builder(4).setup_flags(flags))?;
        assert_eq!(resize(&rig, 8, 0, 0), EINVAL);
        assert_eq!(register(&rig.ring, REGISTER_RESIZE_RINGS, UNMAPPED, 1), EINVAL, "before it is read");
    }
    Ok(())
}

fn resizing_is_checked(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let mut rig = bench.open(bench.builder(8).setup_flags(1 << 12 | 1 << 13))?;
    let call = |address, count| register(&rig.ring, REGISTER_RESIZE_RINGS, address, count);
    assert_eq!(call(UNMAPPED, 1), EFAULT);
    assert_eq!([call(NONE, 1), call(UNMAPPED, 0), call(UNMAPPED, 2)], [EINVAL; 3]);
    // Only CQSIZE and CLAMP; all others are the ring's own.
    for bit in (0..32).filter(|bit| ![3, 4].contains(bit)) {
        assert_eq!(resize(&rig, 8, 0, 1 << bit), EINVAL, "bit {bit}");
    }
    for (sq_entries, cq_entries, flags) in
        [(0, 0, 0), (40_000, 0, 0), (8, 4, CQSIZE), (8, 0, CQSIZE), (8, 70_000, CQSIZE)]
    {
        assert_eq!(resize(&rig, sq_entries, cq_entries, flags), EINVAL, "{sq_entries}, {cq_entries}, {flags}");
    }
    // What is pushed or not taken must fit.
    let memory = rig.plain(512);
    for i in 0..3 {
        rig.push(&crate::support::rig::read(&memory, 0).user_data(i))?;
    }
    rig.ring.submission().sync();
    assert_eq!(resize(&rig, 2, 16, CQSIZE), -libc::EOVERFLOW);
    assert_eq!(rig.ring.submit_and_wait(3)?, 3);
    assert_eq!(resize(&rig, 2, 2, CQSIZE), -libc::EOVERFLOW);
    let done: Vec<_> = rig.ready().iter().map(|done| done.res).collect();
    assert_eq!(done, [512; 3], "the rings stay as they are");
    assert_eq!(rig.one(opcode::Nop::new().build())?, 0);
    Ok(())
}

fn personalities_that_do_not_exist_are_invalid(bench: &Bench) -> Outcome {
    let rig = bench.rig(4)?;
    for id in [0, 1, 5, 65535, 65536, u32::MAX] {
        assert_eq!(register(&rig.ring, UNREGISTER_PERSONALITY, NONE, id), EINVAL, "personality {id}");
        assert_eq!(register(&rig.ring, UNREGISTER_PERSONALITY, UNMAPPED, id), EINVAL);
    }
    assert_eq!(register(&rig.ring, REGISTER_PERSONALITY, UNMAPPED, 0), EINVAL);
    assert_eq!(register(&rig.ring, REGISTER_PERSONALITY, NONE, 1), EINVAL);
    Ok(())
}
