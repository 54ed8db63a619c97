//! The words of the rings: where they stand, also in memory of the program (`IORING_SETUP_NO_MMAP`), and what the
//! index array says.

use dmaring::abi::params::Params;
use io_uring::opcode;
use io_uring::squeue::Entry;

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::calls::{NOTHING, enter, word};
use crate::support::raw::{Memory, in_memory};
use crate::support::rig::Rig;

pub(super) const ALL: &[Case] = cases![
    the_words_of_the_rings_have_their_places,
    rings_may_stand_in_memory_of_the_program,
    memory_for_the_rings_is_checked,
    an_index_array_names_entries_in_any_order,
    an_index_that_names_no_entry_is_dropped_and_ends_its_batch,
];

const SUBMIT_ALL: u32 = 1 << 7;
const NO_MMAP: u32 = 1 << 14;
const NO_SQARRAY: u32 = 1 << 16;

fn nop(user_data: u64) -> Entry {
    opcode::Nop::new().build().user_data(user_data)
}

fn the_words_of_the_rings_have_their_places(bench: &Bench) -> Outcome {
    let plain = |sq_array| bench.ring(bench.builder(8).sq_array(sq_array)).map(|ring| ring.params());
    let large = |sq_array| bench.ring(bench.builder(8).sq_array(sq_array).cqe32()).map(|ring| ring.params());
    // The array stands behind the completion entries; for large ones the kernel doubles all before it.
    for (params, array) in [(plain(false)?, 0), (plain(true)?, 320), (large(false)?, 0), (large(true)?, 640)] {
        let (sq, cq) = (params.sq_off, params.cq_off);
        let words = [sq.head, sq.tail, sq.ring_mask, sq.ring_entries, sq.dropped, sq.flags, sq.array];
        assert_eq!(words, [0, 4, 16, 24, 32, 36, array]);
        let words = [cq.head, cq.tail, cq.ring_mask, cq.ring_entries, cq.flags, cq.overflow, cq.cqes];
        assert_eq!(words, [8, 12, 20, 28, 40, 44, 64]);
        assert_eq!((sq.user_addr, cq.user_addr), (0, 0), "they are the kernel's memory");
    }
    Ok(())
}

/// A ring of `entries` in memory of this process; that of both rings, and of the submission entries.
fn placed(bench: &Bench, entries: u32, sq_array: bool, flags: u32) -> Result<(Rig, Memory, Memory), Stop> {
    bench.since(6, 10)?;
    let without = if sq_array { 0 } else { NO_SQARRAY };
    let sizes = Params::layout(entries, 0, NO_MMAP | without | flags);
    let sizes = sizes.map_err(|errno| Stop::Fail(format!("no layout: errno {errno}")))?;
    let (rings, sqes) = (Memory::plain(sizes.rings_len()), Memory::plain(sizes.sqes_len()));
    let builder = bench.builder(entries).sq_array(sq_array).setup_flags(flags);
    let mut rig = bench.open(in_memory(builder, rings.address(), sqes.address()))?;
    rig.keep(rings.clone());
    rig.keep(sqes.clone());
    Ok((rig, rings, sqes))
}

fn rings_may_stand_in_memory_of_the_program(bench: &Bench) -> Outcome {
    for (entries, sq_array) in [(8, false), (8, true), (512, false), (512, true)] {
        let (mut rig, rings, sqes) = placed(bench, entries, sq_array, 0)?;
        let params = rig.ring.params();
        assert_eq!((params.cq_off.user_addr, params.sq_off.user_addr), (rings.address(), sqes.address()));
        assert_eq!(params.flags & NO_MMAP, NO_MMAP);
        let ring = |offset: u32| word(&rings, offset as usize);
        let (sq, cq) = (params.sq_off, params.cq_off);
        assert_eq!([ring(sq.ring_entries), ring(sq.ring_mask)], [entries, entries - 1]);
        assert_eq!([ring(cq.ring_entries), ring(cq.ring_mask)], [2 * entries, 2 * entries - 1]);
        for seed in 0..8 {
            rig.put(seed, 65536 * seed, 65536)?;
            rig.expect(seed, 65536 * seed, 65536)?;
        }
        // Round and round: the words count all that there ever was.
        let count = 3 * entries;
        assert_eq!(rig.all(&vec![nop(0); count as usize])?, vec![0; count as usize]);
        let total = 16 + count;
        assert_eq!([sq.head, sq.tail, cq.head, cq.tail].map(ring), [total; 4]);
        // An entry that is pushed stands in the program's memory at once, and its completion behind it.
        rig.push(&nop(0x0123_4567_89ab_cdef))?;
        let slot = sqes.part((total & (entries - 1)) as usize * 64, 64);
        assert_eq!(slot.part(32, 8).read(), 0x0123_4567_89ab_cdef_u64.to_ne_bytes());
        assert_eq!(rig.ring.submit_and_wait(1)?, 1);
        let done = rings.part(cq.cqes as usize + (total & (2 * entries - 1)) as usize * 16, 16);
        assert_eq!(done.part(0, 8).read(), 0x0123_4567_89ab_cdef_u64.to_ne_bytes());
        assert_eq!(rig.ready().len(), 1);
        // It stays when the ring goes.
        drop(rig);
        assert_eq!(word(&rings, cq.tail as usize), total + 1);
    }
    Ok(())
}

