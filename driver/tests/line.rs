//! The straight line against the general path: any entry has the same result and moves the same data on
//! both. A ring with an index array never takes the straight line; one without takes it when it can.

#![expect(unsafe_code)] // pushes entries whose buffers it owns

use std::sync::Arc;

use dmaring::abi::entry::Sqe;
use dmaring::model::{Action, Fault, Model, ModelConfig, ModelNamespace, Storage};
use dmaring::spec::status::Status;
use dmaring::{Device, Ring};
use proptest::prelude::*;

const SIZE: u64 = 1 << 20;
const ARENA: usize = 64 << 10;
/// `IOSQE_IO_LINK`.
const LINK: u8 = 1 << 2;

/// A ring with three registered buffers inside one arena: long, a single block, a hole, and one at an odd
/// place.
struct Side {
    ring: Ring,
    arena: dmaring::DmaBuf,
    model: Model,
}

impl Side {
    fn new(straight: bool, shift: u8) -> Self {
        let storage = Storage::ram(SIZE).unwrap();
        let config = ModelConfig::new(vec![ModelNamespace::new(storage).block_shift(shift)]);
        let model = Model::stepped("model:line", config);
        let device = Device::on(Arc::new(model.clone())).unwrap();
        let ring = Ring::builder(8).sq_array(!straight).open_device(&device, 1).unwrap();
        let mut arena = ring.alloc(ARENA).unwrap();
        let base = arena.as_mut_ptr();
        let at = |offset: usize, len: usize| libc::iovec { iov_base: base.wrapping_add(offset).cast(), iov_len: len };
        let hole = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let buffers = [at(0, 32 << 10), at(40 << 10, 512), hole, at((48 << 10) + 4, 9000)];
        // SAFETY: the arena outlives the ring: it is dropped after it, and its pool lives as long.
        unsafe { ring.submitter().register_buffers(&buffers).unwrap() };
        let mut side = Self { ring, arena, model };
        // The device begins with a pattern that is the same on both sides.
        for block in 0..SIZE / 32768 {
            let pattern: Vec<u8> = (0..32768u64).map(|i| (i / 512 + i + block * 7) as u8).collect();
            side.arena.write(0, &pattern);
            let sqe = side.fixed(5, block * 32768, 0, 32768, 0);
            assert_eq!(side.run(&sqe), Some(32768));
        }
        side
    }

    fn fixed(&self, opcode: u8, offset: u64, address: i64, len: u32, index: u16) -> Sqe {
        Sqe {
            opcode,
            flags: 1,
            off: offset,
            addr: (self.arena.as_ptr() as u64).wrapping_add_signed(address),
            len,
            buf_index: index,
            ..Sqe::default()
        }
    }

    /// The entry's result; nothing when it succeeds and skips that.
    fn run(&mut self, sqe: &Sqe) -> Option<i32> {
        // SAFETY: only registered memory is named, or nothing is accessed because the range is refused.
        unsafe { self.ring.submission().push(&(*sqe).into()).unwrap() };
        self.ring.submit_and_wait(1).unwrap();
        let result = self.ring.completion().next().map(|completion| completion.result());
        assert_eq!(self.ring.completion().len(), 0);
        result
    }

    /// User data and results of a chain, in the order of completion.
    fn run_chain(&mut self, chain: &[Sqe]) -> Vec<(u64, i32)> {
        for (sqe, user_data) in chain.iter().zip(0..) {
            // SAFETY: as in `run`.
            unsafe { self.ring.submission().push(&Sqe { user_data, ..*sqe }.into()).unwrap() };
        }
        // One that is refused ends the batch; those behind it are for the next.
        while !self.ring.submission().is_empty() {
            self.ring.submit_and_wait(chain.len()).unwrap();
        }
        self.ring.completion().map(|completion| (completion.user_data(), completion.result())).collect()
    }

    fn memory(&self) -> Vec<u8> {
        let mut data = vec![0; ARENA];
        self.arena.read(0, &mut data);
        data
    }
}

/// What is done to a good entry: nothing, or one member gets a value near a place where something
/// changes.
#[derive(Clone, Copy, Debug)]
enum Change {
    None,
    Opcode(u8),
    Flags(u8),
    Ioprio(u16),
    File(i32),
    Offset(i64),
    Address(i64),
    Len(i64),
    Buffer(u16),
    OpFlags(u32),
    Personality(u16),
    FileIndex(u32),
    Attributes(u64),
}

