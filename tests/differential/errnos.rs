//! The table of what is malformed: one entry, registration or call at a time, each on both sides, whose answers
//! must be the same.
//!
//! Every served opcode is tried as it should be and with one field changed, to each value of a list or bit by bit;
//! every number of a registration with arguments that are null, nowhere, empty, full of zeroes or of ones; every
//! flag of `io_uring_enter` with arguments of several lengths. A row is what was tried and what came of it.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::time::Duration;

use dmaring::abi::entry::Sqe;

use super::pair::apart;
use super::places;
use crate::case::{Bench, Outcome, Stop, fail};
use crate::support::calls::{self, EXT_ARG, GETEVENTS, NOTHING, fields, getevents};
use crate::support::raw::Memory;
use crate::support::rig::Rig;

type Rows = BTreeMap<String, String>;

const FIXED_FILE: u8 = 1;
/// Longer than anything that completes at all takes here.
const LIMIT: Duration = Duration::from_millis(200);

/// Opcodes that are served, and one beyond the last.
const OPCODES: [u8; 23] = [0, 1, 2, 3, 4, 5, 8, 11, 12, 14, 15, 17, 20, 22, 23, 24, 31, 32, 40, 60, 61, 200, 255];

/// Registrations of which the rings of devices know nothing yet: personalities, workers and their processors,
/// slots for files that entries open, NAPI, zero-copy receive.
const UNKNOWN: [u32; 9] = [9, 10, 17, 18, 19, 25, 27, 28, 32];

pub(super) fn malformed_arguments_get_the_same_errno(bench: &Bench) -> Outcome {
    let (_, kernel, other, _disk) = places::of_bench(bench)?;
    kernel.bench.since(6, 18)?;
    let expected = apart(|| table(&kernel.bench))?;
    let got = apart(|| table(&other.bench))?;
    assert!(expected.len() > 3000, "a table of {} rows", expected.len());
    let refused = expected.values().filter(|outcome| outcome.contains('-')).count();
    assert!(refused > expected.len() / 3, "{refused} of {} rows are refusals", expected.len());
    let differ = |(what, outcome): &(&String, &String)| got.get(*what) != Some(*outcome);
    let lines: Vec<String> = expected
        .iter()
        .filter(differ)
        .map(|(what, outcome)| format!("{what}: {outcome} of the kernel, {:?} of the other", got.get(what)))
        .collect();
    if lines.is_empty() { Ok(()) } else { fail(format!("{} rows differ:\n{}", lines.len(), lines.join("\n"))) }
}

fn table(bench: &Bench) -> Result<Rows, Stop> {
    let mut rows = Rows::new();
    for opcode in OPCODES {
        entries(bench, opcode, &mut rows)?;
    }
    for opcode in (0..=40).chain([63, 255]).filter(|opcode| !UNKNOWN.contains(opcode)) {
        for flag in [0, 1 << 31] {
            registrations(bench, opcode | flag, &mut rows)?;
        }
    }
    calls(bench, &mut rows)?;
    Ok(rows)
}

/// A ring with a registered buffer, and what entries name.
struct Ground {
    rig: Rig,
    memory: Memory,
    time: u64,
    vector: u64,
    descriptors: u64,
    size: u64,
}

impl Ground {
    fn new(bench: &Bench) -> Result<Self, Stop> {
        let mut rig = bench.rig(8)?;
        let memory = rig.plain(65536);
        rig.register(&[&memory])?;
        // As long as the longest array that is tried, of what is nothing.
        let tables = rig.plain(65536);
        tables.part(0, 16).write(&fields::<16>(&[&0u64.to_ne_bytes(), &1_000_000u64.to_ne_bytes()]));
        tables.part(16, 16).write(&fields::<16>(&[&memory.address().to_ne_bytes(), &4096u64.to_ne_bytes()]));
        tables.part(32, 16).write(&[0xff; 16]);
        let at = tables.address();
        let size = rig.size();
        Ok(Self { rig, memory, time: at, vector: at + 16, descriptors: at + 32, size })
    }

