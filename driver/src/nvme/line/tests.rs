//! The straight line against arithmetic in 128 bits and against a list of what is in flight, at the ends of
//! addresses, lengths and positions.

use std::collections::BTreeMap;
use std::sync::Arc;

use io_uring::{cqueue, squeue};
use proptest::prelude::*;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::with_default;
use tracing::{Event, Metadata, Subscriber};

use super::*;
use crate::abi::flags::{IORING_SETUP_CQSIZE, IORING_SETUP_NO_SQARRAY};
use crate::abi::memory::RingMemory;
use crate::abi::params::Params;
use crate::device::Device;
use crate::engine::extent::{Extent, check_rw_flags, clip, verify_area};
use crate::engine::prepare::{Memory, Prepared, Rules, check_flags, prepare};
use crate::model::{Model, ModelConfig, ModelNamespace, Storage};
use crate::nvme::QueueOptions;
use crate::nvme::fixed::{FixedBuffer, FixedBuffers};
use crate::nvme::queue::Sink;
use crate::spec::command::Command;
use crate::usermem::UserMemory;

/// A queue pair of 16 entries whose doorbells are never rung, and the rings of a program.
struct Bench {
    queue: IoQueue,
    memory: RingMemory,
    sink: Sink,
    user: UserMemory,
    _device: Device,
}

const ENTRIES: u32 = 16;

impl Bench {
    fn new(cq_entries: u32) -> Self {
        let config = ModelConfig::new(vec![ModelNamespace::new(Storage::null(1 << 20))]);
        let device = Device::on(Arc::new(Model::stepped("model:line", config))).unwrap();
        let options = QueueOptions {
            depth: ENTRIES - 1,
            interrupts: false,
            bounce_bytes: 0,
            admin_commands: false,
            strict: false,
        };
        let queue = IoQueue::new(Arc::clone(device.owner()), options).unwrap();
        assert_eq!((queue.grant.sq.entries(), queue.grant.cq.entries()), (ENTRIES, ENTRIES));
        let flags = IORING_SETUP_NO_SQARRAY | IORING_SETUP_CQSIZE;
        let memory = RingMemory::new(&Params::layout(8.min(cq_entries), cq_entries, flags).unwrap()).unwrap();
        let sink = Sink::new(memory.view());
        // SAFETY: no command of these tests reaches a device.
        let user = unsafe { UserMemory::promised(false) };
        Self { queue, memory, sink, user, _device: device }
    }

    fn write(&self, at: u32, sqe: &Sqe) {
        self.memory.view().sqes::<squeue::Entry>().write(at, &(*sqe).into());
    }

    /// A command of the straight line with these user data. Answers its identifier.
    fn begin(&mut self, user_data: u64) -> Option<u16> {
        let tail = self.queue.grant.sq.tail();
        self.write(0, &Sqe { user_data, ..good() });
        self.queue.submit_one(&self.memory.view(), 0).then(|| (self.queue.grant.sq.at(tail).cdw0 >> 16) as u16)
    }

    /// Everything that the program finds, as user data and result.
    fn take(&mut self) -> Vec<(u64, i32)> {
        let view = self.memory.view();
        let mut taken = Vec::new();
        while self.sink.has_any() {
            let head = view.cq_head();
            let cqe = view.cqes::<cqueue::Entry>().read(head);
            assert_eq!(cqe.flags(), 0);
            taken.push((cqe.user_data(), cqe.result()));
            view.set_cq_head(head.wrapping_add(1));
            self.sink.flush();
        }
        taken
    }
}

const NAMESPACE: Namespace =
    Namespace { nsid: 7, block_shift: 9, blocks: 2048, read_only: false, zeroes_by_deallocating: true };
/// Somewhere, two pages, none, the last bytes that a registered buffer can have, and an odd number of them.
const BUFFERS: [FixedBuffer; 5] = [
    FixedBuffer { base: 0x10_0a04, len: 1 << 20, delta: 0x7_0000_0000 },
    FixedBuffer { base: 0x8000, len: 8192, delta: 0u64.wrapping_sub(0x4000) },
    FixedBuffer { base: 0, len: 0, delta: 0 },
    FixedBuffer { base: u64::MAX - 4095 - 12284, len: 12284, delta: 4096 },
    FixedBuffer { base: 0x20_0000, len: 8191, delta: 0 },
];

