//! Locked memory.

use std::io::Read;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;

use dmaring_dma::sysfs::Sysfs;

use super::helper;
use super::zoo::{self, PLAIN, SECOND};
use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::rig::read;

pub(super) const ALL: &[Case] = cases![
    a_ring_of_256_entries_locks_at_most_a_mebibyte,
    locked_memory_is_given_back,
    too_little_locked_memory_is_an_error_with_numbers,
    registering_more_than_may_be_locked_is_an_error_with_numbers,
    a_user_who_owns_the_group_needs_no_privilege,
];

const NOBODY: u32 = 65534;

/// Locked memory of this process, in bytes.
fn locked() -> Result<u64, Stop> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
    let kib: u64 = line.and_then(|line| line.trim().strip_suffix(" kB")).unwrap_or("0").trim().parse()?;
    Ok(kib << 10)
}

fn a_ring_of_256_entries_locks_at_most_a_mebibyte(_: &Bench) -> Outcome {
    zoo::bind(PLAIN)?;
    let before = locked()?;
    let rig = zoo::open(PLAIN, 1, zoo::polled(256).bounce_limit(0))?;
    let (stats, after) = (rig.ring.stats(), locked()?);
    assert!(stats.locked_bytes <= 1 << 20, "stats: {} bytes", stats.locked_bytes);
    let difference = after - before;
    assert!(difference >= stats.locked_bytes, "VmLck {difference}, stats {}", stats.locked_bytes);
    assert!(difference <= 1 << 20, "VmLck: {difference} bytes");
    let bounce = zoo::open(PLAIN, 1, zoo::polled(256))?;
    assert_eq!(bounce.ring.stats().locked_bytes, stats.locked_bytes, "bounce buffers are not counted");
    Ok(())
}

fn locked_memory_is_given_back(_: &Bench) -> Outcome {
    zoo::bind(PLAIN)?;
    let before = locked()?;
    for _ in 0..3 {
        let mut rig = zoo::rig(PLAIN, 64)?;
        let (own, fixed) = (rig.alloc(4 << 20)?, rig.plain(4 << 20));
        rig.register(&[&fixed])?;
        assert!(locked()? >= before + (8 << 20));
        assert_eq!(rig.one(read(&own, 0))?, 4 << 20);
        rig.ring.submitter().unregister_buffers()?;
        assert!(locked()? < before + (8 << 20), "unregistering unlocks");
        drop(rig);
        assert_eq!(locked()?, before);
    }
    Ok(())
}

/// Runs a helper as nobody, who is given the group's file.
fn as_nobody(index: usize, which: &str, arguments: &[&str]) -> Result<String, Stop> {
    zoo::bind(index)?;
    let node = Sysfs::new().group(zoo::address(index))?.node();
    chown(&node, Some(NOBODY), Some(NOBODY))?;
    let mut child = helper::command(which, arguments).uid(NOBODY).gid(NOBODY).spawn()?;
    let mut said = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut said)?;
    }
    child.wait()?;
    chown(&node, Some(0), Some(0))?;
    Ok(said)
}

fn too_little_locked_memory_is_an_error_with_numbers(_: &Bench) -> Outcome {
    let said = as_nobody(SECOND, "limited", &[&zoo::name(SECOND, 1), "65536"])?;
    assert!(said.starts_with("error: ") && said.contains("65536") && said.contains("ulimit -l"), "{said}");
    let numbers = said.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u64>().ok());
    assert!(numbers.filter(|n| *n > 65536).count() >= 1, "what is needed is more than the limit: {said}");
    zoo::rig(SECOND, 8)?.put(1, 0, 4096)?;
    Ok(())
}

fn registering_more_than_may_be_locked_is_an_error_with_numbers(_: &Bench) -> Outcome {
    // Enough for the ring, not for its bounce memory.
    let said = as_nobody(SECOND, "limited", &[&zoo::name(SECOND, 1), "1500000"])?;
    assert!(said.contains("1500000") && said.contains("ulimit -l"), "{said}");
    Ok(())
}

fn a_user_who_owns_the_group_needs_no_privilege(_: &Bench) -> Outcome {
    let said = as_nobody(SECOND, "limited", &[&zoo::name(SECOND, 1), "67108864"])?;
    assert_eq!(said, "opened\n");
    Ok(())
}
