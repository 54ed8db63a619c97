//! A program written for the io-uring crate, moved over by its constructor.
//!
//! It reads a device once from end to end, 32 reads of 64 KiB in flight, and prints a checksum. With
//! the io-uring crate `main` began with `IoUring::new(32)` and a file; the rest is as it was.
//!
//! `cargo run --example io_uring_program -- pci:0000:00:04.0` (or any path)

#![expect(unsafe_code)] // pushing an entry promises that its buffer outlives the operation

use std::io;

use anyhow::Context;
use dmaring::{CompletionMode, Ring};
use io_uring::{opcode, types};

const DEPTH: usize = 32;
const CHUNK: usize = 64 << 10;

fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).context("which device? give pci:0000:00:04.0, model:256MiB, or a path")?;
    // Was: let mut ring = IoUring::new(32)?; let file = File::open(&name)?;
    let mut ring = Ring::builder(DEPTH as u32).completion(CompletionMode::Interrupt).open(&name)?;
    let size = ring.target().size_bytes;
    let file = types::Fixed(0);

    // Plain memory works on a device as well (copied, and counted); this is used in place.
    let mut buffers = (0..DEPTH).map(|_| ring.alloc(CHUNK)).collect::<Result<Vec<_>, _>>()?;
    let mut data = vec![0u8; CHUNK];
    let mut free: Vec<usize> = (0..DEPTH).collect();
    let mut next = 0u64;
    let (mut sum, mut done) = (0u64, 0u64);

    let (submitter, mut sq, mut cq) = ring.split();
    while done < size {
        while next < size
            && let Some(index) = free.pop()
        {
            let buffer = buffers[index].as_mut_ptr();
            let read = opcode::Read::new(file, buffer, CHUNK as u32).offset(next).build().user_data(index as u64);
            // SAFETY: each buffer has one read in flight and is looked at after its completion only.
            unsafe { sq.push(&read).context("the submission queue is full")? };
            next += CHUNK as u64;
        }
        sq.sync();
        submitter.submit_and_wait(1)?;
        sq.sync();
        cq.sync();
        for completion in &mut cq {
            let index = completion.user_data() as usize;
            let read =
                usize::try_from(completion.result()).map_err(|_| io::Error::from_raw_os_error(-completion.result()))?;
            buffers[index].read(0, &mut data[..read]);
            sum = data[..read].iter().fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte)));
            done += read as u64;
            free.push(index);
        }
    }
    println!("{done} bytes, checksum {sum:#x}");
    Ok(())
}
