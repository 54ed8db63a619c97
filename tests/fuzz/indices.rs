//! A program that writes what it likes into the memory of its rings, between calls and, from another thread,
//! during them: indices, flags, the index array.

#![expect(unsafe_code)] // writes to ring memory

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use super::lab::{Lab, Outcome, Slot, Target};
use super::program::Program;
use crate::support::pattern::Random;
use crate::support::rig::Completion;

#[derive(Debug)]
pub(super) struct Indices;

/// Words of ring memory.
#[derive(Clone, Debug)]
struct Words {
    rings: NonNull<u8>,
    len: usize,
    offsets: Vec<u32>,
    entries: u32,
}

// SAFETY: its words are only accessed as atomics; the ring outlives the thread that has it.
unsafe impl Send for Words {}

impl Words {
    fn of<S: Slot, C: Completion>(lab: &Lab<S, C>) -> Result<Self, String> {
        let params = lab.rig.ring.params();
        let [(rings, len), _] = lab.rig.ring.ring_memory().ok_or("a device ring has memory")?;
        let (sq, cq) = (params.sq_off, params.cq_off);
        // The indices of the program's side count for more.
        let mut offsets = vec![sq.tail, sq.tail, sq.tail, cq.head, cq.head, cq.head, sq.head, cq.tail];
        offsets.extend([sq.flags, cq.flags, sq.dropped, cq.overflow, sq.ring_mask, cq.ring_mask]);
        offsets.extend([sq.ring_entries, cq.ring_entries]);
        if sq.array != 0 {
            offsets.extend((0..params.sq_entries).map(|i| sq.array + 4 * i));
        }
        Ok(Self { rings, len, offsets, entries: params.sq_entries })
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        assert!(offset as usize + 4 <= self.len && offset.is_multiple_of(4));
        // SAFETY: inside the ring memory, which the lab's ring keeps; everyone accesses it as an atomic.
        unsafe { AtomicU32::from_ptr(self.rings.as_ptr().add(offset as usize).cast()) }
    }

    /// Changes one word.
    fn disturb(&self, random: &mut Random) {
        let word = self.word(self.offsets[random.below(self.offsets.len() as u64) as usize]);
        let now = word.load(Relaxed);
        let value = match random.below(8) {
            0 => now.wrapping_add(1),
            1 => now.wrapping_sub(1),
            2 => now.wrapping_add(self.entries),
            3 => now ^ 1 << random.below(32),
            4 => random.below(2 * u64::from(self.entries)) as u32,
            5 => u32::MAX,
            6 => 0,
            _ => random.below(1 << 32) as u32,
        };
        word.store(value, Relaxed);
    }
}

impl Target for Indices {
    fn setup_flags(&self, _random: &mut Random) -> u32 {
        0
    }

    fn run<S: Slot, C: Completion>(&self, lab: &mut Lab<S, C>, program: &mut Program<'_>) -> Outcome {
        let words = Words::of(lab)?;
        lab.register(program)?;
        let capacity = lab.rig.ring.submission().capacity() as u64;
        // What stands in the ring may be submitted again and again.
        lab.push(program, capacity);
        let stop = AtomicBool::new(false);
        let seed = program.word();
        let at_once = program.one_in(2);
        std::thread::scope(|scope| {
            if at_once {
                let (words, stop) = (words.clone(), &stop);
                scope.spawn(move || {
                    let words = words;
                    let mut random = Random::new(seed);
                    while !stop.load(Relaxed) {
                        words.disturb(&mut random);
                        (0..random.below(200)).for_each(|_| std::hint::spin_loop());
                    }
                });
            }
            for _ in 0..=program.below(40) {
                for _ in 0..program.below(4) {
                    words.disturb(&mut program.random);
                }
                step(lab, program);
            }
            stop.store(true, Relaxed);
        });
        // The program comes to its senses: it has taken everything, and has nothing more to do.
        let params = lab.rig.ring.params();
        let word = |offset| words.word(offset);
        for _ in 0..10_000 {
            lab.cancel(program);
            word(params.cq_off.head).store(word(params.cq_off.tail).load(Relaxed), Relaxed);
            lab.wait_for_events(program);
            if word(params.cq_off.head).load(Relaxed) == word(params.cq_off.tail).load(Relaxed) {
                break;
            }
        }
        Ok(())
    }
}

/// A call of some kind. What it answers is as good as what the program has made of its ring.
fn step<S: Slot, C: Completion>(lab: &mut Lab<S, C>, program: &mut Program<'_>) {
    match program.below(6) {
        0 => {
            let _ = lab.rig.ring.submit();
        }
        1 if !lab.armed => {
            let _ = lab.rig.ring.submit_and_wait(program.below(4) as usize);
        }
        2 => {
            let capacity = lab.rig.ring.submission().capacity();
            // As many as there may be: the indices may say that there are four thousand million.
            lab.rig.ring.completion().take(2 * capacity).for_each(drop);
        }
        3 => lab.rig.ring.completion().sync(),
        _ => {
            let (count, limit) = (program.below(4) as u32, Duration::from_micros(program.below(300)));
            lab.wait(program, count, limit);
        }
    }
}
