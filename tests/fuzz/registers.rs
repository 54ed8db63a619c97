//! `io_uring_register(2)`: random and half-sensible calls, with entries between them.

use std::time::Duration;

use dmaring::abi::flags::{IORING_SETUP_R_DISABLED, IORING_SETUP_SINGLE_ISSUER};
use io_uring::squeue::EntryMarker;
use nix::sys::eventfd::EventFd;
use std::os::fd::AsRawFd;

use super::lab::{Lab, Outcome, Slot, Target};
use super::ledger::is_errno;
use super::program::Program;
use crate::support::calls::{self, fields};
use crate::support::control::{Table, Update};
use crate::support::pattern::Random;
use crate::support::rig::Completion;

/// Calls that make, change and unmake tables of buffers and files.
const TABLES: [u32; 10] = [0, 1, 2, 3, 3, 13, 13, 14, 15, 16];

#[derive(Debug)]
pub(super) struct Registers;

impl Target for Registers {
    fn setup_flags(&self, random: &mut Random) -> u32 {
        match random.below(4) {
            0 => IORING_SETUP_R_DISABLED,
            1 => IORING_SETUP_SINGLE_ISSUER,
            _ => 0,
        }
    }

    fn run<S: Slot, C: Completion>(&self, lab: &mut Lab<S, C>, program: &mut Program<'_>) -> Outcome {
        let event = EventFd::new().map_err(|error| error.to_string())?;
        program.files.push(event.as_raw_fd());
        let disabled = lab.rig.ring.params().flags & IORING_SETUP_R_DISABLED != 0;
        for _ in 0..=program.below(30) {
            call(lab, program)?;
            if program.one_in(4) {
                let count = program.below(6);
                lab.push(program, count);
            }
            if program.one_in(4) {
                let limit = Duration::from_micros(program.below(500));
                lab.wait(program, 1, limit);
                lab.take(program)?;
            }
        }
        if disabled {
            // ENABLE_RINGS, if nobody has done it.
            calls::register(&lab.rig.ring, calls::REGISTER_ENABLE_RINGS, 0, 0);
        }
        // What is pending is cancelled only where the restrictions of the round allow it; nothing lasts.
        program.ledger.forgive_all();
        lab.quiesce(program)
    }
}

/// One call of either ring, and a look at its answer.
fn call<S: EntryMarker, C: Completion>(lab: &Lab<S, C>, program: &mut Program<'_>) -> Outcome {
    let (opcode, mut address, mut count) = argument(program);
    match program.below(12) {
        0 => address = program.bad_address(),
        1 => count = program.pick(&[0, 1, 2, 16, 17, 32, 1000, 1 << 14, 1 << 20, 1 << 31, u32::MAX]),
        _ => {}
    }
    let opcode = match program.below(30) {
        0 => program.below(40) as u32,
        1 => opcode | 1 << 31,
        2 => program.word() as u32,
        _ => opcode,
    };
    let answer = match &lab.other {
        Some(other) if program.one_in(4) => calls::register(other, opcode, address, count),
        _ => calls::register(&lab.rig.ring, opcode, address, count),
    };
    if answer >= 0 || is_errno(-answer) {
        return Ok(());
    }
    Err(format!("register {opcode} ({address:#x}, {count}) answers {answer}, which the kernel does not"))
}

