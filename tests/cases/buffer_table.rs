//! The table of registered buffers: parts that are replaced.

use io_uring::opcode;
use io_uring::squeue::Flags;

use super::cancel::sorted;
use super::file_table::SPARSE;
use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::control::{Table, Update, of_tags, register, register_at};
use crate::support::fields::{endless, nop};
use crate::support::pattern;
use crate::support::raw::Memory;
use crate::support::rig::{Rig, expect_errno, read_fixed};

pub(super) const ALL: &[Case] = cases![
    buffer_updates_replace_and_remove,
    buffer_updates_stop_at_a_bad_buffer_which_leaves_its_slot,
    buffer_updates_stay_inside_the_table,
    buffer_updates_with_bad_arguments_are_refused,
    buffer_updates_leave_reads_in_flight_alone,
    buffers_of_a_chain_are_looked_up_when_each_begins,
    buffer_tables_may_be_sparse,
    buffer_tables_with_bad_arguments_are_refused,
    buffer_tables_with_bad_buffers_are_refused_whole,
    buffer_tables_go_while_reads_are_in_flight,
];

pub(super) const REGISTER_BUFFERS: u32 = 0;
pub(super) const UNREGISTER_BUFFERS: u32 = 1;
pub(super) const BUFFERS2: u32 = 15;
pub(super) const BUFFERS_UPDATE: u32 = 16;
const BLOCK: usize = 4096;

/// An iovec that is not memory of a case.
pub(super) fn iovec(address: u64, len: usize) -> libc::iovec {
    libc::iovec { iov_base: address as *mut _, iov_len: len }
}

/// Leaves or makes a hole.
pub(super) fn hole() -> libc::iovec {
    iovec(0, 0)
}

/// Replaces buffers from `offset` on.
pub(super) fn update(rig: &Rig, offset: u32, iovecs: &[libc::iovec]) -> Result<u32, i32> {
    let array = Memory::of_iovecs(iovecs);
    let argument = Update { offset, data: array.address(), nr: iovecs.len() as u32, ..Update::default() };
    argument.register(&rig.ring, BUFFERS_UPDATE)
}

/// A ring with these buffers, each a part of memory that starts with a block's gap.
fn with_table(bench: &Bench, there: &[bool]) -> Result<(Rig, Vec<Memory>), Stop> {
    let mut rig = bench.rig(8)?;
    rig.put(3, 0, BLOCK)?;
    let memory = rig.plain((there.len() + 2) * BLOCK);
    // Two more than the table has.
    let parts: Vec<_> = (0..there.len() + 2).map(|i| memory.part(i * BLOCK, BLOCK)).collect();
    let iovecs = there.iter().zip(&parts).map(|(&there, part)| if there { part.iovec() } else { hole() });
    crate::support::raw::register_buffers(&rig.ring, &iovecs.collect::<Vec<_>>())?;
    Ok((rig, parts))
}

/// Whether buffer `index` is `memory`.
#[track_caller]
pub(super) fn is_at(rig: &mut Rig, index: u16, memory: &Memory) -> Result<bool, Stop> {
    memory.write(&vec![0; memory.len()]);
    let res = rig.one(read_fixed(memory, index, 0))?;
    if res == memory.len() as i32 {
        pattern::check(3, 0, &memory.read());
        return Ok(true);
    }
    expect_errno(res, libc::EFAULT, "not in the buffer");
    Ok(false)
}

/// Fails unless the table is of these parts.
#[track_caller]
fn expect_buffers(rig: &mut Rig, parts: &[Memory], table: &[Option<usize>]) -> Outcome {
    for (index, &there) in table.iter().enumerate() {
        for (part, memory) in parts.iter().enumerate() {
            assert_eq!(is_at(rig, index as u16, memory)?, there == Some(part), "buffer {index}, part {part}");
        }
    }
    Ok(())
}

