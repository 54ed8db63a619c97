//! Rings that are polled (`IORING_SETUP_IOPOLL`).

use io_uring::squeue::{Entry, Flags};
use io_uring::{opcode, types};

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::raw::edit;
use crate::support::rig::{FILE, Rig, expect_errno, read, write};

pub(super) const ALL: &[Case] = cases![
    a_polled_ring_does_nops,
    a_polled_ring_refuses_what_cannot_be_polled,
    commands_of_block_devices_are_not_polled_for,
    polled_transfers_are_done_where_the_device_can,
    polled_transfers_are_checked_as_others,
    polled_batches_end_with_what_cannot_be_polled,
    polling_may_be_hybrid,
];

const IOPOLL: u32 = 1;
const HYBRID_IOPOLL: u32 = 1 << 17;

fn polled(bench: &Bench) -> Result<Rig, Stop> {
    bench.open(bench.builder(8).setup_flags(IOPOLL))
}

/// The kernel's queues are not polled on the backends, and then it refuses a transfer when it is issued.
fn transferred(bench: &Bench, len: usize) -> i32 {
    if bench.is_device() { len as i32 } else { -libc::EOPNOTSUPP }
}

fn a_polled_ring_does_nops(bench: &Bench) -> Outcome {
    let mut rig = polled(bench)?;
    for _ in 0..20 {
        assert_eq!(rig.one(opcode::Nop::new().build())?, 0);
    }
    let nops: Vec<_> = (0..8).map(|_| opcode::Nop::new().build()).collect();
    assert_eq!(rig.all(&nops)?, [0; 8]);
    Ok(())
}

fn a_polled_ring_refuses_what_cannot_be_polled(bench: &Bench) -> Outcome {
    let mut rig = polled(bench)?;
    let timespec = types::Timespec::new();
    let path = c"/dev/null";
    let entries = [
        opcode::Fsync::new(FILE).build(),
        opcode::SyncFileRange::new(FILE, 0).build(),
        opcode::PollAdd::new(FILE, 1).build(),
        opcode::PollRemove::new(1).build(),
        opcode::Timeout::new(&raw const timespec).build(),
        opcode::TimeoutRemove::new(1).build(),
        opcode::AsyncCancel::new(1).build(),
        opcode::Fallocate::new(FILE, 4096).mode(3).build(),
        opcode::Fadvise::new(FILE, 4096, 0).build(),
        opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).build(),
        opcode::Close::new(types::Fd(-1)).build(),
    ];
    for entry in entries {
        let what = format!("{entry:?}");
        expect_errno(rig.one(entry)?, libc::EINVAL, &what);
    }
    // Before the file is looked for, and after flags that do not go together.
    expect_errno(rig.one(opcode::Fsync::new(types::Fixed(99)).build())?, libc::EINVAL, "fsync of no file");
    let selecting = opcode::Fsync::new(FILE).build().flags(Flags::BUFFER_SELECT);
    expect_errno(rig.one(selecting)?, libc::EOPNOTSUPP, "fsync that picks a buffer");
    assert_eq!(rig.one(opcode::Nop::new().build())?, 0);
    Ok(())
}

fn commands_of_block_devices_are_not_polled_for(bench: &Bench) -> Outcome {
    bench.since(6, 12)?;
    let mut rig = polled(bench)?;
    // A discard, and what no block device knows.
    for command in [0x1200u64, 0, u64::from(u32::MAX)] {
        let entry = edit(opcode::UringCmd16::new(FILE, command as u32).build(), |bytes| {
            bytes[16..24].copy_from_slice(&0u64.to_ne_bytes());
            bytes[48..56].copy_from_slice(&4096u64.to_ne_bytes());
        });
        expect_errno(rig.one(entry)?, libc::EOPNOTSUPP, "command of a block device");
    }
    Ok(())
}

fn polled_transfers_are_done_where_the_device_can(bench: &Bench) -> Outcome {
    let mut rig = polled(bench)?;
    let memory = rig.filled(1, 0, 8192);
    assert_eq!(rig.one(write(&memory, 0))?, transferred(bench, 8192));
    assert_eq!(rig.one(read(&memory, 0))?, transferred(bench, 8192));
    // Here the flag that ordinary rings refuse changes nothing.
    let hipri = opcode::Read::new(FILE, memory.ptr(), 8192).rw_flags(1).build();
    assert_eq!(rig.one(hipri)?, transferred(bench, 8192));
    let iovecs = rig.iovecs(&[memory.part(0, 4096).iovec(), memory.part(4096, 4096).iovec()]);
    assert_eq!(rig.one(opcode::Readv::new(FILE, iovecs, 2).build())?, transferred(bench, 8192));
    assert_eq!(rig.one(opcode::Writev::new(FILE, iovecs, 2).build())?, transferred(bench, 8192));
    if bench.is_device() {
        rig.expect(1, 0, 8192)?;
    }
    rig.register(&[&memory])?;
    assert_eq!(rig.one(opcode::ReadFixed::new(FILE, memory.ptr(), 8192, 0).build())?, transferred(bench, 8192));
    Ok(())
}

fn polled_transfers_are_checked_as_others(bench: &Bench) -> Outcome {
    let mut rig = polled(bench)?;
    let end = rig.size();
    let memory = rig.plain(4096);
    let bad_flags = opcode::Read::new(FILE, memory.ptr(), 4096).rw_flags(1 << 30).build();
    let selecting = opcode::Read::new(FILE, std::ptr::null_mut(), 512).build().flags(Flags::BUFFER_SELECT);
    let entries: [(Entry, i32); 7] = [
        (read(&memory, 1), -libc::EINVAL),
        (read(&memory, end), 0),
        (write(&memory, end), -libc::ENOSPC),
        (bad_flags, -libc::EOPNOTSUPP),
        (opcode::Read::new(types::Fixed(9), memory.ptr(), 512).build(), -libc::EBADF),
        (edit(read(&memory, 0), |bytes| bytes[2] = 7), -libc::EINVAL),
        (selecting, -libc::ENOBUFS),
    ];
    for (entry, res) in entries {
        let what = format!("{entry:?}");
        assert_eq!(rig.one(entry)?, res, "{what}");
    }
    Ok(())
}

fn polled_batches_end_with_what_cannot_be_polled(bench: &Bench) -> Outcome {
    batch(bench, IOPOLL)
}

fn polling_may_be_hybrid(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    batch(bench, IOPOLL | HYBRID_IOPOLL)
}

fn batch(bench: &Bench, flags: u32) -> Outcome {
    let mut rig = bench.open(bench.builder(8).setup_flags(flags))?;
    let memory = rig.plain(512);
    rig.push(&read(&memory, 0).user_data(1))?;
    rig.push(&opcode::Fsync::new(FILE).build().user_data(2))?;
    rig.push(&opcode::Nop::new().build().user_data(3))?;
    assert_eq!(rig.ring.submit()?, 2);
    assert_eq!(rig.ring.submit()?, 1);
    let mut done = rig.wait(3)?;
    done.sort_by_key(|done| done.user_data);
    let results: Vec<_> = done.iter().map(|done| (done.user_data, done.res)).collect();
    assert_eq!(results, [(1, transferred(bench, 512)), (2, -libc::EINVAL), (3, 0)]);
    Ok(())
}
