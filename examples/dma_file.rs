//! A device as ordinary code sees a file.
//!
//! `sum` below knows nothing of rings: it takes whatever has positioned reads. A `DmaFile` has, on a
//! device of its own, with no system call for each.
//!
//! `cargo run --example dma_file -- pci:0000:00:04.0` (or any path)

use std::io;
use std::os::unix::fs::FileExt;

use anyhow::Context;
use dmaring::DmaFile;

/// Adds up all bytes.
fn sum(file: &impl FileExt) -> io::Result<(u64, u64)> {
    // An odd length on purpose: no alignment is asked of anyone.
    let mut buffer = vec![0; 100_001];
    let (mut at, mut sum) = (0u64, 0u64);
    loop {
        let read = file.read_at(&mut buffer, at)?;
        if read == 0 {
            return Ok((at, sum));
        }
        sum = buffer[..read].iter().fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte)));
        at += read as u64;
    }
}

fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).context("which device? give pci:0000:00:04.0, model:256MiB, or a path")?;
    let file = DmaFile::open(&name)?;
    let (bytes, sum) = sum(&file)?;
    println!("{bytes} bytes of {}, checksum {sum:#x}", file.target().name);
    Ok(())
}