/// A number near one of `places`.
fn near(places: &'static [i64]) -> impl Strategy<Value = i64> {
    let step = prop_oneof![Just(0i64), -4i64..=4, Just(512), Just(-512), Just(4096), Just(-4096), -9000i64..=9000];
    (prop::sample::select(places), step).prop_map(|(place, step)| place.wrapping_add(step))
}

fn changes() -> impl Strategy<Value = Change> {
    const LAST: i64 = SIZE as i64;
    prop_oneof![
        6 => Just(Change::None),
        1 => prop::sample::select(&[0u8, 3, 6, 7, 12, 22, 63, 255][..]).prop_map(Change::Opcode),
        1 => prop::sample::select(&[0u8, 3, 5, 9, 0x41, 0x81][..]).prop_map(Change::Flags),
        1 => prop::sample::select(&[1u16, 0x4000, 0x6007, 0xe000][..]).prop_map(Change::Ioprio),
        1 => prop::sample::select(&[1i32, -1, i32::MAX, i32::MIN][..]).prop_map(Change::File),
        3 => near(&[0, LAST - 8192, LAST, -1, i64::MAX, i64::MIN]).prop_map(Change::Offset),
        3 => near(&[0, 32 << 10, 40 << 10, (48 << 10) + 4, (48 << 10) + 9004, i64::MIN, i64::MAX])
            .prop_map(Change::Address),
        3 => near(&[0, 4096, 8192, 16384, 0x7fff_f000, u32::MAX as i64]).prop_map(Change::Len),
        1 => prop::sample::select(&[1u16, 2, 3, 4, 5, u16::MAX][..]).prop_map(Change::Buffer),
        1 => prop::sample::select(&[1u32, 2, 4, 8, 0x10, 0x30, 0x40, 1 << 31][..]).prop_map(Change::OpFlags),
        1 => prop::sample::select(&[1u16, u16::MAX][..]).prop_map(Change::Personality),
        1 => prop::sample::select(&[1u32, u32::MAX][..]).prop_map(Change::FileIndex),
        1 => prop::sample::select(&[1u64, 1 << 63][..]).prop_map(Change::Attributes),
    ]
}

prop_compose! {
    /// An entry and where its memory is, relative to the arena: a good one with one change.
    fn entries()(
        write in any::<bool>(),
        blocks in 1u32..=17,
        at in 0u64..SIZE / 512 + 2,
        into in 0i64..64,
        odd in prop::sample::select(&[0i64, 0, 0, 0, 0, 4, 508, 1, 2][..]),
        third in prop::bool::weighted(0.2),
        registered in prop::bool::weighted(0.7),
        change in changes(),
    ) -> (Sqe, i64) {
        let mut sqe = Sqe {
            opcode: if registered { 4 } else { 22 } + u8::from(write),
            flags: 1,
            off: at * 512,
            len: blocks * 512,
            buf_index: if third && registered { 3 } else { 0 },
            ..Sqe::default()
        };
        let mut address = into * 512 + odd;
        if third {
            address = (48 << 10) + 4 + address % 1024;
        }
        match change {
            Change::None => {}
            Change::Opcode(opcode) => sqe.opcode = opcode,
            Change::Flags(flags) => sqe.flags = flags,
            Change::Ioprio(ioprio) => sqe.ioprio = ioprio,
            Change::File(fd) => sqe.fd = fd,
            Change::Offset(offset) => sqe.off = offset as u64,
            Change::Address(changed) => address = changed,
            Change::Len(len) => sqe.len = len as u32,
            Change::Buffer(index) => sqe.buf_index = index,
            Change::OpFlags(flags) => sqe.op_flags = flags,
            Change::Personality(id) => sqe.personality = id,
            Change::FileIndex(index) => sqe.file_index = index,
            Change::Attributes(mask) => sqe.attr_type_mask = mask,
        }
        (sqe, address)
    }
}

/// The entry of a program as it is on one side.
fn at(side: &Side, (sqe, address): &(Sqe, i64)) -> Sqe {
    let mut sqe = *sqe;
    if matches!(sqe.opcode, 22 | 23) {
        sqe.len = sqe.len.min(16 << 10);
        sqe.addr = side.arena.as_ptr() as u64 + (*address as u64 % (16 << 10));
    } else {
        sqe.addr = (side.arena.as_ptr() as u64).wrapping_add_signed(*address);
    }
    sqe
}

