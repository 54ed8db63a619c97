//! Buffer rings whose buffers are used piece by piece (`IOU_PBUF_RING_INC`).
//!
//! A block device cannot be polled, so the kernel takes from the ring what a read asks for when it is issued
//! (`io_should_commit`), whatever comes of the read.

use io_uring::squeue::Flags;

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::buffer_ring::{
    BUF_MORE, BufferRing, INC, buf_reg, read_into, register_ring, submit_all, submit_one, unregister_ring, used,
};
use crate::support::pattern;
use crate::support::raw::{Memory, edit};
use crate::support::rig::Rig;

pub(super) const ALL: &[Case] = cases![
    a_buffer_is_used_piece_by_piece,
    a_read_of_no_length_takes_the_rest_of_a_buffer,
    a_read_never_spans_two_buffers,
    a_failed_read_takes_its_piece,
    a_short_read_takes_all_that_it_asked_for,
    reads_together_take_piece_after_piece,
    a_partial_buffer_of_no_length_stays,
    a_read_that_skips_its_completion_takes_its_piece,
    a_buffer_may_keep_a_minimum,
];

const GROUP: u16 = 1;
const EINVAL: i32 = -libc::EINVAL;

fn more(id: u16) -> u32 {
    used(id) | BUF_MORE
}

/// A ring with buffers of `lens`, one page apart or more, numbered from 1 on.
fn ring(bench: &Bench, lens: &[usize]) -> Result<(Rig, BufferRing, Memory), Stop> {
    bench.since(6, 12)?;
    let mut rig = bench.rig(8)?;
    let mut ring = BufferRing::new(&mut rig, GROUP, 8, INC);
    let memory = rig.plain(lens.len() * 65536);
    for (i, len) in lens.iter().enumerate() {
        ring.add(&memory.part(i * 65536, *len), 1 + i as u16);
    }
    Ok((rig, ring, memory))
}

fn a_buffer_is_used_piece_by_piece(bench: &Bench) -> Outcome {
    let (mut rig, ring, memory) = ring(bench, &[4096, 1024])?;
    rig.put(1, 0, 8192)?;
    let mut taken = 0;
    for (len, flags) in [(512, more(1)), (2048, more(1)), (1536, used(1)), (512, more(2)), (512, used(2))] {
        assert_eq!(submit_one(&mut rig, &read_into(GROUP, len, taken))?, (len as i32, flags), "at {taken}");
        taken += u64::from(len);
        let first = taken.min(4096);
        let whole = if first == 4096 { 4096 - 1536 } else { first };
        assert_eq!(ring.entry(0, &memory), (whole, 4096 - first as u32), "an exhausted one keeps its last address");
    }
    assert_eq!(ring.entry(1, &memory), (65536 + 512, 0));
    assert_eq!(ring.head(&rig), 2);
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 512, 0))?, (-libc::ENOBUFS, 0));
    pattern::check(1, 0, &memory.part(0, 4096).read());
    pattern::check(1, 4096, &memory.part(65536, 1024).read());
    Ok(())
}

fn a_read_of_no_length_takes_the_rest_of_a_buffer(bench: &Bench) -> Outcome {
    let (mut rig, ring, memory) = ring(bench, &[4096, 4096])?;
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 1024, 0))?, (1024, more(1)));
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 0, 0))?, (3072, used(1)));
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 0, 0))?, (4096, used(2)));
    assert_eq!(ring.head(&rig), 2);
    assert_eq!((ring.entry(0, &memory), ring.entry(1, &memory)), ((1024, 0), (65536, 0)));
    Ok(())
}

fn a_read_never_spans_two_buffers(bench: &Bench) -> Outcome {
    let (mut rig, ring, _memory) = ring(bench, &[4096, 4096])?;
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 3584, 0))?, (3584, more(1)));
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 65536, 0))?, (512, used(1)));
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 65536, 0))?, (4096, used(2)));
    assert_eq!(ring.head(&rig), 2);
    Ok(())
}

fn a_failed_read_takes_its_piece(bench: &Bench) -> Outcome {
    let (mut rig, ring, memory) = ring(bench, &[8192, 4096])?;
    let flags =
        |flags: u32| edit(read_into(GROUP, 512, 0), |bytes| bytes[28..32].copy_from_slice(&flags.to_ne_bytes()));
    let entries = [
        (read_into(GROUP, 512, 1), EINVAL),
        (read_into(GROUP, 512, u64::MAX - 1), EINVAL),
        (flags(1 << 30), -libc::EOPNOTSUPP),
        (flags(1), EINVAL),
    ];
    for (count, (entry, errno)) in (1..).zip(entries) {
        assert_eq!(submit_one(&mut rig, &entry)?, (errno, more(1)), "{entry:?}");
        assert_eq!(ring.entry(0, &memory), (512 * count, 8192 - 512 * count as u32));
    }
    // Nothing of what is refused before it is issued.
    let refused = edit(read_into(GROUP, 512, 0), |bytes| bytes[4] = 99);
    assert_eq!(submit_one(&mut rig, &refused)?, (-libc::EBADF, 0));
    assert_eq!(ring.entry(0, &memory), (2048, 6144));
    // 100 bytes are taken, and from then on the memory is not aligned.
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 100, 0))?, (EINVAL, more(1)));
    assert_eq!(ring.entry(0, &memory), (2148, 6044));
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 8192, 0))?, (EINVAL, used(1)), "the rest is no whole block");
    assert_eq!((ring.entry(0, &memory), ring.head(&rig)), ((2148, 0), 1));
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 0, 0))?, (4096, used(2)));
    Ok(())
}

