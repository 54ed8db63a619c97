//! IORING_REGISTER_SYNC_CANCEL.

use io_uring::squeue::Flags;

use super::cancel::{ANY, FD, FD_FIXED, ONE_OF_MANY, OP, TIMEOUT, USERDATA, pend, sorted};
use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::control::{register, register_at};
use crate::support::fields::{endless, nop};
use crate::support::pattern;
use crate::support::rig::{Rig, read};

pub(super) const ALL: &[Case] = cases![
    sync_cancel_ends_what_pends,
    sync_cancel_answers_how_many,
    sync_cancel_by_operation,
    sync_cancel_by_file,
    sync_cancel_with_a_bad_argument_is_invalid,
    sync_cancel_waits_for_nothing_when_it_finds_nothing,
    sync_cancel_does_not_find_what_waits_to_be_drained,
    sync_cancel_lets_a_read_in_flight_complete,
];

const SYNC_CANCEL: u32 = 24;

/// `struct io_uring_sync_cancel_reg`.
#[derive(Clone, Copy, Debug)]
struct SyncCancel {
    addr: u64,
    fd: i32,
    flags: u32,
    timeout: [i64; 2],
    opcode: u8,
}

impl SyncCancel {
    fn of(addr: u64, flags: u32) -> Self {
        Self { addr, fd: 0, flags, timeout: [-1, -1], opcode: 0 }
    }

    fn bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..8].copy_from_slice(&self.addr.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.fd.to_ne_bytes());
        bytes[12..16].copy_from_slice(&self.flags.to_ne_bytes());
        bytes[16..24].copy_from_slice(&self.timeout[0].to_ne_bytes());
        bytes[24..32].copy_from_slice(&self.timeout[1].to_ne_bytes());
        bytes[32] = self.opcode;
        bytes
    }

    fn call(&self, rig: &Rig) -> Result<u32, i32> {
        register(&rig.ring, SYNC_CANCEL, &self.bytes(), 1)
    }
}

/// Takes the completions of cancelled timeouts, in any order.
#[track_caller]
fn expect_cancelled(rig: &mut Rig, names: &[u64]) -> Outcome {
    let expected: Vec<_> = names.iter().map(|&name| (name, -libc::ECANCELED)).collect();
    assert_eq!(sorted(rig.wait(names.len())?), expected);
    Ok(())
}

fn sync_cancel_ends_what_pends(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    pend(&mut rig, &[5, 5, 6])?;
    assert_eq!(SyncCancel::of(5, 0).call(&rig), Ok(0), "the first");
    expect_cancelled(&mut rig, &[5])?;
    assert_eq!(SyncCancel::of(6, 0).call(&rig), Ok(0));
    expect_cancelled(&mut rig, &[6])?;
    assert_eq!(SyncCancel::of(6, 0).call(&rig), Err(libc::ENOENT));
    assert_eq!(SyncCancel::of(5, 0).call(&rig), Ok(0), "the second");
    expect_cancelled(&mut rig, &[5])?;
    assert_eq!(rig.one(nop(0))?, 0, "nothing else came");
    Ok(())
}

fn sync_cancel_answers_how_many(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    // None is no error where many may be meant.
    assert_eq!(SyncCancel::of(5, ONE_OF_MANY).call(&rig), Ok(0));
    assert_eq!(SyncCancel::of(5, ANY).call(&rig), Ok(0));
    pend(&mut rig, &[5, 6, 5, 7, 5])?;
    assert_eq!(SyncCancel::of(5, ONE_OF_MANY).call(&rig), Ok(3));
    expect_cancelled(&mut rig, &[5, 5, 5])?;
    assert_eq!(SyncCancel::of(5, ANY).call(&rig), Ok(2));
    expect_cancelled(&mut rig, &[6, 7])?;
    assert_eq!(SyncCancel::of(5, ANY | ONE_OF_MANY).call(&rig), Ok(0));
    Ok(())
}

fn sync_cancel_by_operation(bench: &Bench) -> Outcome {
    bench.since(6, 6)?;
    let mut rig = bench.rig(8)?;
    pend(&mut rig, &[5, 6])?;
    let by = |opcode: u32, addr: u64, flags: u32| SyncCancel { opcode: opcode as u8, ..SyncCancel::of(addr, flags) };
    assert_eq!(by(0, 5, OP).call(&rig), Err(libc::ENOENT));
    assert_eq!(by(0, 5, OP | ONE_OF_MANY).call(&rig), Ok(0));
    assert_eq!(by(TIMEOUT, 7, OP | USERDATA).call(&rig), Err(libc::ENOENT));
    assert_eq!(by(TIMEOUT, 6, OP | USERDATA).call(&rig), Ok(0));
    expect_cancelled(&mut rig, &[6])?;
    assert_eq!(by(TIMEOUT, 7, OP).call(&rig), Ok(0));
    expect_cancelled(&mut rig, &[5])?;
    // What the entry's form refuses is taken here: ANY wins.
    pend(&mut rig, &[5, 6])?;
    assert_eq!(by(0, 7, OP | ANY).call(&rig), Ok(2));
    expect_cancelled(&mut rig, &[5, 6])?;
    Ok(())
}

