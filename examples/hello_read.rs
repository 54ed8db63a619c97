//! Reads the first 4 KiB of a device through a ring, and says where they came from.
//!
//! `cargo run --example hello_read -- pci:0000:00:04.0` (or any path)

#![expect(unsafe_code)] // pushing an entry promises that its buffer outlives the operation

use anyhow::{Context, ensure};
use dmaring::Ring;
use io_uring::{opcode, types};

fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).context("which device? give pci:0000:00:04.0, model:256MiB, or a path")?;
    let builder = Ring::builder(8).completion(dmaring::CompletionMode::Interrupt);
    let mut ring = builder.open(&name)?;

    let mut buffer = ring.alloc(4096)?;
    let read = opcode::Read::new(types::Fixed(0), buffer.as_mut_ptr(), 4096).offset(0).build().user_data(42);
    // SAFETY: the buffer lives until after the completion, and nothing touches it before.
    unsafe { ring.submission().push(&read)? };
    ring.submit_and_wait(1)?;

    let completion = ring.completion().next().context("no completion")?;
    ensure!(completion.user_data() == 42, "somebody else's completion");
    let bytes = completion.result();
    ensure!(bytes >= 0, "read failed: {}", std::io::Error::from_raw_os_error(-bytes));

    let mut start = [0; 16];
    buffer.read(0, &mut start);
    println!("{} bytes of {} through the {} backend: {start:02x?}", bytes, ring.target().name, ring.backend());
    println!("system calls: {}, bounced bytes: {}", ring.stats().system_calls, ring.stats().bounced_bytes);
    Ok(())
}
