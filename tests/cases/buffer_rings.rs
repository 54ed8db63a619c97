//! Rings of buffers, which reads pick from.

use io_uring::opcode;
use io_uring::squeue::Flags;

use crate::case::{Bench, Case, Outcome, cases};
use crate::support::buffer_ring::{
    BUF_MORE, BufferRing, INC, MMAP, buf_reg, buffer_of, head, read_into, register_ring, submit_all, submit_one,
    unregister_ring, used,
};
use crate::support::calls::{
    REGISTER_PBUF_RING, REGISTER_PBUF_STATUS, UNMAPPED, UNREGISTER_PBUF_RING, register, register_bytes, word,
};
use crate::support::pattern;
use crate::support::raw::{Memory, edit};
use crate::support::rig::{FILE, Rig};

pub(super) const ALL: &[Case] = cases![
    a_buffer_ring_is_checked_when_it_is_registered,
    the_first_thing_wrong_with_a_buffer_ring_counts,
    a_buffer_ring_fits_its_memory,
    a_buffer_ring_may_be_the_kernels_memory,
    unregistering_and_asking_check_their_arguments,
    the_status_says_what_is_used,
    reads_pick_buffers_of_a_ring_in_their_order,
    reads_that_fail_use_up_a_buffer_of_a_ring,
    buffers_of_a_ring_at_bad_addresses_are_used_up,
    a_buffer_of_no_length_moves_nothing,
    a_tail_that_lies_is_believed,
    a_tail_at_registration_counts,
    indices_of_a_buffer_ring_wrap,
    groups_of_one_entry_work,
    chains_and_asynchronous_reads_pick_from_a_ring,
];

const GROUP: u16 = 1;
const OK: i32 = 4096;
const EINVAL: i32 = -libc::EINVAL;
const ENOBUFS: i32 = -libc::ENOBUFS;
const EFAULT: i32 = -libc::EFAULT;

/// A ring of eight pages, numbered from `id` on.
fn full(rig: &mut Rig, id: u16) -> (BufferRing, Memory) {
    let mut ring = BufferRing::new(rig, GROUP, 8, 0);
    let memory = rig.plain(8 * 4096);
    refill(&mut ring, &memory, id);
    (ring, memory)
}

fn refill(ring: &mut BufferRing, memory: &Memory, id: u16) {
    for i in 0..8 {
        ring.add(&memory.part(usize::from(i) * 4096, 4096), id + i);
    }
}

fn a_buffer_ring_is_checked_when_it_is_registered(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    let at = memory.address();
    let with = |entries, flags| register_ring(&rig, &buf_reg(at, entries, GROUP, flags));
    for entries in [0, 3, 12, 65536, 1 << 31] {
        assert_eq!(with(entries, 0), EINVAL, "{entries} entries");
    }
    for flags in [4, 8, 1 << 15] {
        assert_eq!(with(8, flags), EINVAL, "flags {flags:#x}");
    }
    for byte in 16..40 {
        let mut argument = buf_reg(at, 8, GROUP, 0);
        argument[byte] = 1;
        assert_eq!(register_ring(&rig, &argument), EINVAL, "byte {byte}");
    }
    let addressed = |address| register_ring(&rig, &buf_reg(address, 8, GROUP, 0));
    assert_eq!(addressed(at + 16), EINVAL, "not at a page");
    for address in [0, UNMAPPED, 1 << 63] {
        assert_eq!(addressed(address), EFAULT, "{address:#x}");
    }
    let good = buf_reg(at, 8, GROUP, 0);
    for count in [0, 2] {
        assert_eq!(register_bytes(&rig.ring, REGISTER_PBUF_RING, &good, count), EINVAL, "{count} arguments");
    }
    assert_eq!(register(&rig.ring, REGISTER_PBUF_RING, 0, 1), EINVAL);
    assert_eq!(register(&rig.ring, REGISTER_PBUF_RING, UNMAPPED, 1), EFAULT);
    assert_eq!(head(&rig, GROUP.into()), -libc::ENOENT, "none of them has made the group");
    assert_eq!(register_ring(&rig, &good), 0);
    assert_eq!(register_ring(&rig, &good), -libc::EEXIST);
    Ok(())
}

