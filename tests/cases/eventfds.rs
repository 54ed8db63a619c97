//! Event descriptors that a ring signals.

use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::{opcode, types};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::case::{Bench, Case, Outcome, Stop, cases, fail};
use crate::support::calls::{
    GETEVENTS, NOTHING, REGISTER_EVENTFD, REGISTER_EVENTFD_ASYNC, UNMAPPED, UNREGISTER_EVENTFD, enter, register,
    register_bytes,
};
use crate::support::raw::edit;
use crate::support::rig::{Rig, read};

pub(super) const ALL: &[Case] = cases![
    an_event_descriptor_is_checked_when_it_is_registered,
    one_event_descriptor_is_registered_at_a_time,
    a_batch_of_completions_is_signalled_once,
    transfers_are_signalled,
    what_posts_nothing_is_not_signalled,
    a_backlog_is_signalled_when_it_is_flushed,
    an_asynchronous_event_descriptor_is_signalled_by_workers,
    a_program_may_silence_its_event_descriptor,
];

const EINVAL: i32 = -libc::EINVAL;
const EFAULT: i32 = -libc::EFAULT;
const EBUSY: i32 = -libc::EBUSY;

fn set(rig: &Rig, opcode: u32, fd: i32) -> i32 {
    register_bytes(&rig.ring, opcode, &fd.to_ne_bytes(), 1)
}

fn unset(rig: &Rig) -> i32 {
    register(&rig.ring, UNREGISTER_EVENTFD, 0, 0)
}

fn event() -> Result<EventFd, Stop> {
    Ok(EventFd::from_flags(EfdFlags::EFD_NONBLOCK)?)
}

/// A ring with a registered descriptor.
fn ring(bench: &Bench, opcode: u32) -> Result<(Rig, EventFd), Stop> {
    let rig = bench.open(bench.builder(8).cq_entries(8))?;
    let event = event()?;
    assert_eq!(set(&rig, opcode, event.as_raw_fd()), 0);
    Ok((rig, event))
}

/// Takes what was signalled.
fn signals(event: &EventFd) -> Result<u64, Stop> {
    match event.read() {
        Err(Errno::EAGAIN) => Ok(0),
        count => Ok(count?),
    }
}

fn nop(rig: &mut Rig, flags: Flags) -> Outcome {
    Ok(rig.push(&opcode::Nop::new().build().flags(flags))?)
}

fn an_event_descriptor_is_checked_when_it_is_registered(bench: &Bench) -> Outcome {
    let rig = bench.rig(4)?;
    let event = event()?;
    let null = std::fs::File::open("/dev/null")?;
    for opcode in [REGISTER_EVENTFD, REGISTER_EVENTFD_ASYNC] {
        for count in [0, 2] {
            let good = event.as_raw_fd().to_ne_bytes();
            assert_eq!(register_bytes(&rig.ring, opcode, &good, count), EINVAL, "{count} descriptors");
            assert_eq!(register(&rig.ring, opcode, UNMAPPED, count), EINVAL);
        }
        assert_eq!(register(&rig.ring, opcode, 0, 1), EFAULT);
        assert_eq!(register(&rig.ring, opcode, UNMAPPED, 1), EFAULT);
        assert_eq!([set(&rig, opcode, -1), set(&rig, opcode, i32::MAX)], [-libc::EBADF; 2]);
        assert_eq!(set(&rig, opcode, null.as_raw_fd()), EINVAL, "no event descriptor");
        assert_eq!(unset(&rig), -libc::ENXIO);
    }
    assert_eq!(register(&rig.ring, UNREGISTER_EVENTFD, UNMAPPED, 0), EINVAL);
    assert_eq!(register(&rig.ring, UNREGISTER_EVENTFD, 0, 1), EINVAL);
    Ok(())
}