fn memory_for_the_rings_is_checked(bench: &Bench) -> Outcome {
    bench.since(6, 14)?;
    let memory = Memory::plain(65536);
    let (rings, sqes) = (memory.address(), memory.part(32768, 0).address());
    let open = |rings, sqes| {
        let ring = bench.ring(in_memory(bench.builder(8), rings, sqes));
        ring.map(drop).err().map_or(0, |error| error.errno())
    };
    for (rings, sqes, errno) in [
        (0, sqes, libc::EFAULT),
        (rings, 0, libc::EFAULT),
        (rings + 8, sqes, libc::EINVAL),
        (rings, sqes + 64, libc::EINVAL),
        (1 << 63, sqes, libc::EFAULT),
        (rings, 1 << 63, libc::EFAULT),
        // The rings come first.
        (0, sqes + 64, libc::EFAULT),
        (rings + 8, 0, libc::EINVAL),
    ] {
        assert_eq!(open(rings, sqes), errno, "{rings:#x}, {sqes:#x}");
    }
    memory.write(&vec![0; memory.len()]);
    assert_eq!(open(rings, sqes), 0);
    Ok(())
}

/// Writes the first words of the index array.
fn name(rig: &Rig, rings: &Memory, indices: &[u32]) {
    let bytes: Vec<u8> = indices.iter().flat_map(|index| index.to_ne_bytes()).collect();
    rings.part(rig.ring.params().sq_off.array as usize, bytes.len()).write(&bytes);
}

fn order(rig: &mut Rig) -> Vec<u64> {
    rig.ready().iter().map(|done| done.user_data).collect()
}

fn an_index_array_names_entries_in_any_order(bench: &Bench) -> Outcome {
    let (mut rig, rings, _) = placed(bench, 4, true, 0)?;
    for indices in [[2, 0, 3, 1], [1, 1, 1, 0], [3, 3, 3, 3]] {
        for i in 0..4 {
            rig.push(&nop(i))?;
        }
        name(&rig, &rings, &indices);
        assert_eq!(rig.ring.submit()?, 4);
        assert_eq!(order(&mut rig), indices.map(u64::from));
    }
    assert_eq!(rig.ring.submission().dropped(), 0);
    Ok(())
}

/// `io_get_sqe`; not even `SUBMIT_ALL` goes on behind it.
fn an_index_that_names_no_entry_is_dropped_and_ends_its_batch(bench: &Bench) -> Outcome {
    for flags in [0, SUBMIT_ALL] {
        let (mut rig, rings, _) = placed(bench, 4, true, flags)?;
        for i in 0..4 {
            rig.push(&nop(i))?;
        }
        name(&rig, &rings, &[2, 4, 0, u32::MAX]);
        for (submitted, head, dropped) in [(1, 2, 1), (1, 4, 2), (0, 4, 2)] {
            assert_eq!(enter(&rig.ring, 4, 0, 0, NOTHING), submitted, "it does not count as submitted");
            assert_eq!((word(&rings, 0), rig.ring.submission().dropped()), (head, dropped));
        }
        assert_eq!(order(&mut rig), [2, 0], "and completes nothing");
        for i in 0..2 {
            rig.push(&nop(10 + i))?;
        }
        name(&rig, &rings, &[1 << 31, 1]);
        assert_eq!(enter(&rig.ring, 2, 0, 0, NOTHING), 0);
        assert_eq!(enter(&rig.ring, 1, 0, 0, NOTHING), 1);
        assert_eq!((word(&rings, 0), rig.ring.submission().dropped()), (6, 3));
        assert_eq!(order(&mut rig), [11]);
    }
    Ok(())
}
