//! The block layer's discard (`BLOCK_URING_CMD_DISCARD`), which small entries are enough for.

use io_uring::opcode;
use io_uring::squeue::Flags;

use crate::case::{Bench, Case, Outcome, cases};
use crate::support::fields::{Fields, nop};
use crate::support::pattern;
use crate::support::rig::{expect_errno, read, write};
use crate::support::script::Flagged;

pub(super) const ALL: &[Case] = cases![
    discarding_spares_what_is_around_it,
    discards_out_of_bounds_or_unaligned_are_invalid,
    commands_that_a_block_device_does_not_know_are_invalid,
    a_discard_names_no_registered_buffer,
    discards_take_their_turn,
];

const DISCARD: u64 = 0x1200;

fn discard(offset: u64, len: u64) -> Fields {
    let flags = Flags::FIXED_FILE.bits();
    Fields { opcode: opcode::UringCmd16::CODE, flags, off: DISCARD, addr: offset, addr3: len, ..Fields::default() }
}

fn discarding_spares_what_is_around_it(bench: &Bench) -> Outcome {
    bench.since(6, 12)?;
    let mut rig = bench.rig(4)?;
    let window = 2 << 20;
    for (offset, len) in [(512, 512), (4096, 4096), (3584, 9216), (512 << 10, 1 << 20), (512, window - 1024)] {
        rig.put(1, 0, window as usize)?;
        assert_eq!(rig.one(discard(offset, len).entry())?, 0, "{len} at {offset}");
        rig.expect(1, 0, offset as usize)?;
        rig.expect(1, offset + len, (window - offset - len) as usize)?;
        // What stands there now nobody says, but it can be read, and written anew.
        rig.get(offset, len as usize)?;
        rig.put(2, offset, len as usize)?;
        rig.expect(2, offset, len as usize)?;
    }
    let size = rig.size();
    for (offset, len) in [(size - 512, 512), (0, size)] {
        assert_eq!(rig.one(discard(offset, len).entry())?, 0, "{len} at {offset}");
    }
    Ok(())
}

fn discards_out_of_bounds_or_unaligned_are_invalid(bench: &Bench) -> Outcome {
    bench.since(6, 12)?;
    let mut rig = bench.rig(4)?;
    rig.put(3, 0, 8192)?;
    let size = rig.size();
    for (offset, len) in [
        (0, 0),
        (1, 512),
        (0, 513),
        (256, 256),
        (size, 512),
        (size - 512, 1024),
        (u64::MAX - 511, 512),
        (0, 1 << 63),
        (0, u64::MAX - 511),
    ] {
        // Found when it is issued.
        rig.push(&Fields { user_data: 1, ..discard(offset, len) }.entry())?;
        rig.push(&nop(2))?;
        assert_eq!(rig.ring.submit()?, 2, "{len} at {offset}");
        let done = rig.wait(2)?;
        let bad = done.iter().find(|done| done.user_data == 1).map_or(0, |done| done.res);
        expect_errno(bad, libc::EINVAL, &format!("{len} at {offset}"));
    }
    let closed = Fields { fd: -1, flags: 0, ..discard(0, 512) };
    expect_errno(rig.one(closed.entry())?, libc::EBADF, "no such file");
    rig.expect(3, 0, 8192)
}

fn commands_that_a_block_device_does_not_know_are_invalid(bench: &Bench) -> Outcome {
    bench.since(6, 12)?;
    let mut rig = bench.rig(4)?;
    rig.put(4, 0, 8192)?;
    let good = discard(0, 512);
    for command in [0, 1, DISCARD + 1, u64::from(u32::MAX)] {
        for bad in [Fields { off: command, ..good }, Fields { off: command, addr: 1, ..good }] {
            expect_errno(rig.one(bad.entry())?, libc::EINVAL, &format!("command {command:#x}"));
        }
    }
    for bad in [
        Fields { ioprio: 1 << 13, ..good },
        Fields { len: 1, ..good },
        Fields { op_flags: 4, ..good },
        Fields { file_index: 1, ..good },
        // The upper half of the word that names the command.
        Fields { off: 1 << 32 | DISCARD, ..good },
    ] {
        expect_errno(rig.one(bad.entry())?, libc::EINVAL, &format!("{bad:?}"));
    }
    rig.expect(4, 0, 8192)
}

/// Before 6.15 the buffer was looked up first.
fn a_discard_names_no_registered_buffer(bench: &Bench) -> Outcome {
    bench.since(6, 15)?;
    let mut rig = bench.rig(4)?;
    expect_errno(rig.one(Fields { op_flags: 1, ..discard(0, 512) }.entry())?, libc::EINVAL, "FIXED");
    Ok(())
}

fn discards_take_their_turn(bench: &Bench) -> Outcome {
    bench.since(6, 12)?;
    let mut rig = bench.rig(8)?;
    let (first, second, into) = (rig.filled(5, 0, 65536), rig.filled(6, 0, 65536), rig.plain(65536));
    let gone = || discard(0, 65536).entry();
    for _ in 0..5 {
        // The write behind the discard is what remains.
        let chain = [write(&first, 0).link(), gone().link(), write(&second, 0).link(), read(&into, 0)];
        assert_eq!(rig.results(&chain)?, [65536, 0, 65536, 65536]);
        pattern::check(6, 0, &into.read());
        let batch = [write(&second, 0), gone().drain(), write(&first, 0).drain(), read(&into, 0).drain()];
        assert_eq!(rig.results(&batch)?, [65536, 0, 65536, 65536]);
        pattern::check(5, 0, &into.read());
    }
    // Refused, it breaks its chain.
    let bad = discard(1, 512).entry();
    assert_eq!(rig.results(&[bad.clone().link(), read(&into, 0)])?, [-libc::EINVAL, -libc::ECANCELED]);
    assert_eq!(rig.results(&[bad.hard(), read(&into, 0)])?, [-libc::EINVAL, 65536]);
    assert_eq!(rig.send(0, &[gone().skip().link(), read(&into, 0)])?, 2);
    assert_eq!(rig.take(1)?, [(1, 65536)]);
    rig.works()
}
