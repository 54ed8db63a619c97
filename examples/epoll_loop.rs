//! The same ring in an event loop: one epoll waits for the device and for a timer.
//!
//! The ring's descriptor is readable whenever its completion queue is, or may be, non-empty; asking for
//! it arms the device's interrupt, so the thread sleeps in between.
//!
//! `cargo run --example epoll_loop -- pci:0000:00:04.0` (or any path)

#![expect(unsafe_code)] // pushing an entry promises that its buffer outlives the operation

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, ensure};
use dmaring::{CompletionMode, DmaBuf, Ring};
use io_uring::{opcode, types};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

const RING: u64 = 1;
const TIMER: u64 = 2;
const READS: u32 = 1000;

fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).context("which device? give pci:0000:00:04.0, model:256MiB, or a path")?;
    let mut ring = Ring::builder(8).completion(CompletionMode::Interrupt).open(&name)?;
    let blocks = ring.target().size_bytes / 4096;
    ensure!(blocks > 0, "{name} has less than 4 KiB");
    let mut buffer = ring.alloc(4096)?;

    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
    timer.set(Expiration::Interval(Duration::from_millis(100).into()), TimerSetTimeFlags::empty())?;

    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(ring.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, RING))?;
    epoll.add(timer.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;

    let (mut reads, mut ticks) = (0, 0);
    submit(&mut ring, &mut buffer, 0)?;
    while reads < READS {
        let mut events = [EpollEvent::empty(); 2];
        let count = match epoll.wait(&mut events, EpollTimeout::NONE) {
            // A kernel ring's completions interrupt its thread's system calls.
            Err(Errno::EINTR) => continue,
            result => result?,
        };
        for event in &events[..count] {
            if event.data() == TIMER {
                timer.wait()?;
                ticks += 1;
                continue;
            }
            let Some(completion) = ring.completion().next() else { continue };
            ensure!(completion.result() == 4096, "read answered {}", completion.result());
            reads += 1;
            submit(&mut ring, &mut buffer, u64::from(reads) % blocks)?;
        }
    }
    // The last read is still in flight; the ring takes care of it when it is dropped.
    println!("{reads} reads, {ticks} ticks of the timer, {} interrupts", ring.stats().interrupts);
    Ok(())
}

fn submit(ring: &mut Ring, buffer: &mut DmaBuf, block: u64) -> anyhow::Result<()> {
    let read = opcode::Read::new(types::Fixed(0), buffer.as_mut_ptr(), 4096).offset(block * 4096).build();
    // SAFETY: one read at a time, and the buffer goes back to the ring's pool, which outlives the read.
    unsafe { ring.submission().push(&read)? };
    ring.submit()?;
    Ok(())
}