fn the_first_thing_wrong_with_a_buffer_ring_counts(bench: &Bench) -> Outcome {
    bench.since(6, 14)?;
    let mut rig = bench.rig(4)?;
    let ring = BufferRing::new(&mut rig, GROUP, 8, 0);
    let at = ring.memory.address();
    // The group comes after entries and flags, and before the memory.
    assert_eq!(register_ring(&rig, &buf_reg(at, 3, GROUP, 0)), EINVAL);
    assert_eq!(register_ring(&rig, &buf_reg(at, 8, GROUP, 4)), EINVAL);
    for address in [0, at + 1, UNMAPPED] {
        assert_eq!(register_ring(&rig, &buf_reg(address, 8, GROUP, 0)), -libc::EEXIST, "{address:#x}");
    }
    Ok(())
}

fn a_buffer_ring_fits_its_memory(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    // Nothing is mapped behind the last page that an address may have.
    let last = (1u64 << 47) - 4096;
    assert_eq!(register_ring(&rig, &buf_reg(last, 512, 5, 0)), EFAULT);
    let memory = rig.plain(32768 * 16);
    for (group, entries) in [(2, 1), (3, 512), (4, 32768)] {
        assert_eq!(register_ring(&rig, &buf_reg(memory.address(), entries, group, 0)), 0, "{entries} entries");
    }
    for group in [2, 3, 4] {
        assert_eq!(unregister_ring(&rig, group), 0);
    }
    Ok(())
}

fn a_buffer_ring_may_be_the_kernels_memory(bench: &Bench) -> Outcome {
    bench.since(6, 14)?;
    let mut rig = bench.rig(4)?;
    // The address does not count then.
    for (group, address, flags) in [(1, 0, MMAP), (2, 17, MMAP), (3, UNMAPPED, MMAP), (4, 0, MMAP | INC)] {
        assert_eq!(register_ring(&rig, &buf_reg(address, 8, group, flags)), 0, "{address:#x}");
        assert_eq!(head(&rig, group.into()), 0);
        assert_eq!(submit_one(&mut rig, &read_into(group, 0, 0))?, (ENOBUFS, 0));
        assert_eq!(unregister_ring(&rig, group), 0);
    }
    assert_eq!(register_ring(&rig, &buf_reg(0, 3, 1, MMAP)), EINVAL);
    Ok(())
}

fn unregistering_and_asking_check_their_arguments(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let enoent = -libc::ENOENT;
    assert_eq!((unregister_ring(&rig, 77), head(&rig, 77)), (enoent, enoent));
    for opcode in [UNREGISTER_PBUF_RING, REGISTER_PBUF_STATUS] {
        let call = |address, count| register(&rig.ring, opcode, address, count);
        let memory = Memory::plain(40);
        assert_eq!([call(memory.address(), 0), call(memory.address(), 2), call(0, 1)], [EINVAL; 3]);
        assert_eq!(call(UNMAPPED, 1), EFAULT);
    }
    let ring = BufferRing::new(&mut rig, GROUP, 8, 0);
    let unregister = |argument: &[u8; 40]| register_bytes(&rig.ring, UNREGISTER_PBUF_RING, argument, 1);
    for group in [GROUP, 77] {
        assert_eq!(unregister(&buf_reg(0, 0, group, 1)), EINVAL, "flags come before the group");
        let mut argument = buf_reg(0, 0, group, 0);
        argument[39] = 1;
        assert_eq!(unregister(&argument), EINVAL, "as does what is reserved");
    }
    // The status takes a group of 32 bits, and reserved words behind the head.
    assert_eq!(head(&rig, 65536 + u32::from(GROUP)), enoent);
    for byte in [8, 39] {
        let argument = Memory::plain(40);
        argument.part(byte, 1).write(&[1]);
        assert_eq!(register(&rig.ring, REGISTER_PBUF_STATUS, argument.address(), 1), EINVAL, "byte {byte}");
    }
    assert_eq!(unregister(&buf_reg(5, 5, GROUP, 0)), 0, "address and entries do not count");
    assert_eq!((ring.head(&rig), unregister_ring(&rig, GROUP)), (enoent, enoent));
    Ok(())
}