    /// As it should be.
    fn good(&self, opcode: u8) -> Sqe {
        let at = self.memory.address();
        let file = Sqe { opcode, flags: FIXED_FILE, ..Sqe::default() };
        let plain = Sqe { opcode, ..Sqe::default() };
        match opcode {
            1 | 2 | 60 | 61 => Sqe { addr: self.vector, len: 1, off: 4096, ..file },
            4 | 5 | 22 | 23 => Sqe { addr: at, len: 4096, off: 4096, ..file },
            3 | 8 => file,
            11 => Sqe { addr: self.time, len: 1, ..plain },
            15 => Sqe { addr: self.time, len: 1, ..plain },
            12 | 14 => Sqe { addr: 0x404, ..plain },
            // The whole device in zeroes would take long; the length stands in `addr`.
            17 => Sqe { addr: 4096, len: 3, off: 8192, ..file },
            20 => Sqe { addr: self.descriptors, len: 1, off: 1, ..plain },
            24 => Sqe { len: 4096, ..file },
            31 => Sqe { addr: at, len: 512, fd: 4, ..plain },
            32 => Sqe { fd: 1, ..plain },
            40 => Sqe { fd: self.rig.ring.as_raw_fd(), off: 0x777, len: 5, ..plain },
            _ => plain,
        }
    }

    /// Submits an entry alone. Answers how many were submitted and what completed.
    fn run(&mut self, sqe: Sqe) -> Result<String, Stop> {
        self.rig.push(&Sqe { user_data: 0x5e, ..sqe }.into())?;
        let submitted = calls::enter(&self.rig.ring, 1, 0, 0, NOTHING);
        let mut done = self.wait();
        // An update or a message has a second one; whatever comes late is not of the next entry.
        while submitted == 1 && !done.is_empty() && done.len() < 8 {
            let more = self.rig.ready();
            if more.is_empty() {
                break;
            }
            done.extend(more);
        }
        let mut told: Vec<_> = done.iter().map(|d| (d.user_data, d.res, d.flags)).collect();
        told.sort_unstable();
        Ok(format!("{submitted} submitted, {told:x?}"))
    }

    fn wait(&mut self) -> Vec<crate::support::rig::Done> {
        let nanos = LIMIT.as_nanos() as u64;
        let memory = Memory::plain(16);
        memory.write(&fields::<16>(&[&0u64.to_ne_bytes(), &nanos.to_ne_bytes()]));
        let argument = getevents(0, 0, 0, memory.address());
        let ready = self.rig.ready();
        if ready.is_empty() {
            calls::enter(&self.rig.ring, 0, 1, GETEVENTS | EXT_ARG, Some(&argument));
            return self.rig.ready();
        }
        ready
    }
}

/// What an entry may be made of by one change.
fn changes(opcode: u8, good: &Sqe, size: u64) -> Vec<(String, Sqe)> {
    let mut all = vec![("as it should be".to_owned(), *good)];
    let mut add = |what: String, sqe: Sqe| all.push((what, sqe));
    // A chain, a drain and silence are no mistakes; a group of buffers that is not there is one. Descriptors of
    // other files are not served yet.
    for bit in [4, 5, 7] {
        add(format!("flags ^ {:#x}", 1 << bit), Sqe { flags: good.flags ^ 1 << bit, ..*good });
    }
    for value in [1, 8, 0x2000, 0x8000, 0xe000, 0xffff] {
        add(format!("ioprio {value:#x}"), Sqe { ioprio: value, ..*good });
    }
    for value in [-1, -2, 99, i32::MAX, i32::MIN] {
        add(format!("fd {value}"), Sqe { fd: value, ..*good });
    }
    // A count of completions that do not come, and what waits for ever, is no mistake.
    let last = [size, size - 512, u64::MAX, u64::MAX - 511, 1 << 63, i64::MAX as u64 - 511, 1, 511];
    for value in last.into_iter().filter(|_| opcode != 11) {
        add(format!("off {:#x}", value.wrapping_sub(size) as i64), Sqe { off: value, ..*good });
    }
    for value in [0, 8, 1 << 47, (1 << 47) - 8, 1 << 63, u64::MAX - 4095, u64::MAX] {
        // Lengths of ranges of the device; the kernel takes its time over long ones.
        add(format!("addr {value:#x}"), Sqe { addr: value, ..*good });
    }
    // Memory ends somewhere, and what is behind it is this program's.
    let lens = [0, 1, 2, 3, 511, 513, 1 << 31, u32::MAX];
    for value in lens.into_iter().filter(|len| *len < 1 << 31 || !matches!(opcode, 22 | 23)) {
        add(format!("len {value:#x}"), Sqe { len: value, ..*good });
    }
    for bit in 0..32 {
        // A multishot timeout of a millisecond would go on and on.
        if opcode != 11 || bit != 6 {
            add(format!("op_flags {:#x}", 1u32 << bit), Sqe { op_flags: 1 << bit, ..*good });
        }
    }
    for value in [1, 99, u16::MAX] {
        add(format!("buf_index {value}"), Sqe { buf_index: value, ..*good });
        add(format!("personality {value}"), Sqe { personality: value, ..*good });
    }
    for value in [1, 99, 256, u32::MAX] {
        add(format!("file_index {value}"), Sqe { file_index: value, ..*good });
    }
    for value in [1, 1 << 63, u64::MAX] {
        add(format!("addr3 {value:#x}"), Sqe { addr3: value, ..*good });
        add(format!("last word {value:#x}"), Sqe { attr_type_mask: value, ..*good });
    }
    all
}