/// The straight line takes it.
fn good() -> Sqe {
    Sqe { opcode: 4, flags: 1, addr: 0x8000, len: 512, buf_index: 1, ..Sqe::default() }
}

/// The command of a plain entry; nothing where the general path has another answer than the whole length,
/// or more than two pages to describe.
fn expected(sqe: &Sqe, namespace: &Namespace, cid: u16) -> Option<Command> {
    let write = match check_flags(sqe).and_then(|opcode| prepare(opcode, sqe, Rules::default())) {
        Ok(Prepared::Transfer { write, memory: Memory::Fixed }) => write,
        _ => return None,
    };
    // Plain: what the general path serves as well, but the straight line does not.
    if sqe.attr_type_mask != 0 {
        return None;
    }
    if sqe.flags != 1 || sqe.ioprio != 0 || sqe.fd != 0 || sqe.op_flags != 0 || sqe.file_index != 0 {
        return None;
    }
    assert_eq!(check_rw_flags(sqe.op_flags, write, false), Ok(false));
    let (address, len) = (u128::from(sqe.addr), u128::from(sqe.len));
    let buffer = BUFFERS.get(usize::from(sqe.buf_index))?;
    let (base, end) = (u128::from(buffer.base), u128::from(buffer.base) + u128::from(buffer.len));
    if address < base || address + len > end || len == 0 || address % 4 != 0 {
        return None;
    }
    let asked = u64::from(sqe.len);
    let (offset, bytes) = match verify_area(sqe.off, asked).and_then(|offset| clip(namespace, write, offset, asked)) {
        Ok(Extent::Move { offset, len }) => (offset, len),
        _ => return None,
    };
    if offset != sqe.off || bytes != u64::from(sqe.len) {
        return None;
    }
    let iova = (address + u128::from(buffer.delta)) % (1 << 64);
    let pages: Vec<u128> = (iova / 4096..=(iova + len - 1) / 4096).collect();
    if pages.len() > 2 {
        return None;
    }
    let first_block = offset >> namespace.block_shift;
    Some(Command {
        cdw0: u32::from(cid) << 16 | if write { 1 } else { 2 },
        nsid: namespace.nsid,
        prp1: iova as u64,
        prp2: pages.get(1).map_or(0, |page| (page * 4096) as u64),
        cdw10: first_block as u32,
        cdw11: (first_block >> 32) as u32,
        cdw12: (bytes >> namespace.block_shift) as u32 - 1,
        ..Command::default()
    })
}

fn sorted_by_slot(flying: &BTreeMap<u16, u64>) -> Vec<u16> {
    let mut cids: Vec<u16> = flying.keys().copied().collect();
    cids.sort_unstable_by_key(|cid| u32::from(*cid) % ENTRIES);
    cids
}

/// A number at, or a little beside, one of these places.
fn near(places: Vec<u64>) -> impl Strategy<Value = u64> {
    let step =
        prop_oneof![4 => Just(0i64), 2 => -4i64..=4, 1 => prop::sample::select(&[-4096i64, -512, 512, 4096][..])];
    (prop::sample::select(places), step).prop_map(|(place, step)| place.wrapping_add_signed(step))
}