fn buffer_updates_replace_and_remove(bench: &Bench) -> Outcome {
    let (mut rig, parts) = with_table(bench, &[true, false, true])?;
    expect_buffers(&mut rig, &parts, &[Some(0), None, Some(2)])?;
    assert_eq!(update(&rig, 1, &[parts[3].iovec()]), Ok(1));
    expect_buffers(&mut rig, &parts, &[Some(0), Some(3), Some(2)])?;
    assert_eq!(update(&rig, 0, &[hole(), parts[0].iovec(), parts[4].iovec()]), Ok(3));
    expect_buffers(&mut rig, &parts, &[None, Some(0), Some(4)])?;
    // The same memory twice, and holes that stay holes.
    assert_eq!(update(&rig, 0, &[hole(), parts[4].iovec()]), Ok(2));
    expect_buffers(&mut rig, &parts, &[None, Some(4), Some(4)])?;
    assert_eq!(update(&rig, 0, &[hole(); 3]), Ok(3));
    expect_buffers(&mut rig, &parts, &[None; 3])
}

fn buffer_updates_stop_at_a_bad_buffer_which_leaves_its_slot(bench: &Bench) -> Outcome {
    let (mut rig, parts) = with_table(bench, &[true; 3])?;
    let at = parts[0].address();
    let bad = [
        (iovec(0, 1), libc::EFAULT),
        (iovec(at, 0), libc::EFAULT),
        (iovec(at, (1 << 30) + 1), libc::EFAULT),
        (iovec(8, BLOCK), libc::EFAULT),
        (iovec(u64::MAX - 4095, BLOCK), libc::EOVERFLOW),
        (iovec(at, usize::MAX), libc::EINVAL),
        (iovec(0, usize::MAX), libc::EINVAL),
        (iovec(at, 1 << 63), libc::EINVAL),
        (iovec(at, (1 << 63) - 1), libc::EFAULT),
    ];
    for (bad, errno) in bad {
        assert_eq!(update(&rig, 0, &[bad, hole()]), Err(errno), "{bad:?}");
        expect_buffers(&mut rig, &parts, &[Some(0), Some(1), Some(2)])?;
        assert_eq!(update(&rig, 0, &[parts[3].iovec(), bad, hole()]), Ok(1), "{bad:?}");
        expect_buffers(&mut rig, &parts, &[Some(3), Some(1), Some(2)])?;
        assert_eq!(update(&rig, 0, &[parts[0].iovec()]), Ok(1));
    }
    Ok(())
}

fn buffer_updates_stay_inside_the_table(bench: &Bench) -> Outcome {
    let (mut rig, parts) = with_table(bench, &[true; 3])?;
    for (offset, nr) in [(3, 1), (2, 2), (0, 4), (100, 1), (u32::MAX - 1, 1)] {
        assert_eq!(update(&rig, offset, &vec![hole(); nr]), Err(libc::EINVAL), "{nr} at {offset}");
    }
    for (offset, nr) in [(u32::MAX, 1), (u32::MAX - 1, 2)] {
        assert_eq!(update(&rig, offset, &vec![hole(); nr]), Err(libc::EOVERFLOW), "{nr} at {offset}");
    }
    expect_buffers(&mut rig, &parts, &[Some(0), Some(1), Some(2)])?;
    assert_eq!(register_at(&rig.ring, UNREGISTER_BUFFERS, 0, 0), Ok(0));
    assert_eq!(update(&rig, 0, &[hole()]), Err(libc::ENXIO));
    assert_eq!(update(&rig, 100, &[iovec(0, 1)]), Err(libc::ENXIO));
    assert_eq!(update(&rig, u32::MAX, &[hole()]), Err(libc::EOVERFLOW), "even without a table");
    Ok(())
}

