//! A device that is taken away.

use std::time::{Duration, Instant};

use super::zoo::{self, REMOVED};
use crate::case::{Bench, Case, Outcome, cases};
use crate::support::rig::{expect_errno, read};

pub(super) const ALL: &[Case] = cases![a_device_that_is_removed_fails_its_io_and_is_let_go];

fn a_device_that_is_removed_fails_its_io_and_is_let_go(_: &Bench) -> Outcome {
    let mut rig = zoo::open(REMOVED, 1, zoo::interrupted(8))?;
    let own = rig.alloc(8 << 20)?;
    let address = zoo::address(REMOVED);
    // Takes about four seconds; the device is wanted back in the middle of it.
    rig.push(&read(&own, 0))?;
    rig.ring.submit()?;
    let start = Instant::now();
    let remover = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        std::fs::write(format!("/sys/bus/pci/devices/{address}/remove"), "1")
    });
    let done = rig.wait(1)?;
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    // What the controller finishes while it is being stopped is not lost.
    assert!([-libc::ENODEV, 8 << 20].contains(&done[0].res), "{done:?}");
    expect_errno(rig.one(read(&own.part(0, 512), 0))?, libc::ENODEV, "afterwards");
    assert!(!remover.is_finished(), "the kernel waits until the device is let go");
    drop((rig, own));
    let waited = Instant::now();
    remover.join().map_err(|_| crate::case::Stop::Fail("the remover panicked".into()))??;
    assert!(waited.elapsed() < Duration::from_secs(15), "{:?}", waited.elapsed());
    assert!(std::fs::metadata(format!("/sys/bus/pci/devices/{address}")).is_err(), "it is gone");
    std::fs::write("/sys/bus/pci/rescan", "1")?;
    let mut again = zoo::open(REMOVED, 1, zoo::polled(8))?;
    again.get(0, 4096)?;
    Ok(())
}
