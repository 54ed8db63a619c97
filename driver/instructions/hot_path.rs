//! Instructions of a batch on its way down and up, counted by Callgrind on the stepped model: the same
//! number each time on one machine, and no emulated guest in between. For those who change the hot path;
//! what an I/O costs in all is counted by `dmaring vm compare --count`.
//!
//! ```text
//! apt-get install valgrind && cargo install gungraun-runner --version 0.20.0     once
//! cargo bench -p dmaring-instructions
//! ```
//! Each figure is of one batch of 1 or 32 entries, with the call: divide by the entries. A second run
//! shows the difference to the first.
//!
//! | benchmark | what runs |
//! |---|---|
//! | `push` | the program's side: entries built by the io-uring crate, written into the ring |
//! | `submit` | the straight line: registered reads become commands |
//! | `reap` | completions of the straight line become CQEs |
//! | `decode` | NOPs that ask for a result: the general path's checks, and nothing else |
//! | `general` | plain reads into memory of the ring: decoded, made requests, made commands |
//! | `finish` | completions of the general path become CQEs |

#![expect(unsafe_code)] // pushes entries whose buffers it owns
#![expect(missing_docs)] // the macros make public items

use std::hint::black_box;
use std::sync::Arc;

use dmaring::model::{Model, ModelConfig, ModelNamespace, Storage};
use dmaring::{Device, DmaBuf, Ring};
use gungraun::{library_benchmark, library_benchmark_group, main};
use io_uring::{opcode, squeue, types};

const BLOCK: usize = 4096;
const MOST: usize = 32;

/// A ring on a stepped model of nothing, with a registered buffer.
struct Rig {
    ring: Ring,
    model: Model,
    base: *mut u8,
    _buffer: DmaBuf,
}

impl Rig {
    fn new() -> Self {
        let config = ModelConfig::new(vec![ModelNamespace::new(Storage::null(1 << 30))]);
        let model = Model::stepped("model:instructions", config);
        let device = Device::on(Arc::new(model.clone())).expect("a model");
        let ring = Ring::builder(MOST as u32).open_device(&device, 1).expect("a ring");
        let mut buffer = ring.alloc(MOST * BLOCK).expect("a buffer");
        let base = buffer.as_mut_ptr();
        let iovec = libc::iovec { iov_base: base.cast(), iov_len: MOST * BLOCK };
        // SAFETY: the buffer is dropped after the ring.
        unsafe { ring.submitter().register_buffers(&[iovec]) }.expect("registered");
        let mut rig = Self { ring, model, base, _buffer: buffer };
        // Whatever happens only once happens here.
        for _ in 0..8 {
            for entry in [Rig::registered, Rig::plain, Rig::nop] {
                rig.push(MOST, entry);
                rig.ring.submit_and_wait(MOST).expect("submitted");
                assert_eq!(rig.ring.completion().count(), MOST);
            }
        }
        rig
    }

    fn registered(&self, i: usize) -> squeue::Entry {
        let at = self.base.wrapping_add(i * BLOCK);
        opcode::ReadFixed::new(types::Fixed(0), at, BLOCK as u32, 0).offset((i * BLOCK) as u64).build()
    }

    fn plain(&self, i: usize) -> squeue::Entry {
        let at = self.base.wrapping_add(i * BLOCK);
        opcode::Read::new(types::Fixed(0), at, BLOCK as u32).offset((i * BLOCK) as u64).build()
    }

    fn nop(&self, _: usize) -> squeue::Entry {
        let sqe = dmaring::abi::entry::Sqe { op_flags: 1, len: 7, ..dmaring::abi::entry::Sqe::default() };
        sqe.into()
    }

    #[inline]
    fn push(&mut self, count: usize, entry: impl Fn(&Self, usize) -> squeue::Entry) {
        for i in 0..count {
            let entry = entry(self, i).user_data(i as u64);
            // SAFETY: the buffer outlives the ring.
            unsafe { self.ring.submission().push(&entry) }.expect("room");
        }
    }

    fn pushed(count: usize, entry: impl Fn(&Self, usize) -> squeue::Entry) -> Self {
        let mut rig = Self::new();
        rig.push(count, entry);
        rig
    }

    fn completed(count: usize, entry: impl Fn(&Self, usize) -> squeue::Entry) -> Self {
        let rig = Self::pushed(count, entry);
        rig.ring.submit().expect("submitted");
        rig.model.step();
        rig
    }
}

fn with_registered(count: usize) -> Rig {
    Rig::pushed(count, Rig::registered)
}

fn with_plain(count: usize) -> Rig {
    Rig::pushed(count, Rig::plain)
}

fn with_nops(count: usize) -> Rig {
    Rig::pushed(count, Rig::nop)
}

fn with_registered_completed(count: usize) -> Rig {
    Rig::completed(count, Rig::registered)
}

fn with_plain_completed(count: usize) -> Rig {
    Rig::completed(count, Rig::plain)
}

#[library_benchmark]
#[bench::all(Rig::new())]
fn push(mut rig: Rig) -> Rig {
    let base = rig.base;
    let mut queue = rig.ring.submission();
    for i in 0..MOST {
        let at = base.wrapping_add(i * BLOCK);
        let entry = opcode::ReadFixed::new(types::Fixed(0), at, BLOCK as u32, 0).offset((i * BLOCK) as u64).build();
        // SAFETY: never submitted.
        let _ = black_box(unsafe { queue.push(&entry.user_data(i as u64)) });
    }
    drop(queue);
    rig
}

#[library_benchmark]
#[benches::batch(args = [1, 32], setup = with_registered)]
fn submit(rig: Rig) -> Rig {
    let _ = black_box(rig.ring.submit());
    rig
}

#[library_benchmark]
#[benches::batch(args = [1, 32], setup = with_registered_completed)]
fn reap(mut rig: Rig) -> Rig {
    black_box(rig.ring.completion().len());
    rig
}

#[library_benchmark]
#[benches::batch(args = [1, 32], setup = with_nops)]
fn decode(rig: Rig) -> Rig {
    let _ = black_box(rig.ring.submit());
    rig
}

#[library_benchmark]
#[benches::batch(args = [1, 32], setup = with_plain)]
fn general(rig: Rig) -> Rig {
    let _ = black_box(rig.ring.submit());
    rig
}

#[library_benchmark]
#[benches::batch(args = [1, 32], setup = with_plain_completed)]
fn finish(mut rig: Rig) -> Rig {
    black_box(rig.ring.completion().len());
    rig
}

library_benchmark_group!(name = hot_path, benchmarks = [push, submit, reap, decode, general, finish]);
main!(library_benchmark_groups = [hot_path]);