fn buffer_updates_with_bad_arguments_are_refused(bench: &Bench) -> Outcome {
    let (mut rig, parts) = with_table(bench, &[true; 3])?;
    let array = Memory::of_iovecs(&[hole(); 4]);
    let good = Update { data: array.address(), nr: 1, ..Update::default() };
    for size in [0, 1, 16, 31, 33, 64, u32::MAX] {
        assert_eq!(register(&rig.ring, BUFFERS_UPDATE, &good.bytes(), size), Err(libc::EINVAL), "{size} bytes");
        assert_eq!(register_at(&rig.ring, BUFFERS_UPDATE, 8, size), Err(libc::EINVAL), "{size} bytes");
    }
    for address in [0, 8, 1 << 63] {
        assert_eq!(register_at(&rig.ring, BUFFERS_UPDATE, address, 32), Err(libc::EFAULT), "{address:#x}");
    }
    let rows = [
        (Update { nr: 0, ..good }, libc::EINVAL),
        (Update { resv: 1, ..good }, libc::EINVAL),
        (Update { resv2: 1, ..good }, libc::EINVAL),
        (Update { nr: 4, ..good }, libc::EINVAL),
        (Update { offset: u32::MAX, ..good }, libc::EOVERFLOW),
        (Update { offset: u32::MAX, resv2: 1, ..good }, libc::EINVAL),
        (Update { data: 0, ..good }, libc::EFAULT),
        (Update { data: 8, ..good }, libc::EFAULT),
        (Update { tags: 8, ..good }, libc::EFAULT),
        (Update { data: 8, offset: 3, ..good }, libc::EINVAL),
    ];
    for (argument, expected) in rows {
        assert_eq!(argument.register(&rig.ring, BUFFERS_UPDATE), Err(expected), "{argument:?}");
    }
    // A hole has no tag; but the buffer is looked at first.
    let tags = of_tags(&[5]);
    assert_eq!(Update { tags: tags.address(), ..good }.register(&rig.ring, BUFFERS_UPDATE), Err(libc::EINVAL));
    let bad = Memory::of_iovecs(&[iovec(0, 1)]);
    let tagged = Update { data: bad.address(), tags: tags.address(), ..good };
    assert_eq!(tagged.register(&rig.ring, BUFFERS_UPDATE), Err(libc::EFAULT));
    expect_buffers(&mut rig, &parts, &[Some(0), Some(1), Some(2)])
}

fn buffer_updates_leave_reads_in_flight_alone(bench: &Bench) -> Outcome {
    let (mut rig, parts) = with_table(bench, &[true; 2])?;
    let (first, second) = (&parts[0], &parts[2]);
    for _ in 0..50 {
        first.write(&vec![0; BLOCK]);
        second.write(&vec![0; BLOCK]);
        rig.push(&read_fixed(first, 0, 0).user_data(1))?;
        assert_eq!(rig.ring.submit()?, 1);
        assert_eq!(update(&rig, 0, &[second.iovec()]), Ok(1));
        rig.push(&read_fixed(second, 0, 0).user_data(2))?;
        assert_eq!(rig.ring.submit()?, 1);
        assert_eq!(update(&rig, 0, &[first.iovec()]), Ok(1));
        assert_eq!(sorted(rig.wait(2)?), [(1, 4096), (2, 4096)]);
        pattern::check(3, 0, &first.read());
        pattern::check(3, 0, &second.read());
    }
    Ok(())
}

fn buffers_of_a_chain_are_looked_up_when_each_begins(bench: &Bench) -> Outcome {
    bench.since(6, 15)?; // looked up when it is prepared before
    let (mut rig, parts) = with_table(bench, &[true; 2])?;
    for (now, res) in [(parts[2].iovec(), 4096), (parts[3].iovec(), -libc::EFAULT), (hole(), -libc::EFAULT)] {
        assert_eq!(update(&rig, 0, &[parts[0].iovec()]), Ok(1));
        parts[2].write(&vec![0; BLOCK]);
        let head = endless(&mut rig, 7).flags(Flags::IO_HARDLINK);
        rig.push(&head)?;
        rig.push(&read_fixed(&parts[2], 0, 0).user_data(2))?;
        assert_eq!(rig.ring.submit()?, 2);
        assert_eq!(update(&rig, 0, &[now]), Ok(1));
        rig.push(&opcode::AsyncCancel::new(7).build().user_data(8))?;
        assert_eq!(sorted(rig.wait(3)?), [(2, res), (7, -libc::ECANCELED), (8, 0)]);
        if res > 0 {
            pattern::check(3, 0, &parts[2].read());
        }
    }
    Ok(())
}