fn sync_cancel_by_file(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let own = rig.ring.device_fd(0).ok_or(Stop::Fail("file 0 has no descriptor".into()))?;
    pend(&mut rig, &[5])?;
    let by = |fd: i32, flags: u32| SyncCancel { fd, ..SyncCancel::of(5, flags) };
    for (fd, flags) in [(own, FD), (0, FD | FD_FIXED)] {
        assert_eq!(by(fd, flags).call(&rig), Err(libc::ENOENT), "timeouts have no file");
        assert_eq!(by(fd, flags | ONE_OF_MANY).call(&rig), Ok(0));
        assert_eq!(by(fd, flags | ANY).call(&rig), Ok(0));
    }
    for (fd, flags) in [(9999, FD), (-1, FD), (1, FD | FD_FIXED), (-1, FD | FD_FIXED)] {
        assert_eq!(by(fd, flags).call(&rig), Err(libc::EBADF), "{fd}, flags {flags:#x}");
        assert_eq!(by(fd, flags | ONE_OF_MANY).call(&rig), Err(libc::EBADF), "{fd}, flags {flags:#x}");
    }
    // Without FD the descriptor is of no account.
    assert_eq!(by(9999, FD_FIXED).call(&rig), Ok(0));
    expect_cancelled(&mut rig, &[5])
}

fn sync_cancel_with_a_bad_argument_is_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    pend(&mut rig, &[5])?;
    let good = SyncCancel::of(5, 0).bytes();
    for nr_args in [0, 2, 64, u32::MAX] {
        assert_eq!(register(&rig.ring, SYNC_CANCEL, &good, nr_args), Err(libc::EINVAL), "{nr_args} arguments");
    }
    assert_eq!(register_at(&rig.ring, SYNC_CANCEL, 0, 1), Err(libc::EINVAL), "no argument");
    assert_eq!(register_at(&rig.ring, SYNC_CANCEL, 0, 0), Err(libc::EINVAL), "nothing at all");
    for address in [8, 1 << 63] {
        assert_eq!(register_at(&rig.ring, SYNC_CANCEL, address, 1), Err(libc::EFAULT), "{address:#x}");
        assert_eq!(register_at(&rig.ring, SYNC_CANCEL, address, 2), Err(libc::EINVAL), "the count comes first");
    }
    for flags in [64, 1 << 31] {
        assert_eq!(SyncCancel::of(5, flags).call(&rig), Err(libc::EINVAL), "flags {flags:#x}");
    }
    bench.since(6, 6)?; // the first byte was padding before
    for byte in 33..64 {
        let mut bytes = good;
        bytes[byte] = 1;
        assert_eq!(register(&rig.ring, SYNC_CANCEL, &bytes, 1), Err(libc::EINVAL), "byte {byte}");
    }
    // The descriptor comes last.
    let mut bytes = SyncCancel { fd: 9999, ..SyncCancel::of(5, FD) }.bytes();
    assert_eq!(register(&rig.ring, SYNC_CANCEL, &bytes, 1), Err(libc::EBADF));
    bytes[63] = 1;
    assert_eq!(register(&rig.ring, SYNC_CANCEL, &bytes, 1), Err(libc::EINVAL));
    assert_eq!(SyncCancel::of(5, 0).call(&rig), Ok(0), "none of them did anything");
    expect_cancelled(&mut rig, &[5])
}

fn sync_cancel_waits_for_nothing_when_it_finds_nothing(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    // Nor is the time looked at.
    for timeout in [[-1, -1], [0, 0], [3600, 0], [0, i64::MAX], [-5, -5], [i64::MAX, 1]] {
        let entry = SyncCancel { timeout, ..SyncCancel::of(5, 0) };
        assert_eq!(entry.call(&rig), Err(libc::ENOENT), "{timeout:?}");
        pend(&mut rig, &[5])?;
        assert_eq!(entry.call(&rig), Ok(0), "{timeout:?}");
        expect_cancelled(&mut rig, &[5])?;
    }
    Ok(())
}

fn sync_cancel_does_not_find_what_waits_to_be_drained(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let timeout = endless(&mut rig, 1);
    rig.push(&timeout)?;
    rig.push(&nop(2).flags(Flags::IO_DRAIN))?;
    let behind = endless(&mut rig, 3);
    rig.push(&behind)?;
    assert_eq!(rig.ring.submit()?, 3);
    for name in [2, 3] {
        assert_eq!(SyncCancel::of(name, 0).call(&rig), Err(libc::ENOENT), "{name}");
        assert_eq!(SyncCancel::of(name, ONE_OF_MANY).call(&rig), Ok(0), "{name}");
    }
    assert_eq!(SyncCancel::of(0, ANY).call(&rig), Ok(1), "the timeout before them");
    assert_eq!(sorted(rig.wait(2)?), [(1, -libc::ECANCELED), (2, 0)]);
    assert_eq!(SyncCancel::of(3, 0).call(&rig), Ok(0), "it has begun now");
    expect_cancelled(&mut rig, &[3])
}

fn sync_cancel_lets_a_read_in_flight_complete(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    rig.put(5, 0, 4096)?;
    let memory = rig.plain(4096);
    for flags in [0, FD | FD_FIXED] {
        memory.write(&vec![0; 4096]);
        rig.push(&read(&memory, 0).user_data(1))?;
        assert_eq!(rig.ring.submit()?, 1);
        // 0 where a worker of the kernel had it, for whose end the call waits.
        let answer = SyncCancel::of(1, flags).call(&rig);
        assert!([Err(libc::ENOENT), Ok(0)].contains(&answer), "{answer:?}");
        assert_eq!(sorted(rig.wait(1)?), [(1, 4096)]);
        pattern::check(5, 0, &memory.read());
    }
    Ok(())
}