fn a_short_read_takes_all_that_it_asked_for(bench: &Bench) -> Outcome {
    let (mut rig, ring, memory) = ring(bench, &[8192])?;
    let end = rig.size();
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 4096, end - 512))?, (512, more(1)));
    assert_eq!(ring.entry(0, &memory), (4096, 4096));
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 2048, end))?, (0, more(1)));
    assert_eq!(ring.entry(0, &memory), (6144, 2048));
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 2048, end))?, (0, used(1)));
    assert_eq!((ring.entry(0, &memory), ring.head(&rig)), ((6144, 0), 1));
    Ok(())
}

fn reads_together_take_piece_after_piece(bench: &Bench) -> Outcome {
    let (mut rig, ring, memory) = ring(bench, &[2048, 65536])?;
    rig.put(2, 0, 8192)?;
    let reads: Vec<_> = (0..8).map(|i| read_into(GROUP, 512, i * 512)).collect();
    let done = submit_all(&mut rig, &reads)?;
    let flags: Vec<_> = done.iter().map(|(_, res, flags)| (*res, *flags)).collect();
    let expected = [more(1), more(1), more(1), used(1), more(2), more(2), more(2), more(2)].map(|flags| (512, flags));
    assert_eq!(flags, expected);
    pattern::check(2, 0, &memory.part(0, 2048).read());
    pattern::check(2, 2048, &memory.part(65536, 2048).read());
    let read = |len, offset| read_into(GROUP, len, offset).flags(Flags::IO_LINK);
    let short = rig.size() - 512;
    let chain = [read(512, 0), read(1024, short), read(512, 0)];
    assert_eq!(submit_all(&mut rig, &chain)?, [(0, 512, more(2)), (1, 512, more(2)), (2, -libc::ECANCELED, 0)]);
    assert_eq!(ring.entry(1, &memory), (65536 + 2048 + 1536, 65536 - 2048 - 1536));
    Ok(())
}

fn a_partial_buffer_of_no_length_stays(bench: &Bench) -> Outcome {
    let (mut rig, ring, _memory) = ring(bench, &[0, 4096])?;
    // It is never used up: whoever puts one there blocks the ring.
    for len in [0, 512, 0] {
        assert_eq!(submit_one(&mut rig, &read_into(GROUP, len, 0))?, (0, more(1)));
        assert_eq!(ring.head(&rig), 0);
    }
    Ok(())
}

fn a_read_that_skips_its_completion_takes_its_piece(bench: &Bench) -> Outcome {
    let (mut rig, ring, memory) = ring(bench, &[4096])?;
    rig.push(&read_into(GROUP, 512, 0).flags(Flags::SKIP_SUCCESS | Flags::IO_LINK).user_data(1))?;
    rig.push(&read_into(GROUP, 512, 0).user_data(2))?;
    assert_eq!(rig.ring.submit()?, 2);
    let done = rig.wait(1)?;
    assert_eq!((done[0].user_data, done[0].res, done[0].flags), (2, 512, more(1)));
    assert_eq!(ring.entry(0, &memory), (1024, 3072));
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 512, 0).flags(Flags::ASYNC))?, (512, more(1)));
    Ok(())
}

fn a_buffer_may_keep_a_minimum(bench: &Bench) -> Outcome {
    // Came to 6.18 after its release.
    bench.since(6, 18)?;
    let (mut rig, mut ring, memory) = ring(bench, &[2048])?;
    let minimum = |flags, least: u32| {
        let mut argument = buf_reg(ring.memory.address(), 8, GROUP, flags);
        argument[16..20].copy_from_slice(&least.to_ne_bytes());
        argument
    };
    let (plain, kept) = (minimum(0, 1), minimum(INC, 1024));
    assert_eq!(unregister_ring(&rig, GROUP), 0);
    assert_eq!(register_ring(&rig, &plain), EINVAL, "of whole buffers there is none");
    assert_eq!(register_ring(&rig, &kept), 0);
    // The ring's memory still holds buffer 1.
    ring.add(&memory.part(4096, 2048), 2);
    // A rest below the minimum is given up.
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 1024, 0))?, (1024, more(1)), "a rest of 1024");
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 512, 0))?, (512, used(1)), "a rest of 512");
    assert_eq!((ring.entry(0, &memory), ring.head(&rig)), ((1024, 0), 1));
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 1536, 0))?, (1536, used(2)));
    Ok(())
}
