//! The straight line against the general path: any entry has the same result and moves the same data on
//! both. A ring with an index array never takes the straight line; one without takes it when it can.

#![expect(unsafe_code)] // pushes entries whose buffers it owns

use std::sync::Arc;

use dmaring::abi::entry::Sqe;
use dmaring::model::{Model, ModelConfig, ModelNamespace, Storage};
use dmaring::{Device, Ring};
use proptest::prelude::*;

const SIZE: u64 = 1 << 20;
const ARENA: usize = 64 << 10;

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
            assert_eq!(side.run(&sqe), 32768);
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

    fn run(&mut self, sqe: &Sqe) -> i32 {
        // SAFETY: only registered memory is named, or nothing is accessed because the range is refused.
        unsafe { self.ring.submission().push(&(*sqe).into()).unwrap() };
        self.ring.submit_and_wait(1).unwrap();
        let result = self.ring.completion().next().unwrap().result();
        assert_eq!(self.ring.completion().len(), 0);
        result
    }

    fn memory(&self) -> Vec<u8> {
        let mut data = vec![0; ARENA];
        self.arena.read(0, &mut data);
        data
    }
}

/// A number near one of the places where something changes.
fn near(places: &'static [i64]) -> impl Strategy<Value = i64> {
    (prop::sample::select(places), prop_oneof![Just(0i64), -4i64..=4, -1024i64..=1024, Just(512), Just(-512)])
        .prop_map(|(place, off)| place.wrapping_add(off))
}

prop_compose! {
    fn entries()(
        opcode in prop::sample::select(&[4u8, 5, 4, 5, 4, 5, 22, 255][..]),
        flags in prop::sample::select(&[1u8, 1, 1, 1, 1, 0, 3, 0x81][..]),
        ioprio in prop::sample::select(&[0u16, 0, 0, 0, 0, 1, 0x4000, 0xe000][..]),
        fd in prop::sample::select(&[0i32, 0, 0, 0, 0, 1, -1][..]),
        offset in prop_oneof![
            near(&[0, 4096, 8192, SIZE as i64 / 2, SIZE as i64 - 4096, SIZE as i64, -1, i64::MAX]),
            (0i64..SIZE as i64 / 512).prop_map(|b| b * 512),
        ],
        address in near(&[0, 512, 2048, 4096, (32 << 10) - 4096, 32 << 10, 40 << 10, (48 << 10) + 4, (48 << 10) + 1024, i64::MIN, i64::MAX]),
        len in prop_oneof![near(&[0, 512, 4096, 8192, 12288, u32::MAX as i64]), (1i64..40).prop_map(|b| b * 512)],
        index in prop::sample::select(&[0u16, 0, 0, 0, 1, 2, 3, 3, 4, u16::MAX][..]),
        op_flags in prop::sample::select(&[0u32, 0, 0, 0, 0, 1, 2, 8, 0x40, 1 << 31][..]),
        personality in prop::sample::select(&[0u16, 0, 0, 0, 0, 0, 1][..]),
        file_index in prop::sample::select(&[0u32, 0, 0, 0, 0, 0, 1][..]),
        attr_type_mask in prop::sample::select(&[0u64, 0, 0, 0, 0, 0, 1][..]),
    ) -> (Sqe, i64) {
        // A plain read names memory by address: it is given a range of the arena below.
        let sqe = Sqe {
            opcode, flags, ioprio, fd, off: offset as u64, len: len as u32, buf_index: index, op_flags, personality,
            file_index, attr_type_mask, ..Sqe::default()
        };
        (sqe, address)
    }
}

fn compare(shift: u8, program: &[(Sqe, i64)]) -> Result<(), TestCaseError> {
    let (mut line, mut general) = (Side::new(true, shift), Side::new(false, shift));
    for (sqe, address) in program {
        let at = |side: &Side| {
            let mut sqe = *sqe;
            if sqe.opcode == 22 {
                sqe.len = sqe.len.min(16 << 10);
                sqe.addr = side.arena.as_ptr() as u64 + (*address as u64 % (16 << 10));
            } else {
                sqe.addr = (side.arena.as_ptr() as u64).wrapping_add_signed(*address);
            }
            sqe
        };
        let results = (line.run(&at(&line)), general.run(&at(&general)));
        prop_assert_eq!(results.0, results.1, "{:?} at {}", sqe, address);
        prop_assert!(line.memory() == general.memory(), "{:?} at {} left other data in memory", sqe, address);
    }
    // What is on the device is read back by the general path on both sides.
    for offset in (0..SIZE).step_by(8192) {
        let sqes = (line.fixed(4, offset, 0, 8192, 0), general.fixed(4, offset, 0, 8192, 0));
        prop_assert_eq!((line.run(&sqes.0), general.run(&sqes.1)), (8192, 8192));
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
    fn both_paths_agree_on_blocks_of_4096(program in prop::collection::vec(entries(), 1..60)) {
        compare(12, &program)?;
    }
}