fn buffer_tables_may_be_sparse(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    rig.put(3, 0, BLOCK)?;
    let memory = rig.plain(BLOCK);
    let tags = of_tags(&[0; 4]);
    let sparse = Table { nr: 4, flags: SPARSE, ..Table::default() };
    // Without the flag, no array is the same.
    for table in [sparse, Table { flags: 0, ..sparse }, Table { tags: tags.address(), ..sparse }] {
        assert_eq!(table.register(&rig.ring, BUFFERS2), Ok(0), "{table:?}");
        for index in 0..5 {
            assert!(!is_at(&mut rig, index, &memory)?);
        }
        assert_eq!(update(&rig, 3, &[memory.iovec()]), Ok(1));
        assert!(is_at(&mut rig, 3, &memory)? && !is_at(&mut rig, 2, &memory)?);
        assert_eq!(update(&rig, 4, &[memory.iovec()]), Err(libc::EINVAL), "no table grows");
        assert_eq!(register_at(&rig.ring, UNREGISTER_BUFFERS, 0, 0), Ok(0));
    }
    let most = Table { nr: 1 << 14, flags: SPARSE, ..Table::default() };
    assert_eq!(most.register(&rig.ring, BUFFERS2), Ok(0));
    assert_eq!(update(&rig, (1 << 14) - 1, &[memory.iovec()]), Ok(1));
    assert!(is_at(&mut rig, (1 << 14) - 1, &memory)?);
    Ok(())
}

fn buffer_tables_with_bad_arguments_are_refused(bench: &Bench) -> Outcome {
    let (mut rig, parts) = with_table(bench, &[true])?;
    let array = Memory::of_iovecs(&[parts[0].iovec(), hole()]);
    let good = Table { nr: 2, data: array.address(), ..Table::default() };
    let invalid = [
        Table { nr: 0, ..good },
        Table { resv2: 1, ..good },
        Table { flags: 2, ..good },
        Table { flags: 1 << 31, ..good },
        Table { flags: SPARSE, ..good },
    ];
    for registered in [true, false] {
        // The argument comes before the table that is there, which comes before what the argument names.
        let or_busy = |errno: i32| Err(if registered { libc::EBUSY } else { errno });
        for table in invalid {
            assert_eq!(table.register(&rig.ring, BUFFERS2), Err(libc::EINVAL), "{table:?}");
        }
        for size in [0, 16, 31, 33, 64, u32::MAX] {
            assert_eq!(register(&rig.ring, BUFFERS2, &good.bytes(), size), Err(libc::EINVAL), "{size} bytes");
            assert_eq!(register_at(&rig.ring, BUFFERS2, 8, size), Err(libc::EINVAL), "{size} bytes");
        }
        for address in [0, 8, 1 << 63] {
            assert_eq!(register_at(&rig.ring, BUFFERS2, address, 32), Err(libc::EFAULT), "{address:#x}");
        }
        assert_eq!(register_at(&rig.ring, REGISTER_BUFFERS, 0, 1), Err(libc::EFAULT), "no array");
        assert_eq!(register_at(&rig.ring, REGISTER_BUFFERS, 0, 0), Err(libc::EFAULT), "no array of none");
        assert_eq!(register_at(&rig.ring, REGISTER_BUFFERS, array.address(), 0), or_busy(libc::EINVAL), "none");
        assert_eq!(register_at(&rig.ring, REGISTER_BUFFERS, 8, 1), or_busy(libc::EFAULT));
        assert_eq!(register_at(&rig.ring, REGISTER_BUFFERS, 8, (1 << 14) + 1), or_busy(libc::EINVAL), "too many");
        let many = Table { nr: (1 << 14) + 1, flags: SPARSE, ..Table::default() };
        assert_eq!(many.register(&rig.ring, BUFFERS2), or_busy(libc::EINVAL), "too many");
        assert_eq!(Table { data: 8, ..good }.register(&rig.ring, BUFFERS2), or_busy(libc::EFAULT));
        assert_eq!(Table { tags: 8, ..good }.register(&rig.ring, BUFFERS2), or_busy(libc::EFAULT));
        for (address, nr) in [(0, 1), (array.address(), 0), (array.address(), 1)] {
            assert_eq!(register_at(&rig.ring, UNREGISTER_BUFFERS, address, nr), Err(libc::EINVAL));
        }
        let gone = register_at(&rig.ring, UNREGISTER_BUFFERS, 0, 0);
        assert_eq!(gone, if registered { Ok(0) } else { Err(libc::ENXIO) });
    }
    let tags = of_tags(&[5, 6]);
    assert_eq!(Table { tags: tags.address(), ..good }.register(&rig.ring, BUFFERS2), Err(libc::EINVAL), "a hole's tag");
    let sparse = Table { nr: 2, flags: SPARSE, tags: tags.address(), ..Table::default() };
    assert_eq!(sparse.register(&rig.ring, BUFFERS2), Err(libc::EINVAL), "a hole's tag");
    assert_eq!(good.register(&rig.ring, BUFFERS2), Ok(0), "none of them left anything behind");
    assert!(is_at(&mut rig, 0, &parts[0])? && !is_at(&mut rig, 1, &parts[0])?);
    assert_eq!(rig.one(nop(0))?, 0, "nor posted anything");
    Ok(())
}