/// An opcode, the address of what it takes, and the count.
fn argument(program: &mut Program<'_>) -> (u32, u64, u32) {
    // Tables take more than one call until something becomes of them.
    let opcode = if program.one_in(2) { program.pick(&TABLES) } else { program.below(36) as u32 };
    let small = program.below(6) as u32;
    let (bytes, count): (Vec<u8>, u32) = match opcode {
        // UNREGISTER_*, PERSONALITY, ENABLE_RINGS.
        1 | 3 | 5 | 9 | 10 | 12 => return (opcode, 0, 0),
        0 => (iovecs(program, small), small),
        2 => return (opcode, program.descriptors(), small),
        4 | 7 => (program.descriptor().to_ne_bytes().to_vec(), 1),
        6 => (update(program, small)[..16].to_vec(), small),
        8 => (vec![0; 16 + 8 * 64], program.below(70) as u32),
        11 => {
            let restrictions = (0..small).flat_map(|_| {
                let (kind, value) = (program.below(5) as u16, program.below(64) as u8);
                calls::restriction(kind, value)
            });
            (restrictions.collect(), small)
        }
        13 | 15 => (table(program, opcode, small), 32),
        14 | 16 => (update(program, small), 32),
        20 | 21 => {
            let index = program.pick(&[u32::MAX, 0, 1, 15, 16]);
            let fd = if opcode == 20 { program.descriptor() } else { 0 };
            (calls::rsrc_update(index, 0, u64::from(fd.cast_unsigned())).to_vec(), 1)
        }
        22 | 23 | 26 => {
            let group = program.below(4) as u16;
            (program.new_group(group).to_vec(), 1)
        }
        24 => {
            let flags = program.below(64) as u32;
            let user_data = super::ledger::FIRST + program.below(64);
            let fd = program.descriptor();
            let time = [0u64, 1000].map(u64::to_ne_bytes).concat();
            (
                fields::<64>(&[
                    &user_data.to_ne_bytes(),
                    &fd.to_ne_bytes(),
                    &flags.to_ne_bytes(),
                    &time,
                    &[11],
                    &[0; 31],
                ])
                .to_vec(),
                1,
            )
        }
        29 => (fields::<16>(&[&(program.below(10) as u32).to_ne_bytes(), &[0; 12]]).to_vec(), 0),
        30 => {
            let words =
                [program.descriptor().cast_unsigned(), program.below(4) as u32, small, program.below(6) as u32, small];
            (fields::<32>(&[&words.map(u32::to_ne_bytes).concat(), &[0; 12]]).to_vec(), 1)
        }
        34 => {
            let (first, room) = program.arena.stretch(7);
            let (flags, address) = program.pick(&[(1u32, first), (0, 0), (1, 0)]);
            let size = program.pick(&[room, 4096, 0, 1 << 40]);
            // The description is written to, and so the argument points at another one.
            let words = [size, u64::from(flags), 0];
            let desc = fields::<64>(&[&address.to_ne_bytes(), &words.map(u64::to_ne_bytes).concat(), &[0; 32]]);
            let desc = program.arena.argument(&desc);
            (fields::<32>(&[&desc.to_ne_bytes(), &program.below(3).to_ne_bytes(), &[0; 16]]).to_vec(), 1)
        }
        35 => {
            let answer = program.arena.argument(&[0; 64]);
            let size = program.pick(&[48u32, 8, 4096, 0]).to_ne_bytes();
            (fields::<40>(&[&[0; 8], &answer.to_ne_bytes(), &[0; 4], &size, &[0; 16]]).to_vec(), 0)
        }
        _ => (vec![0; 64], 1),
    };
    (opcode, program.arena.argument(&bytes), count)
}

fn iovecs(program: &mut Program<'_>, count: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..count {
        let (address, len) = match program.below(8) {
            0 => (0, 0),
            1 => (program.bad_address(), 4096),
            2 => (program.arena.stretch(0).0, 1 << 31),
            _ => program.buffer(),
        };
        bytes.extend([address, len].map(u64::to_ne_bytes).concat());
    }
    bytes
}

fn tags(program: &mut Program<'_>) -> u64 {
    if !program.one_in(3) {
        return 0;
    }
    let mut bytes = Vec::new();
    for _ in 0..8 {
        let tag = if program.one_in(2) { 0 } else { program.ledger.fresh() };
        if tag != 0 {
            // One for each resource that has it, and each may be registered several times.
            program.ledger.expect(tag, 0, 64, false);
        }
        bytes.extend(tag.to_ne_bytes());
    }
    program.arena.argument(&bytes)
}

fn data(program: &mut Program<'_>, files: bool, count: u32) -> u64 {
    match program.below(6) {
        0 => 0,
        1 => program.bad_address(),
        _ if files => program.descriptors(),
        _ => {
            let bytes = iovecs(program, count);
            program.arena.argument(&bytes)
        }
    }
}

fn table(program: &mut Program<'_>, opcode: u32, small: u32) -> Vec<u8> {
    let data = data(program, opcode == 13, small);
    let nr = if program.one_in(8) { program.pick(&[1 << 14, 1 << 20, u32::MAX]) } else { small };
    let (tags, flags) = (tags(program), program.pick(&[0, 0, 0, 1, 2]));
    Table { nr, flags, resv2: 0, data, tags }.bytes()
}

fn update(program: &mut Program<'_>, small: u32) -> Vec<u8> {
    let files = program.one_in(2);
    let data = data(program, files, small);
    let offset = if program.one_in(8) { program.pick(&[u32::MAX, 1 << 20]) } else { program.below(4) as u32 };
    let tags = tags(program);
    Update { offset, resv: 0, data, tags, nr: small, resv2: 0 }.bytes()
}