fn one_event_descriptor_is_registered_at_a_time(bench: &Bench) -> Outcome {
    let (mut rig, first) = ring(bench, REGISTER_EVENTFD)?;
    let second = event()?;
    for opcode in [REGISTER_EVENTFD, REGISTER_EVENTFD_ASYNC] {
        assert_eq!(set(&rig, opcode, second.as_raw_fd()), EBUSY);
        assert_eq!(register(&rig.ring, opcode, UNMAPPED, 1), EBUSY, "before it is read");
        assert_eq!(register(&rig.ring, opcode, UNMAPPED, 2), EINVAL);
    }
    assert_eq!(rig.one(opcode::Nop::new().build())?, 0);
    assert_eq!((signals(&first)?, signals(&second)?), (1, 0));
    assert_eq!((unset(&rig), unset(&rig)), (0, -libc::ENXIO));
    assert_eq!(set(&rig, REGISTER_EVENTFD, second.as_raw_fd()), 0);
    assert_eq!(rig.one(opcode::Nop::new().build())?, 0);
    assert_eq!((signals(&first)?, signals(&second)?), (0, 1));
    // The ring keeps what its number named.
    drop(second);
    assert_eq!(rig.one(opcode::Nop::new().build())?, 0);
    assert_eq!(unset(&rig), 0);
    Ok(())
}

fn a_batch_of_completions_is_signalled_once(bench: &Bench) -> Outcome {
    let (mut rig, event) = ring(bench, REGISTER_EVENTFD)?;
    for count in [1, 4, 8] {
        for _ in 0..count {
            nop(&mut rig, Flags::empty())?;
        }
        assert_eq!(enter(&rig.ring, count, 0, 0, NOTHING), count as i32);
        assert_eq!(signals(&event)?, 1, "of {count}");
        assert_eq!(rig.ready().len(), count as usize);
    }
    // One that is refused completes as well.
    rig.push(&edit(opcode::Nop::new().build(), |bytes| bytes[0] = 200))?;
    assert_eq!(enter(&rig.ring, 1, 0, 0, NOTHING), 1);
    assert_eq!(signals(&event)?, 1);
    for _ in 0..3 {
        assert_eq!(rig.ring.submit_and_wait(1)?, 0);
    }
    assert_eq!(signals(&event)?, 0, "nothing new");
    Ok(())
}

fn transfers_are_signalled(bench: &Bench) -> Outcome {
    let (mut rig, event) = ring(bench, REGISTER_EVENTFD)?;
    let memory = rig.plain(4 * 4096);
    for _ in 0..4 {
        assert_eq!(rig.one(read(&memory, 0))?, 4 * 4096);
        assert_eq!(signals(&event)?, 1);
    }
    for i in 0..4 {
        rig.push(&read(&memory.part(i * 4096, 4096), 0))?;
    }
    assert_eq!(rig.ring.submit_and_wait(4)?, 4);
    assert!((1..=4).contains(&signals(&event)?), "as they come");
    assert_eq!(rig.ready().len(), 4);
    Ok(())
}

fn what_posts_nothing_is_not_signalled(bench: &Bench) -> Outcome {
    let (mut rig, event) = ring(bench, REGISTER_EVENTFD)?;
    nop(&mut rig, Flags::SKIP_SUCCESS)?;
    assert_eq!(enter(&rig.ring, 1, 0, 0, NOTHING), 1);
    assert_eq!(enter(&rig.ring, 0, 0, GETEVENTS, NOTHING), 0);
    assert_eq!(signals(&event)?, 0);
    nop(&mut rig, Flags::empty())?;
    assert_eq!(enter(&rig.ring, 1, 0, 0, NOTHING), 1);
    assert_eq!(signals(&event)?, 1);
    assert_eq!(unset(&rig), 0);
    nop(&mut rig, Flags::empty())?;
    assert_eq!(enter(&rig.ring, 1, 0, 0, NOTHING), 1);
    assert_eq!(set(&rig, REGISTER_EVENTFD, event.as_raw_fd()), 0);
    assert_eq!(signals(&event)?, 0, "neither after it was taken away, nor of what is there before");
    assert_eq!(rig.ready().len(), 2);
    Ok(())
}