/// Good entries with at most two members changed to something near a limit.
fn entries() -> impl Strategy<Value = Sqe> {
    let buffers = BUFFERS.map(|b| [b.base, b.base.wrapping_add(b.len), b.base.wrapping_add(b.len) & !4095]).concat();
    let mut addresses = buffers;
    addresses.extend([0, 4092, u64::MAX, u64::MAX - 4095, 1 << 63]);
    let lens = vec![0, 512, 4096, 8192, 12284, 1 << 20, 1 << 31, u32::MAX.into()];
    let size = NAMESPACE.size_bytes();
    let offsets = vec![0, size - 8192, size - 512, size, u64::MAX, 1 << 63, 0u64.wrapping_sub(8192)];
    let plain = (any::<bool>(), 0usize..6, 0u64..4, 1u32..=16, 0u64..2100);
    let plain = plain.prop_map(|(write, buffer, page, blocks, block)| {
        let base = BUFFERS.get(buffer).map_or(0, |b| b.base.wrapping_add(b.len).wrapping_sub(u64::from(blocks) * 512));
        Sqe {
            opcode: 4 + u8::from(write),
            addr: base.wrapping_sub(page * 508).wrapping_add(3) & !3,
            len: blocks * 512,
            off: block * 512,
            buf_index: buffer as u16,
            user_data: 9,
            ..good()
        }
    });
    let odd = prop_oneof![
        4 => Just((0u8, 0u64)),
        2 => near(addresses).prop_map(|v| (1, v)),
        2 => near(lens).prop_map(|v| (2, v)),
        2 => near(offsets).prop_map(|v| (3, v)),
        2 => (4u8..12, prop::sample::select(vec![0u64, 1, 2, 3, 4, 6, 7, 255, 1 << 8, u64::MAX])),
    ];
    (plain, odd.clone(), odd).prop_map(|(mut sqe, first, second)| {
        for (member, value) in [first, second] {
            match member {
                1 => sqe.addr = value,
                2 => sqe.len = value as u32,
                3 => sqe.off = value,
                4 => sqe.opcode = value as u8,
                5 => sqe.flags = value as u8,
                6 => sqe.ioprio = value as u16,
                7 => sqe.fd = value as i32,
                8 => sqe.op_flags = value as u32,
                9 => sqe.buf_index = value as u16,
                10 => (sqe.personality, sqe.file_index) = (value as u16, (value >> 8) as u32),
                11 => sqe.attr_type_mask = value,
                _ => {}
            }
        }
        sqe
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn exactly_the_plain_entries_become_commands(
        entries in prop::collection::vec(entries(), 200),
        shift in prop::sample::select(&[9u8, 12][..]),
        read_only in any::<bool>(),
        tail in prop::sample::select(&[0u32, 13, u32::MAX - 5][..]),
    ) {
        let mut bench = Bench::new(16);
        let namespace = Namespace { block_shift: shift, blocks: (1 << 20) >> shift, read_only, ..NAMESPACE };
        bench.queue.line = LineTarget::new(0, &namespace);
        bench.queue.fixed = FixedBuffers::new(BUFFERS.to_vec());
        bench.queue.grant.sq.advance(tail);
        for sqe in &entries {
            bench.write(3, sqe);
            let at = bench.queue.grant.sq.tail();
            let cid = bench.queue.ids.trackers.at(at).next_cid() as u16;
            let made = bench.queue.submit_one(&bench.memory.view(), 3).then(|| bench.queue.grant.sq.at(at));
            prop_assert_eq!(made, expected(sqe, &namespace, cid), "{:x?}", sqe);
            prop_assert_eq!(bench.queue.ids.in_flight(), u32::from(made.is_some()));
            if made.is_some() {
                let tracker = bench.queue.ids.give_back(cid).unwrap();
                prop_assert_eq!(tracker.straight(), Some((9, sqe.len as i32)));
            }
        }
    }

    /// Whatever of a batch is plain, wherever the rings wrap, and whatever is still in flight.
    #[test]
    fn a_batch_stops_at_the_first_entry_that_is_not_plain_or_has_no_place(
        rounds in prop::collection::vec((1u32..=8, prop::option::weighted(0.3, 0u32..8), prop::collection::vec(any::<bool>(), 8)), 1..30),
        head in prop::sample::select(&[0u32, u32::MAX - 3, 5][..]),
        tail in prop::sample::select(&[0u32, u32::MAX - 2, 11][..]),
    ) {
        let mut bench = Bench::new(16);
        bench.queue.line = LineTarget::new(0, &NAMESPACE);
        bench.queue.fixed = FixedBuffers::new(BUFFERS.to_vec());
        bench.queue.grant.sq.advance(tail);
        let mut head = head;
        let mut flying: BTreeMap<u16, u64> = BTreeMap::new();
        for (count, bad, keep) in rounds {
            for i in 0..count {
                let opcode = if bad == Some(i) { 1 } else { 5 };
                bench.write(head.wrapping_add(i), &Sqe { opcode, user_data: i.into(), ..good() });
            }
            let at = bench.queue.grant.sq.tail();
            let busy = |i: u32| flying.keys().any(|cid| u32::from(*cid) % ENTRIES == at.wrapping_add(i) % ENTRIES);
            let room = ENTRIES - 1 - flying.len() as u32;
            let made = (0..count.min(room)).take_while(|i| bad != Some(*i) && !busy(*i)).count() as u32;
            let end = bench.queue.submit_line(&bench.memory.view(), head, head.wrapping_add(count));
            prop_assert_eq!(end.wrapping_sub(head), made);
            prop_assert_eq!(bench.queue.grant.sq.tail().wrapping_sub(at), made);
            for i in 0..made {
                let command = bench.queue.grant.sq.at(at.wrapping_add(i));
                let cid = (command.cdw0 >> 16) as u16;
                prop_assert_eq!(u32::from(cid) % ENTRIES, at.wrapping_add(i) % ENTRIES);
                prop_assert_eq!(Some(command), expected(&Sqe { opcode: 5, ..good() }, &NAMESPACE, cid));
                prop_assert!(flying.insert(cid, i.into()).is_none());
            }
            head = head.wrapping_add(count);
            prop_assert_eq!(bench.queue.ids.in_flight() as usize, flying.len());
            let cids: Vec<u16> = flying.keys().copied().collect();
            for (cid, _) in cids.into_iter().zip(keep).filter(|(_, keep)| !keep) {
                prop_assert_eq!(bench.queue.ids.give_back(cid).map(|t| t.user_data), flying.remove(&cid));
            }
        }
    }

    /// Completions of what is in flight, in any order, with any status, twice, and of what never was; into a
    /// ring that may be full.
    #[test]
    fn what_is_in_flight_completes_once_and_nothing_else_does(
        rounds in prop::collection::vec(
            (0u32..16, prop::collection::vec((any::<prop::sample::Index>(), 0u16..7, any::<u16>()), 0..12), any::<bool>(), any::<bool>()),
            1..40,
        ),
        cq_entries in prop::sample::select(&[1u32, 2, 16][..]),
    ) {
        let mut bench = Bench::new(cq_entries);
        bench.queue.line = LineTarget::new(0, &NAMESPACE);
        bench.queue.fixed = FixedBuffers::new(BUFFERS.to_vec());
        let mut flying: BTreeMap<u16, u64> = BTreeMap::new();
        let (mut next, mut consumed, mut stale, mut last) = (0, 0, 0, 0);
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        for (begin, answers, one_first, take) in rounds {
            for _ in 0..begin {
                let Some(cid) = bench.begin(next) else { break };
                prop_assert!(flying.insert(cid, next).is_none());
                next += 1;
            }
            let at_one = bench.queue.is_at_one();
            prop_assert_eq!(at_one, flying.len() == 1);
            let (mut live, mut first) = (0, None);
            for (ahead, (pick, kind, other)) in answers.iter().enumerate() {
                let cids: Vec<u16> = flying.keys().copied().collect();
                let cid = match kind {
                    // Once more.
                    6 => last,
                    5 => *other,
                    _ if cids.is_empty() => *other,
                    _ => *pick.get(&cids),
                };
                last = cid;
                // Unrecovered Read Error, and Do Not Retry without an error, which is none.
                let status = [0, 0, 0, 0x281, 1 << 14, 0, 0][usize::from(*kind)];
                bench.queue.grant.cq.forge(ahead as u32, cid, status);
                first = first.or(Some((flying.contains_key(&cid), status)));
                match flying.remove(&cid) {
                    Some(user_data) => {
                        live += 1;
                        expected.push((user_data, if status == 0x281 { -libc::ENODATA } else { 512 }));
                    }
                    None => stale += 1,
                }
            }
            let mut taken = 0;
            if at_one && one_first {
                let room = bench.sink.slot().is_some();
                let plain = match first {
                    None => Look::Nothing,
                    Some((true, 0)) if room => Look::Taken,
                    Some(_) => Look::Other,
                };
                let one = bench.queue.reap_one(&mut bench.sink);
                prop_assert_eq!(one, plain);
                taken += u32::from(one == Look::Taken);
                prop_assert_eq!(bench.queue.ids.in_flight(), 1 - taken);
            }
            taken += bench.queue.reap(&mut bench.sink, &bench.user);
            prop_assert_eq!(taken, live, "stale ones are not counted");
            prop_assert_eq!(bench.queue.stats.stale, stale);
            prop_assert_eq!(bench.queue.ids.in_flight() as usize, flying.len());
            prop_assert_eq!(bench.queue.ids.all_in_flight(), sorted_by_slot(&flying));
            consumed += answers.len() as u32;
            prop_assert_eq!(bench.queue.grant.cq.rung(), consumed % ENTRIES, "entries are given back");
            prop_assert_eq!(bench.queue.reap(&mut bench.sink, &bench.user), 0);
            if take {
                found.extend(bench.take());
            }
        }
        found.extend(bench.take());
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn no_target_serves_nothing_not_even_an_entry_of_ones() {
    let mut bench = Bench::new(16);
    bench.queue.fixed = FixedBuffers::new(BUFFERS.to_vec());
    for len in [0, 1, 512, 4096, 8192] {
        for off in [0, 512, u64::MAX] {
            bench.write(0, &Sqe { opcode: 255, flags: 255, ioprio: 0xffff, fd: -1, off, len, ..good() });
            assert!(!bench.queue.submit_one(&bench.memory.view(), 0), "{len} at {off}");
            assert_eq!(bench.queue.submit_line(&bench.memory.view(), 0, 1), 0);
        }
    }
}

#[test]
fn a_device_that_only_repeats_itself_has_not_moved() {
    let mut bench = Bench::new(16);
    bench.queue.line = LineTarget::new(0, &NAMESPACE);
    bench.queue.fixed = FixedBuffers::new(BUFFERS.to_vec());
    let cid = bench.begin(0).unwrap();
    bench.queue.stats.commands += 1;
    assert!(bench.queue.stalled_for().is_zero());
    bench.queue.expect_silence();
    bench.queue.grant.cq.forge(0, cid + ENTRIES as u16, 0);
    assert_eq!(bench.queue.reap(&mut bench.sink, &bench.user), 0);
    assert!(!bench.queue.stalled_for().is_zero());
    bench.queue.grant.cq.forge(0, cid, 0);
    assert_eq!(bench.queue.reap(&mut bench.sink, &bench.user), 1);
    assert!(bench.queue.stalled_for().is_zero());
}

/// Answers once more, from inside the driver's report of a stale completion.
struct Echo {
    device: Box<dyn Fn() + Send + Sync>,
}

impl Subscriber for Echo {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        (self.device)();
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn a_device_that_answers_without_end_is_left_after_one_ring() {
    let mut bench = Bench::new(16);
    bench.queue.line = LineTarget::new(0, &NAMESPACE);
    bench.queue.fixed = FixedBuffers::new(BUFFERS.to_vec());
    bench.begin(0).unwrap();
    let answer = bench.queue.grant.cq.repeat(0xffff, 1000);
    answer();
    let echo = Echo { device: Box::new(answer) };
    let taken = with_default(echo, || bench.queue.reap(&mut bench.sink, &bench.user));
    assert_eq!((taken, bench.queue.stats.stale), (0, ENTRIES.into()));
    assert_eq!(bench.queue.ids.in_flight(), 1);
}

#[test]
fn one_entry_of_the_ring_stays_empty() {
    let mut bench = Bench::new(16);
    bench.queue.line = LineTarget::new(0, &NAMESPACE);
    bench.queue.fixed = FixedBuffers::new(BUFFERS.to_vec());
    (0..ENTRIES).for_each(|i| bench.write(i, &good()));
    let view = bench.memory.view();
    assert_eq!(bench.queue.submit_line(&view, 0, 14), 14);
    assert_eq!(bench.queue.submit_line(&view, 14, 16), 15);
    // The slot of the next place is idle all the same.
    assert!(bench.queue.ids.trackers.at(15).next_cid() <= u16::MAX.into());
    assert!(!bench.queue.submit_one(&view, 15));
    assert_eq!(bench.queue.submit_line(&view, 15, 16), 15);
    assert_eq!((bench.queue.ids.in_flight(), bench.queue.grant.sq.tail()), (15, 15));
}

#[test]
fn namespaces_smaller_than_the_longest_transfer_are_not_served() {
    for blocks in [0, 1, 8, 15] {
        assert_eq!(LineTarget::new(0, &Namespace { blocks, ..NAMESPACE }), LineTarget::NONE);
    }
    assert_ne!(LineTarget::new(0, &Namespace { blocks: 16, ..NAMESPACE }), LineTarget::NONE);
}

#[test]
fn a_device_that_answers_one_of_two_has_moved() {
    let mut bench = Bench::new(16);
    bench.queue.line = LineTarget::new(0, &NAMESPACE);
    bench.queue.fixed = FixedBuffers::new(BUFFERS.to_vec());
    let cids = [bench.begin(0).unwrap(), bench.begin(1).unwrap()];
    bench.queue.expect_silence();
    assert!(!bench.queue.stalled_for().is_zero());
    bench.queue.grant.cq.forge(0, cids[1], 0);
    assert_eq!(bench.queue.reap(&mut bench.sink, &bench.user), 1);
    assert!(bench.queue.stalled_for().is_zero());
}