fn the_status_says_what_is_used(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let (ring, _memory) = full(&mut rig, 0);
    for used in 0..8 {
        let argument = Memory::plain(40);
        argument.write(&[u32::from(GROUP).to_ne_bytes(), 99u32.to_ne_bytes()].concat());
        assert_eq!(register(&rig.ring, REGISTER_PBUF_STATUS, argument.address(), 1), 0);
        assert_eq!((word(&argument, 0), word(&argument, 4)), (GROUP.into(), used), "what stood there is no matter");
        assert_eq!(submit_one(&mut rig, &read_into(GROUP, 512, 0))?.0, 512);
    }
    assert_eq!(ring.head(&rig), 8);
    Ok(())
}

fn reads_pick_buffers_of_a_ring_in_their_order(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(16)?;
    rig.put(1, 0, 8 * 4096)?;
    let mut ring = BufferRing::new(&mut rig, GROUP, 8, 0);
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 512, 0))?, (ENOBUFS, 0), "an empty one");
    let memory = rig.plain(8 * 4096);
    refill(&mut ring, &memory, 100);
    let lens = [(4096, OK), (0, OK), (65536, OK), (u32::MAX, OK), (512, 512)];
    let reads: Vec<_> = (0..).zip(lens).map(|(i, (len, _))| read_into(GROUP, len, i * 4096)).collect();
    let done = submit_all(&mut rig, &reads)?;
    for (i, (_, res)) in lens.into_iter().enumerate() {
        assert_eq!(done[i], (i as u64, res, used(100 + i as u16)));
    }
    pattern::check(1, 0, &memory.part(0, 4 * 4096 + 512).read());
    assert_eq!(ring.entry(0, &memory), (0, 4096), "entries stay as they are");
    let iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 512 };
    let readv = opcode::Readv::new(FILE, rig.iovecs(&[iovec]), 1).buf_group(GROUP).build();
    assert_eq!(submit_one(&mut rig, &readv.flags(Flags::BUFFER_SELECT))?, (512, used(105)));
    assert_eq!(ring.head(&rig), 6);
    Ok(())
}

fn reads_that_fail_use_up_a_buffer_of_a_ring(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let end = rig.size();
    let (mut ring, memory) = full(&mut rig, 0);
    let flags =
        |flags: u32| edit(read_into(GROUP, 512, 0), |bytes| bytes[28..32].copy_from_slice(&flags.to_ne_bytes()));
    let entries = [
        (read_into(GROUP, 512, 1), EINVAL),
        (read_into(GROUP, 100, 0), EINVAL),
        (read_into(GROUP, 512, u64::MAX - 1), EINVAL),
        (flags(1 << 30), -libc::EOPNOTSUPP),
        (flags(1), EINVAL),
        (read_into(GROUP, 4096, end), 0),
        (read_into(GROUP, 4096, end - 512), 512),
        (read_into(GROUP, 512, 3).flags(Flags::SKIP_SUCCESS), EINVAL),
    ];
    for (id, (entry, res)) in entries.into_iter().enumerate() {
        assert_eq!(submit_one(&mut rig, &entry)?, (res, used(id as u16)), "{entry:?}");
        assert_eq!(ring.head(&rig), 1 + id as i32);
    }
    // Not those that are refused before they are issued.
    refill(&mut ring, &memory, 8);
    let refused = edit(read_into(GROUP, 512, 0), |bytes| bytes[4] = 99);
    assert_eq!(submit_one(&mut rig, &refused)?, (-libc::EBADF, 0));
    assert_eq!(ring.head(&rig), 8);
    Ok(())
}

fn buffers_of_a_ring_at_bad_addresses_are_used_up(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let mut ring = BufferRing::new(&mut rig, GROUP, 8, 0);
    let memory = rig.plain(8192);
    let buffers = [(UNMAPPED, EFAULT), (0, ENOBUFS), (memory.address() + 1, EINVAL), (1 << 63, EFAULT)];
    for (id, (address, errno)) in (1..).zip(buffers) {
        ring.add_raw(address, 4096, id);
        assert_eq!(submit_one(&mut rig, &read_into(GROUP, 0, 0))?, (errno, used(id)), "{address:#x}");
        assert_eq!(ring.head(&rig), i32::from(id));
    }
    Ok(())
}

