//! The model against QEMU's controller: the same program, drawn from a seed, on both through the driver; the
//! same results, the same data read, and at the end the same contents, byte for byte. The contents are looked
//! at past the driver: the model's in the file behind it, QEMU's through the kernel's block device.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmaring::abi::entry::Sqe;
use dmaring::abi::op::{BLOCK_URING_CMD_DISCARD, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE};
use dmaring::model::{Model, ModelConfig, ModelNamespace, Storage};
use dmaring::{Device, Ring};
use io_uring::opcode;
use io_uring::squeue::Entry;

use super::zoo::{self, MANY, SECOND, SHORT};
use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::pattern;
use crate::support::raw::Memory;
use crate::support::rig::{FILE, Rig, read, write, write_fixed};

pub(super) const ALL: &[Case] = cases![
    the_model_and_qemu_end_alike_in_blocks_of_512,
    the_model_and_qemu_end_alike_in_blocks_of_4096,
    the_model_and_qemu_end_alike_in_short_transfers,
];

const BATCHES: u64 = 24;
/// Operations at once, each in a part of the device of its own: among themselves they have no order.
const DEPTH: usize = 16;
/// Longest transfer.
const MOST: usize = 1 << 20;
const CHUNK: usize = 1 << 20;
/// Where most operations begin, in bytes from the begin of a part.
const HOT: usize = 64 << 10;

fn the_model_and_qemu_end_alike_in_blocks_of_512(_: &Bench) -> Outcome {
    compare(SECOND, 1, 1, 7, 512)
}

fn the_model_and_qemu_end_alike_in_blocks_of_4096(_: &Bench) -> Outcome {
    compare(MANY, 2, 3, 7, 4096)
}

fn the_model_and_qemu_end_alike_in_short_transfers(_: &Bench) -> Outcome {
    compare(SHORT, 1, 1, 1, 512)
}

fn compare(index: usize, nsid: u32, disks: usize, mdts: u8, block: usize) -> Outcome {
    // Both begin with what other cases have left on QEMU's.
    let image = tempfile::NamedTempFile::new()?;
    copy(&mut File::open(disk(index, nsid, disks)?)?, image.as_file())?;

    let namespace = ModelNamespace::new(Storage::file(image.path())?).block_shift(block.ilog2() as u8);
    let config = ModelConfig { mdts, ..ModelConfig::new(vec![namespace]) };
    let device = Device::on(Arc::new(Model::stepped("model:twin", config)))?;
    let of_model = run(Rig::new(Ring::builder(DEPTH as u32).open_device(&device, 1)?), block)?;
    drop(device);
    let of_qemu = run(zoo::open(index, nsid, zoo::polled(DEPTH as u32))?, block)?;

    for (model, qemu) in of_model.iter().zip(&of_qemu) {
        assert_eq!(model, qemu, "the model's first");
    }
    assert_eq!(of_model.len(), of_qemu.len());
    let kinds = |res: fn(i32) -> bool| of_model.iter().filter(|step| res(step.res)).count();
    assert!(kinds(|res| res > 0) > 100 && kinds(|res| res == 0) > 10 && kinds(|res| res < 0) > 10, "too uniform");
    same(image.path(), &disk(index, nsid, disks)?)
}

/// What an operation came to.
#[derive(Debug, PartialEq)]
struct Step {
    what: String,
    res: i32,
    /// Of a read.
    data: Option<u64>,
}

/// The program of one seed, which is the same for every device of the same size and blocks.
fn run(mut rig: Rig, block: usize) -> Result<Vec<Step>, Stop> {
    let window = rig.size() / DEPTH as u64;
    let plain = rig.plain(DEPTH * MOST);
    let fixed = rig.plain(DEPTH * MOST);
    rig.register(&[&fixed])?;
    let mut dice = Dice(0x7477_696e ^ block as u64);
    let mut steps = Vec::new();
    for batch in 0..BATCHES {
        let mut entries = Vec::new();
        let mut drawn = Vec::new();
        for slot in 0..DEPTH {
            let (begin, end) = (slot as u64 * window, (slot as u64 + 1) * window);
            let memory = [&plain, &fixed].map(|memory| memory.part(slot * MOST, MOST));
            let (what, entry, reads) = draw(&mut rig, &mut dice, block, begin..end, &memory, batch);
            entries.push(entry);
            drawn.push((what, reads));
        }
        for (res, (what, reads)) in rig.all(&entries)?.into_iter().zip(drawn) {
            let data = reads.map(|memory| hash(&memory.read()[..res.max(0) as usize]));
            steps.push(Step { what, res, data });
        }
        rig.forget_iovecs();
    }
    Ok(steps)
}