fn a_backlog_is_signalled_when_it_is_flushed(bench: &Bench) -> Outcome {
    let (mut rig, event) = ring(bench, REGISTER_EVENTFD)?;
    let submit = |rig: &mut Rig, count: u32| -> Result<u64, Stop> {
        for _ in 0..count {
            nop(rig, Flags::empty())?;
        }
        assert_eq!(enter(&rig.ring, count, 0, 0, NOTHING), count as i32);
        signals(&event)
    };
    assert_eq!(submit(&mut rig, 8)?, 1);
    assert_eq!((submit(&mut rig, 1)?, submit(&mut rig, 3)?), (0, 0), "they are not in the ring");
    assert_eq!(rig.ready().len(), 8);
    assert_eq!(enter(&rig.ring, 0, 0, GETEVENTS, NOTHING), 0);
    assert_eq!(signals(&event)?, 1);
    assert_eq!(rig.ready().len(), 4);
    assert_eq!(enter(&rig.ring, 0, 0, GETEVENTS, NOTHING), 0);
    assert_eq!(signals(&event)?, 0);
    Ok(())
}

fn an_asynchronous_event_descriptor_is_signalled_by_workers(bench: &Bench) -> Outcome {
    let (mut rig, event) = ring(bench, REGISTER_EVENTFD_ASYNC)?;
    let memory = rig.plain(4096);
    let soon = types::Timespec::new().nsec(1_000_000);
    let inline: [Entry; 3] =
        [opcode::Nop::new().build(), read(&memory, 0), opcode::Timeout::new(&raw const soon).build()];
    for entry in inline {
        rig.one(entry)?;
    }
    // A transfer completes by its interrupt, even if a worker has issued it.
    assert_eq!(rig.one(read(&memory, 0).flags(Flags::ASYNC))?, 4096);
    assert_eq!(signals(&event)?, 0);
    assert_eq!(rig.one(opcode::Nop::new().build().flags(Flags::ASYNC))?, 0);
    // The worker posts before it signals.
    for _ in 0..10_000 {
        if signals(&event)? == 1 {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    fail("a NOP of a worker is not signalled")
}

/// `IORING_CQ_EVENTFD_DISABLED`.
fn a_program_may_silence_its_event_descriptor(bench: &Bench) -> Outcome {
    let (mut rig, event) = ring(bench, REGISTER_EVENTFD)?;
    let memory = rig.plain(4096);
    assert!(!rig.ring.completion().eventfd_disabled());
    for _ in 0..3 {
        assert_eq!(rig.one(read(&memory, 0))?, 4096);
        assert_eq!(signals(&event)?, 1);
        rig.ring.completion().set_eventfd_disabled(true);
        assert!(rig.ring.completion().eventfd_disabled());
        for _ in 0..3 {
            assert_eq!(rig.one(opcode::Nop::new().build())?, 0);
            assert_eq!(rig.one(read(&memory, 0))?, 4096);
        }
        assert_eq!(signals(&event)?, 0);
        // What came meanwhile is not told later.
        nop(&mut rig, Flags::empty())?;
        assert_eq!(enter(&rig.ring, 1, 0, 0, NOTHING), 1);
        rig.ring.completion().set_eventfd_disabled(false);
        assert_eq!(enter(&rig.ring, 0, 0, GETEVENTS, NOTHING), 0);
        assert_eq!(signals(&event)?, 0);
        assert_eq!(rig.ready().len(), 1);
    }
    // It is a word of the ring, not of the descriptor.
    rig.ring.completion().set_eventfd_disabled(true);
    assert_eq!(unset(&rig), 0);
    assert_eq!(set(&rig, REGISTER_EVENTFD, event.as_raw_fd()), 0);
    assert!(rig.ring.completion().eventfd_disabled());
    assert_eq!(rig.one(opcode::Nop::new().build())?, 0);
    assert_eq!(signals(&event)?, 0);
    rig.ring.completion().set_eventfd_disabled(false);
    assert_eq!(rig.one(opcode::Nop::new().build())?, 0);
    assert_eq!(signals(&event)?, 1);
    Ok(())
}