fn a_buffer_of_no_length_moves_nothing(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let mut ring = BufferRing::new(&mut rig, GROUP, 8, 0);
    let memory = rig.plain(4096);
    // An offset inside a block is no matter then.
    for (id, (len, offset)) in (0..).zip([(0, 0), (512, 0), (512, 1)]) {
        ring.add_raw(memory.address(), 0, id);
        assert_eq!(submit_one(&mut rig, &read_into(GROUP, len, offset))?, (0, used(id)));
    }
    assert_eq!(ring.head(&rig), 3);
    Ok(())
}

fn a_tail_that_lies_is_believed(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(16)?;
    let (mut ring, _memory) = full(&mut rig, 0);
    // Only head and tail being the same means empty: entries are used again and again.
    for (tail, from) in [(20, 0), (3, 12)] {
        ring.set_tail(tail);
        let done = submit_all(&mut rig, &vec![read_into(GROUP, 512, 0); 12])?;
        for (i, done) in (from..).zip(done) {
            assert_eq!((done.1, done.2), (512, used(i % 8)));
        }
    }
    assert_eq!(ring.head(&rig), 24);
    Ok(())
}

fn a_tail_at_registration_counts(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let (mut ring, memory) = full(&mut rig, 0);
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 0, 0))?, (OK, used(0)));
    assert_eq!(unregister_ring(&rig, GROUP), 0);
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 0, 0))?, (ENOBUFS, 0));
    let argument = buf_reg(ring.memory.address(), 8, GROUP, 0);
    assert_eq!(register_ring(&rig, &argument), 0);
    assert_eq!(ring.head(&rig), 0, "the head begins anew");
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 0, 0))?, (OK, used(0)));
    ring.renew(&rig, 0);
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 0, 0))?, (ENOBUFS, 0));
    refill(&mut ring, &memory, 20);
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 0, 0))?, (OK, used(20)));
    Ok(())
}

fn indices_of_a_buffer_ring_wrap(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(16)?;
    let mut ring = BufferRing::new(&mut rig, GROUP, 16, 0);
    let memory = rig.plain(512);
    let rounds = 65536 / 16 + 2;
    for round in 0..rounds {
        let first = (round * 16) as u16;
        (0..16).for_each(|i| ring.add(&memory, first.wrapping_add(i)));
        let done = submit_all(&mut rig, &vec![read_into(GROUP, 512, 0); 16])?;
        for (i, (_, res, flags)) in (0..).zip(done) {
            assert_eq!((res, buffer_of(flags)), (512, Some(first.wrapping_add(i))), "round {round}");
        }
    }
    assert_eq!(ring.head(&rig), 32, "16 bits");
    Ok(())
}

fn groups_of_one_entry_work(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let mut rings: Vec<_> = [0, 7, u16::MAX].map(|group| BufferRing::new(&mut rig, group, 1, 0)).into();
    let memory = rig.plain(4096);
    for id in 0..5 {
        for (ring, group) in rings.iter_mut().zip([0, 7, u16::MAX]) {
            ring.add(&memory, id + group / 2);
            let reads = [read_into(group, 0, 0), read_into(group, 0, 0)];
            assert_eq!(submit_all(&mut rig, &reads)?, [(0, OK, used(id + group / 2)), (1, ENOBUFS, 0)]);
        }
    }
    Ok(())
}

fn chains_and_asynchronous_reads_pick_from_a_ring(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let short = rig.size() - 512;
    let (ring, _memory) = full(&mut rig, 0);
    let read = |offset| read_into(GROUP, 4096, offset);
    let chain = [read(0).flags(Flags::IO_LINK), read(short).flags(Flags::IO_LINK), read(0)];
    assert_eq!(submit_all(&mut rig, &chain)?, [(0, OK, used(0)), (1, 512, used(1)), (2, -libc::ECANCELED, 0)]);
    assert_eq!(ring.head(&rig), 2, "what is cancelled takes none");
    for id in 2..5 {
        assert_eq!(submit_one(&mut rig, &read(0).flags(Flags::ASYNC))?, (OK, used(id)));
    }
    let done = submit_all(&mut rig, &[read(0).flags(Flags::IO_HARDLINK), read(1).flags(Flags::IO_HARDLINK), read(0)])?;
    assert_eq!(done, [(0, OK, used(5)), (1, EINVAL, used(6)), (2, OK, used(7))]);
    assert!(done.iter().all(|(_, _, flags)| flags & BUF_MORE == 0));
    Ok(())
}