fn compare(shift: u8, program: &[(Sqe, i64)]) -> Result<(), TestCaseError> {
    let (mut line, mut general) = (Side::new(true, shift), Side::new(false, shift));
    for entry in program {
        let results = (line.run(&at(&line, entry)), general.run(&at(&general, entry)));
        prop_assert_eq!(results.0, results.1, "{:?}", entry);
        prop_assert!(line.memory() == general.memory(), "{:?} left other data in memory", entry);
    }
    compare_devices(&mut line, &mut general)
}

/// A chain, and after how many commands the device fails one, if it does.
type Chain = (Vec<(Sqe, i64)>, Option<u32>);

fn compare_chains(program: &[Chain]) -> Result<(), TestCaseError> {
    let (mut line, mut general) = (Side::new(true, 9), Side::new(false, 9));
    // From the first chain on there is a file that the straight line knows.
    for side in [&mut line, &mut general] {
        side.run(&side.fixed(4, 0, 0, 512, 0));
    }
    for (chain, fails) in program {
        let linked = |side: &Side| {
            let mut sqes: Vec<Sqe> = chain.iter().map(|entry| at(side, entry)).collect();
            let last = sqes.len() - 1;
            sqes[..last].iter_mut().for_each(|sqe| sqe.flags |= LINK);
            sqes
        };
        if let Some(commands) = fails {
            for side in [&line, &general] {
                side.model.fault(Fault::new(Action::Fail(Status::INTERNAL_ERROR)).skip(*commands));
            }
        }
        let results = (line.run_chain(&linked(&line)), general.run_chain(&linked(&general)));
        prop_assert_eq!(results.0, results.1, "{:?}", chain);
        prop_assert!(line.memory() == general.memory(), "{:?} left other data in memory", chain);
    }
    compare_devices(&mut line, &mut general)
}

/// Chains that only read, several in one batch: whatever their order among each other, each has its results.
fn compare_batches(program: &[Vec<Vec<(Sqe, i64)>>]) -> Result<(), TestCaseError> {
    let (mut line, mut general) = (Side::new(true, 9), Side::new(false, 9));
    for side in [&mut line, &mut general] {
        side.run(&side.fixed(4, 0, 0, 512, 0));
    }
    for batch in program {
        let sqes = |side: &Side| {
            let mut sqes = Vec::new();
            for chain in batch {
                let first = sqes.len();
                sqes.extend(chain.iter().map(|entry| at(side, entry)).map(|sqe| match sqe.opcode {
                    5 | 23 => Sqe { opcode: sqe.opcode - 1, ..sqe },
                    _ => sqe,
                }));
                let last = sqes.len() - 1;
                sqes[first..last].iter_mut().for_each(|sqe| sqe.flags |= LINK);
            }
            sqes.truncate(8);
            sqes
        };
        let (mut on_line, mut on_general) = (line.run_chain(&sqes(&line)), general.run_chain(&sqes(&general)));
        on_line.sort_unstable();
        on_general.sort_unstable();
        prop_assert_eq!(on_line, on_general, "{:?}", batch);
    }
    Ok(())
}

fn compare_devices(line: &mut Side, general: &mut Side) -> Result<(), TestCaseError> {
    // Until no fault is left.
    for side in [&mut *line, &mut *general] {
        for _ in 0..64 {
            side.run(&side.fixed(4, 0, 0, 512, 0));
        }
    }
    // What is on the device is read back by the general path on both sides.
    for offset in (0..SIZE).step_by(8192) {
        let sqes = (line.fixed(4, offset, 0, 8192, 0), general.fixed(4, offset, 0, 8192, 0));
        prop_assert_eq!((line.run(&sqes.0), general.run(&sqes.1)), (Some(8192), Some(8192)));
        prop_assert!(line.memory() == general.memory(), "the devices differ near {}", offset);
    }
    prop_assert!(line.model.commands() > 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn both_paths_agree_on_any_entry(program in prop::collection::vec(entries(), 1..60)) {
        compare(9, &program)?;
    }

    #[test]
    fn both_paths_agree_on_chains(
        program in prop::collection::vec((prop::collection::vec(entries(), 1..6), prop::option::weighted(0.2, 0u32..6)), 1..30)
    ) {
        compare_chains(&program)?;
    }

    #[test]
    fn both_paths_agree_on_batches_of_chains(
        program in prop::collection::vec(prop::collection::vec(prop::collection::vec(entries(), 1..4), 1..5), 1..40)
    ) {
        compare_batches(&program)?;
    }

    #[test]
    fn both_paths_agree_on_blocks_of_4096(program in prop::collection::vec(entries(), 1..60)) {
        compare(12, &program)?;
    }
}
