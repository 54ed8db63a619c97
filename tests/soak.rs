//! A soak: writes, reads back and verifies a given number of bytes, at mixed sizes and alignments, from
//! and into memory of all kinds.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use dmaring::{CompletionMode, Ring};
use dmaring_dma::sysfs::{BindOptions, Sysfs};
use dmaring_qemu::{Controller, Namespace, Storage, Vm};
use io_uring::opcode;
use io_uring::squeue::Entry;

use crate::case::{Stop, fail};
use crate::support::pattern::{self, Random};
use crate::support::raw::Memory;
use crate::support::rig::{FILE, Rig, read, read_fixed, write, write_fixed};

/// Operations of a round, each in a stretch of the device of its own.
const LANES: usize = 24;
const LANE_BYTES: usize = 2 << 20;
/// First argument that makes the program the soak of a device rather than what boots a guest for it.
const DEVICE: &str = "--device";
const TOTAL: &str = "--total";
const GIB: u64 = 1 << 30;

/// What a soak did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Soaked {
    pub(crate) bytes: u64,
    pub(crate) operations: u64,
    pub(crate) bounced_bytes: u64,
    pub(crate) elapsed: Duration,
}

/// Memory of three kinds for the lanes.
struct Kinds {
    own: Memory,
    plain: Memory,
    fixed: Memory,
}

impl Kinds {
    /// An operation on `len` bytes at `offset` in memory of a random kind, at a random alignment, and
    /// the parts of that memory in the order of the data.
    fn operation(
        &self,
        rig: &mut Rig,
        random: &mut Random,
        lane: usize,
        (offset, len): (u64, usize),
        writes: bool,
    ) -> (Entry, Vec<Memory>) {
        let room = LANE_BYTES + 4096;
        let start = match random.below(3) {
            0 => 0,
            1 => 512 * random.below(8) as usize,
            _ => 4 * random.below(1024) as usize,
        };
        let part = |memory: &Memory| memory.part(lane * room + start, len);
        match random.below(4) {
            0 => {
                let memory = part(&self.fixed);
                let entry = if writes { write_fixed(&memory, 0, offset) } else { read_fixed(&memory, 0, offset) };
                (entry, vec![memory])
            }
            1 => {
                let source = [&self.own, &self.plain, &self.fixed][random.below(3) as usize];
                let memory = part(source);
                // Up to 20 segments of whole dwords, backwards in memory.
                let count = (1 + random.below(20) as usize).min(len / 4);
                let each = len / count / 4 * 4;
                let mut parts: Vec<Memory> = (0..count - 1).map(|i| memory.part(len - (i + 1) * each, each)).collect();
                parts.push(memory.part(0, len - (count - 1) * each));
                let iovecs: Vec<_> = parts.iter().map(Memory::iovec).collect();
                let (base, count) = (rig.iovecs(&iovecs), iovecs.len() as u32);
                let entry = if writes {
                    opcode::Writev::new(FILE, base, count).offset(offset).build()
                } else {
                    opcode::Readv::new(FILE, base, count).offset(offset).build()
                };
                (entry, parts)
            }
            kind => {
                let memory = part(if kind == 2 { &self.own } else { &self.plain });
                (if writes { write(&memory, offset) } else { read(&memory, offset) }, vec![memory])
            }
        }
    }
}

