//! Taking controllers from the kernel and giving them back, on a real sysfs.

use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use dmaring_dma::sysfs::{BindOptions, Sysfs, Use};
use nix::mount::{MsFlags, mount, umount};

use super::zoo::{self, HELD};
use crate::case::{Bench, Case, Outcome, Stop, cases, fail, skip};
use crate::support::swap;

pub(super) const ALL: &[Case] = cases![
    a_mounted_controller_is_not_taken,
    a_controller_with_swap_is_not_taken,
    a_controller_that_is_open_for_writing_is_not_taken,
    a_mounted_controller_is_taken_by_force,
    binding_twice_and_unbinding_twice_is_harmless,
];

const IMAGE_BYTES: u64 = 32 << 20;
const MOUNT_POINT: &str = "/tmp/held";

/// A file with an ext4 file system for namespace 1; an empty one where mke2fs is not to be had. Made by
/// the host; it has no name, and goes with this process.
pub(super) fn image() -> Result<PathBuf, String> {
    static IMAGE: OnceLock<std::fs::File> = OnceLock::new();
    let failed = |error: std::io::Error| format!("no file for an image: {error}");
    let file = tempfile::tempfile().map_err(failed)?;
    file.set_len(IMAGE_BYTES).map_err(failed)?;
    let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
    for program in ["mke2fs", "/sbin/mke2fs", "/usr/sbin/mke2fs"] {
        let made = Command::new(program).args(["-q", "-F", "-t", "ext4", "-O", "^has_journal"]).arg(&path).output();
        if made.is_ok_and(|output| output.status.success()) {
            break;
        }
    }
    // There is one such guest.
    let _ = IMAGE.set(file);
    Ok(path)
}

/// The block device of a namespace of the controller.
fn disk(nsid: u32) -> Result<String, Stop> {
    let function = zoo::unbind(HELD, 2)?;
    let disk = function.block_devices.iter().find(|disk| disk.nsid == Some(nsid));
    Ok(format!("/dev/{}", disk.ok_or_else(|| Stop::Fail(format!("no namespace {nsid}")))?.name))
}

/// Unmounts when the case ends.
struct Mounted;

impl Mounted {
    fn new() -> Result<Self, Stop> {
        std::fs::create_dir_all(MOUNT_POINT)?;
        let disk = disk(1)?;
        match mount(Some(disk.as_str()), MOUNT_POINT, Some("ext4"), MsFlags::empty(), None::<&str>) {
            Ok(()) => Ok(Self),
            Err(nix::errno::Errno::EINVAL) => skip("no ext4 image: mke2fs is not on the host"),
            Err(error) => fail(format!("cannot mount {disk}: {error}")),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount(MOUNT_POINT);
    }
}

/// Fails unless binding is refused, with `part` in the reason, and nothing was changed.
fn expect_refused(part: &str) -> Outcome {
    let Err(error) = Sysfs::new().bind(zoo::address(HELD), BindOptions::default()) else {
        return fail("a controller in use was taken");
    };
    let text = error.to_string();
    assert!(text.contains("in use") && text.contains(part), "{text}");
    let function = Sysfs::new().function(zoo::address(HELD))?;
    assert_eq!((function.driver.as_deref(), function.driver_override), (Some("nvme"), None));
    Ok(())
}

fn a_mounted_controller_is_not_taken(_: &Bench) -> Outcome {
    let mounted = Mounted::new()?;
    let file = format!("{MOUNT_POINT}/file");
    std::fs::write(&file, "data")?;
    expect_refused(MOUNT_POINT)?;
    let uses = Sysfs::new().uses(zoo::address(HELD))?;
    assert!(uses.iter().any(|used| matches!(used, Use::Mounted { .. })), "{uses:?}");
    assert_eq!(std::fs::read_to_string(&file)?, "data", "the file system goes on");
    drop(mounted);
    zoo::bind(HELD)?;
    zoo::unbind(HELD, 2)?;
    let _mounted = Mounted::new()?;
    assert_eq!(std::fs::read_to_string(&file)?, "data", "and is whole after a binding");
    Ok(())
}

fn a_controller_with_swap_is_not_taken(_: &Bench) -> Outcome {
    let path = disk(2)?;
    let disk = std::fs::OpenOptions::new().write(true).open(&path)?;
    // A swap header of version 1 (linux/swap.h: union swap_header) for 1,000 pages.
    let mut header = [0u8; 4096];
    header[1024..1028].copy_from_slice(&1u32.to_ne_bytes());
    header[1028..1032].copy_from_slice(&999u32.to_ne_bytes());
    header[4086..].copy_from_slice(b"SWAPSPACE2");
    disk.write_all_at(&header, 0)?;
    disk.sync_all()?;
    drop(disk);
    let path = CString::new(path).map_err(|error| Stop::Fail(error.to_string()))?;
    let on = match swap::on(&path) {
        Ok(on) => on,
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => return skip("this kernel has no swap"),
        Err(error) => return Err(error.into()),
    };
    expect_refused("swap")?;
    drop(on);
    zoo::bind(HELD)?;
    zoo::unbind(HELD, 2)?;
    Ok(())
}

fn a_controller_that_is_open_for_writing_is_not_taken(_: &Bench) -> Outcome {
    let path = disk(2)?;
    let writer = std::fs::OpenOptions::new().write(true).open(&path)?;
    expect_refused("open for writing")?;
    drop(writer);
    let reader = std::fs::File::open(&path)?;
    // A reader loses the disk, and nothing else.
    zoo::bind(HELD)?;
    drop(reader);
    zoo::unbind(HELD, 2)?;
    Ok(())
}

fn a_mounted_controller_is_taken_by_force(_: &Bench) -> Outcome {
    let mounted = Mounted::new()?;
    let bound = Sysfs::new().bind(zoo::address(HELD), BindOptions { force: true })?;
    assert_eq!(bound.previous_driver.as_deref(), Some("nvme"));
    let mut rig = zoo::open(HELD, 2, zoo::polled(8))?;
    rig.put(1, 0, 65536)?;
    rig.expect(1, 0, 65536)?;
    drop(rig);
    drop(mounted);
    zoo::unbind(HELD, 2)?;
    Ok(())
}

fn binding_twice_and_unbinding_twice_is_harmless(_: &Bench) -> Outcome {
    let (sysfs, address) = (Sysfs::new(), zoo::address(HELD));
    zoo::unbind(HELD, 2)?;
    for _ in 0..3 {
        assert!(!sysfs.bind(address, BindOptions::default())?.already);
        assert!(sysfs.bind(address, BindOptions::default())?.already);
        assert!(!sysfs.unbind(address)?.already);
        assert!(sysfs.unbind(address)?.already);
    }
    zoo::unbind(HELD, 2)?;
    Ok(())
}