fn entries(bench: &Bench, opcode: u8, rows: &mut Rows) -> Outcome {
    let mut ground = Ground::new(bench)?;
    let good = ground.good(opcode);
    for (number, (what, sqe)) in changes(opcode, &good, ground.size).into_iter().enumerate() {
        // What one entry leaves behind must not decide about many others.
        if number % 16 == 15 {
            ground = Ground::new(bench)?;
        }
        let base = ground.good(opcode);
        // Addresses are another ring's.
        let moved = |now: u64, then: u64, new: u64| if now == then { new } else { now };
        let sqe = Sqe {
            addr: moved(sqe.addr, good.addr, base.addr),
            fd: if sqe.fd == good.fd { base.fd } else { sqe.fd },
            ..sqe
        };
        let outcome = ground.run(sqe)?;
        rows.insert(format!("opcode {opcode}, {what}"), outcome);
    }
    Ok(())
}

fn registrations(bench: &Bench, opcode: u32, rows: &mut Rows) -> Outcome {
    let arguments: [(&str, Option<u8>); 2] = [("zeroes", Some(0)), ("ones", Some(0xff))];
    let addresses = [("null", 0), ("nowhere", 1u64 << 47)].map(|(what, address)| (what, None, address));
    let filled = arguments.map(|(what, byte)| (what, byte, 0));
    for (what, byte, address) in addresses.into_iter().chain(filled) {
        for count in [0, 1, 2, 64, u32::MAX] {
            let mut rig = bench.rig(8)?;
            let memory = rig.plain(65536);
            let address = byte.map_or(address, |byte| {
                memory.write(&[byte; 65536]);
                memory.address()
            });
            let answer = calls::register(&rig.ring, opcode, address, count);
            // Descriptors have numbers of their own.
            let answer = if answer > 0 { "above 0".to_owned() } else { answer.to_string() };
            rows.insert(format!("register {opcode:#x}, {what}, {count}"), answer);
        }
    }
    Ok(())
}

fn calls(bench: &Bench, rows: &mut Rows) -> Outcome {
    for bit in (0..32).map(|bit| 1u32 << bit).chain([0, GETEVENTS | EXT_ARG]) {
        for (submit, want) in [(0, 0), (1, 0), (1, 1)] {
            let mut rig = bench.rig(8)?;
            rig.push(&io_uring::opcode::Nop::new().build())?;
            let mut row = |what: &str, answer: i32| {
                rows.insert(format!("enter {bit:#x}, {submit}, {want}, {what}"), answer.to_string());
            };
            row("nothing", calls::enter(&rig.ring, submit, want, bit, NOTHING));
            row("zeroes", calls::enter(&rig.ring, submit, want, bit, Some(&[0u8; 24])));
            row("ones", calls::enter(&rig.ring, submit, want, bit, Some(&[0xffu8; 24])));
            row("short", calls::enter(&rig.ring, submit, want, bit, Some(&[0u8; 8])));
            row("long", calls::enter(&rig.ring, submit, want, bit, Some(&[0u8; 64])));
            row("nowhere", calls::enter(&rig.ring, submit, want, bit, Some(&getevents(0, 0, 0, 1 << 47))));
            row("a mask of 3", calls::enter(&rig.ring, submit, want, bit, Some(&getevents(8, 3, 0, 0))));
        }
    }
    Ok(())
}