/// Writes `total_bytes` to a device and verifies each of them.
pub(crate) fn soak(name: &str, mode: CompletionMode, total_bytes: u64, seed: u64) -> Result<Soaked, Stop> {
    let start = Instant::now();
    let mut random = Random::new(seed);
    let mut rig = Rig::new(Ring::builder(16).completion(mode).open(name)?);
    let room = LANES * (LANE_BYTES + 4096) + 4096;
    let kinds = Kinds { own: rig.alloc(room)?, plain: rig.plain(room), fixed: rig.plain(room) };
    rig.register(&[&kinds.fixed])?;
    let block = u64::from(rig.ring.target().block_bytes);
    let stretch = rig.size() / LANES as u64 / block * block;
    let (mut bytes, mut operations, mut round) = (0, 0, 0);
    while bytes < total_bytes {
        round += 1;
        let ranges: Vec<(u64, usize)> = (0..LANES as u64)
            .map(|lane| {
                let most = [8, 64, 256, LANE_BYTES as u64 / block][random.below(4) as usize].min(stretch / block);
                let len = block * (1 + random.below(most));
                let offset = lane * stretch + block * random.below((stretch - len) / block + 1);
                (offset, len as usize)
            })
            .collect();
        let expected: Vec<i32> = ranges.iter().map(|(_, len)| *len as i32).collect();
        let mut entries = Vec::new();
        for (lane, range) in ranges.iter().enumerate() {
            let (entry, parts) = kinds.operation(&mut rig, &mut random, lane, *range, true);
            let mut offset = range.0;
            for part in parts {
                part.write(&pattern::bytes(seed ^ round, offset, part.len()));
                offset += part.len() as u64;
            }
            entries.push(entry);
        }
        check("write", &ranges, rig.all(&entries)?, &expected)?;
        entries.clear();
        let mut read_into = Vec::new();
        for (lane, range) in ranges.iter().enumerate() {
            let (entry, parts) = kinds.operation(&mut rig, &mut random, lane, *range, false);
            parts.iter().for_each(|part| part.write(&vec![0xee; part.len()]));
            read_into.push(parts);
            entries.push(entry);
        }
        check("read", &ranges, rig.all(&entries)?, &expected)?;
        for ((mut offset, len), parts) in ranges.iter().copied().zip(read_into) {
            for part in parts {
                pattern::check(seed ^ round, offset, &part.read());
                offset += part.len() as u64;
            }
            bytes += len as u64;
        }
        operations += 2 * LANES as u64;
        rig.forget_iovecs();
    }
    Ok(Soaked { bytes, operations, bounced_bytes: rig.ring.stats().bounced_bytes, elapsed: start.elapsed() })
}

fn check(what: &str, ranges: &[(u64, usize)], results: Vec<i32>, expected: &[i32]) -> Result<(), Stop> {
    match (0..ranges.len()).find(|i| results[*i] != expected[*i]) {
        None => Ok(()),
        Some(i) => fail(format!("{what} of {} bytes at {:#x}: {}", ranges[i].1, ranges[i].0, results[i])),
    }
}

/// The program: `soak [--total BYTES] [--device NAME]`. Without a device it boots a guest with one.
pub fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(Stop::Fail(reason) | Stop::Skip(reason)) => {
            eprintln!("soak: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Stop> {
    let (mut total, mut device) = (GIB, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        match argument.as_str() {
            TOTAL => total = parse_size(&value)?,
            DEVICE => device = Some(value),
            other => return fail(format!("unknown argument {other}; usage: soak [{TOTAL} 1GiB] [{DEVICE} pci:…]")),
        }
    }
    let Some(device) = device else { return in_guest(total) };
    // The guest that was booted for it has its controller on the kernel's driver.
    if std::process::id() != 1 && std::env::var_os(IN_GUEST).is_some() {
        Sysfs::new().bind(device.trim_start_matches("pci:").parse()?, BindOptions::default())?;
    }
    for (i, mode) in [CompletionMode::Poll, CompletionMode::Interrupt].into_iter().enumerate() {
        let soaked = soak(&device, mode, total / 2, 0x50a4 + i as u64)?;
        println!(
            "soak: {device}, {mode:?}: {} bytes written, read back and verified in {} operations, {} bytes of them bounced, {:.1} s",
            soaked.bytes,
            soaked.operations,
            soaked.bounced_bytes,
            soaked.elapsed.as_secs_f32()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Set for the soak in a guest.
const IN_GUEST: &str = "DMARING_SOAK_IN_GUEST";

fn in_guest(total: u64) -> Result<ExitCode, Stop> {
    let namespace = Namespace::new(Storage::Mem { size_bytes: 256 << 20 });
    let vm = Vm::new().controller(Controller::new(vec![namespace])).env(IN_GUEST, "1");
    let device = format!("pci:{}", Vm::controller_address(0));
    let exit = vm.run(["/init", TOTAL, &total.to_string(), DEVICE, &device])?;
    Ok(ExitCode::from(u8::try_from(exit.status()).unwrap_or(1)))
}

/// `1073741824`, `64MiB`, `1GiB`.
fn parse_size(text: &str) -> Result<u64, Stop> {
    let (digits, shift) = match text.strip_suffix("GiB") {
        Some(digits) => (digits, 30),
        None => text.strip_suffix("MiB").map_or((text, 0), |digits| (digits, 20)),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    number.ok_or_else(|| Stop::Fail(format!("`{text}` is no size: write 1GiB, 128MiB or a number of bytes")))
}