/// One operation inside `range`, or one that must be refused; its memory when it is a read.
fn draw(
    rig: &mut Rig,
    dice: &mut Dice,
    block: usize,
    range: std::ops::Range<u64>,
    [plain, fixed]: &[Memory; 2],
    batch: u64,
) -> (String, Entry, Option<Memory>) {
    let kind = dice.below(13);
    // Mostly short; a page less or more in the middle of one; rarely as long as can be.
    let most = [8, 64, MOST / block - 1][[0, 0, 0, 1, 1, 2][dice.below(6)]];
    let len = (1 + dice.below(most)) * block;
    // Mostly close together, so that operations meet what others have left.
    let room = ((range.end - range.start) as usize - len).min([HOT, HOT, HOT, usize::MAX][dice.below(4)]);
    let offset = range.start + (dice.below(room / block + 1) * block) as u64;
    let skew = 4 * dice.below(block / 4);
    let memory = if kind.is_multiple_of(2) { plain.part(skew, len) } else { fixed.part(skew, len) };
    let is_read = matches!(kind, 0..=2);
    memory.write(&if is_read { vec![0xee; len] } else { pattern::bytes(batch + 1, offset, len) });
    let what = format!("batch {batch}, kind {kind}: {len} at {offset:#x}, memory {skew} into a page");
    let mut pieces = |rig: &mut Rig| {
        let first = 4 * dice.below(len / 4 + 1);
        let second = 4 * dice.below((len - first) / 4 + 1);
        let cuts = [(0, first), (first, second), (first + second, len - first - second)];
        rig.iovecs(&cuts.map(|(at, len)| libc::iovec { iov_base: memory.ptr().wrapping_add(at).cast(), iov_len: len }))
    };
    let entry = match kind {
        0 | 1 => read(&memory, offset),
        2 => {
            let array = pieces(rig);
            opcode::Readv::new(FILE, array, 3).offset(offset).build()
        }
        3 | 5 => write_fixed(&memory, 0, offset),
        4 => write(&memory, offset),
        6 => opcode::Write::new(FILE, memory.ptr(), len as u32).offset(offset).rw_flags(libc::RWF_DSYNC).build(),
        7 | 8 => {
            let array = pieces(rig);
            opcode::Writev::new(FILE, array, 3).offset(offset).build()
        }
        9 => discard(offset, len as u64),
        10 => opcode::Fsync::new(FILE).build(),
        11 => {
            let mode = [FALLOC_FL_ZERO_RANGE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE][dice.below(2)];
            opcode::Fallocate::new(FILE, len as u64).offset(offset).mode(mode.cast_signed()).build()
        }
        // What is refused, and a transfer that reaches beyond the end.
        _ => match dice.below(4) {
            0 => write(&memory.part(0, len - 4), offset),
            1 => write(&memory, offset + 4),
            2 => discard(offset + 4, len as u64),
            _ => write(&memory, if range.end == rig.size() { range.end - block as u64 } else { u64::MAX / 2 }),
        },
    };
    (what, entry, is_read.then_some(memory))
}

fn discard(offset: u64, len: u64) -> Entry {
    let (off, flags) = (BLOCK_URING_CMD_DISCARD.into(), dmaring::abi::op::IOSQE_FIXED_FILE);
    Sqe { opcode: 46, flags, off, addr: offset, addr3: len, ..Sqe::default() }.into()
}

/// Splitmix64, so that the program is the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % end as u64) as usize
    }
}

/// FNV-1a.
fn hash(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// The kernel's block device of a namespace, given back to the kernel for it.
fn disk(index: usize, nsid: u32, disks: usize) -> Result<PathBuf, Stop> {
    let function = zoo::unbind(index, disks)?;
    let disk = function.block_devices.iter().find(|disk| disk.nsid == Some(nsid));
    let disk = disk.ok_or_else(|| Stop::Fail(format!("no namespace {nsid}")))?;
    Ok(format!("/dev/{}", disk.name).into())
}

/// Copies all of `from`; zeroes become holes.
fn copy(from: &mut File, to: &File) -> Result<(), Stop> {
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let len = from.read(&mut chunk)?;
        if len == 0 {
            to.set_len(at)?;
            return Ok(());
        }
        if chunk[..len].iter().any(|byte| *byte != 0) {
            to.write_all_at(&chunk[..len], at)?;
        }
        at += len as u64;
    }
}

/// Fails unless both hold the same bytes.
fn same(model: &Path, qemu: &Path) -> Outcome {
    let open = |path: &Path| OpenOptions::new().read(true).open(path);
    let (model, mut qemu) = (open(model)?, open(qemu)?);
    let (mut left, mut right) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut at = 0;
    loop {
        let len = qemu.read(&mut right)?;
        if len == 0 {
            assert_eq!(model.metadata()?.len(), at, "bytes in all");
            return Ok(());
        }
        model.read_exact_at(&mut left[..len], at)?;
        if let Some(byte) = (0..len).find(|i| left[*i] != right[*i]) {
            let bytes = |of: &[u8]| of[byte..(byte + 16).min(len)].to_vec();
            let place = at + byte as u64;
            panic!("at {place:#x} the model has {:02x?}, QEMU {:02x?}", bytes(&left), bytes(&right));
        }
        at += len as u64;
    }
}