fn buffer_tables_with_bad_buffers_are_refused_whole(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(BLOCK);
    let at = memory.address();
    let tags = of_tags(&[5, 6]);
    let bad = [
        (iovec(0, 1), libc::EFAULT),
        (iovec(at, 0), libc::EFAULT),
        (iovec(at, (1 << 30) + 1), libc::EFAULT),
        (iovec(8, BLOCK), libc::EFAULT),
        (iovec(u64::MAX - 4095, BLOCK), libc::EOVERFLOW),
        (iovec(u64::MAX - 8191, 1 << 30), libc::EOVERFLOW),
        (iovec(1 << 63, BLOCK), libc::EFAULT),
        (iovec(at, usize::MAX), libc::EINVAL),
        (iovec(0, usize::MAX), libc::EINVAL),
        (iovec(at, 1 << 63), libc::EINVAL),
        (iovec(at, (1 << 63) - 1), libc::EFAULT),
    ];
    for (bad, errno) in bad {
        let array = Memory::of_iovecs(&[memory.iovec(), bad]);
        assert_eq!(register_at(&rig.ring, REGISTER_BUFFERS, array.address(), 2), Err(errno), "{bad:?}");
        let table = Table { nr: 2, data: array.address(), tags: tags.address(), ..Table::default() };
        assert_eq!(table.register(&rig.ring, BUFFERS2), Err(errno), "{bad:?}");
        assert_eq!(register_at(&rig.ring, UNREGISTER_BUFFERS, 0, 0), Err(libc::ENXIO), "the first is gone");
    }
    assert_eq!(rig.one(nop(0))?, 0, "without a word of its tag");
    Ok(())
}

fn buffer_tables_go_while_reads_are_in_flight(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    rig.put(3, 0, BLOCK)?;
    let memory = rig.plain(8 * BLOCK);
    for _ in 0..20 {
        memory.write(&vec![0; 8 * BLOCK]);
        rig.register(&[&memory])?;
        for i in 0..8 {
            rig.push(&read_fixed(&memory.part(i * BLOCK, BLOCK), 0, 0).user_data(i as u64))?;
        }
        assert_eq!(rig.ring.submit()?, 8);
        assert_eq!(register_at(&rig.ring, UNREGISTER_BUFFERS, 0, 0), Ok(0));
        assert!(rig.wait(8)?.iter().all(|done| done.res == 4096));
        for i in 0..8 {
            pattern::check(3, 0, &memory.part(i * BLOCK, BLOCK).read());
        }
    }
    Ok(())
}
