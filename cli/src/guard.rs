//! What must be so before a device is written to.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use dmaring_dma::sysfs::Sysfs;

use crate::job::{Completion, Data};
use crate::lanes::{Lanes, Options};
use crate::plan::Extent;
use crate::signature::{self, Reader};
use crate::target::Target;

/// Keeps a block device from being mounted, as long as it lives.
#[derive(Debug)]
pub struct Claim {
    _file: Option<File>,
}

/// Refuses a device that is in use, and without `force` one that carries something.
///
/// # Errors
/// Who uses it, or what was found where; the device cannot be read.
pub fn before_writing(target: &Target, extent: &Extent, force: bool) -> anyhow::Result<Claim> {
    let claim = if target.is_device() {
        // The kernel has no disk of it.
        Claim { _file: None }
    } else {
        Claim { _file: claim(Path::new(&extent.name))? }
    };
    if !force {
        refuse_signatures(target, extent)?;
    }
    Ok(claim)
}

/// The device as a ring sees it.
///
/// # Errors
/// It cannot be opened.
pub fn extent(target: &Target) -> anyhow::Result<Extent> {
    let ring = target.ring(1, target.usual_completion())?;
    Ok(Extent::from(ring.target()))
}

/// An exclusive open fails while a file system, swap, RAID, LVM or anybody else has it exclusively.
fn claim(path: &Path) -> anyhow::Result<Option<File>> {
    let kind = fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    if !kind.file_type().is_block_device() {
        return Ok(None);
    }
    let open = OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(path);
    match open {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            bail!("{} is in use, so nothing is written to it: {}", path.display(), users(path))
        }
        Err(error) => Err(error).with_context(|| format!("cannot claim {}", path.display())),
    }
}

/// Who uses a disk, as far as can be told.
fn users(path: &Path) -> String {
    let unknown = "it is mounted, swap space, or part of RAID, LVM or ZFS; unmount or stop that first";
    let Ok(path) = fs::canonicalize(path) else {
        return unknown.to_owned();
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let sysfs = Sysfs::new();
    let controllers = sysfs.nvme_controllers().unwrap_or_default();
    let owner = controllers.iter().find(|function| {
        let disks = function.block_devices.iter();
        disks.into_iter().any(|disk| name.starts_with(&disk.name))
    });
    let uses = owner.and_then(|function| sysfs.uses(function.address).ok()).unwrap_or_default();
    let uses: Vec<String> = uses.iter().filter(|used| used.refuses()).map(ToString::to_string).collect();
    if uses.is_empty() { unknown.to_owned() } else { format!("{}; stop that first", uses.join("; ")) }
}

fn refuse_signatures(target: &Target, extent: &Extent) -> anyhow::Result<()> {
    let options = Options { slots: 1, slot_bytes: Reader::chunk_bytes(), data: Data::Registered, fua: false };
    // Interrupt: the kernel polls only where it was set up for that.
    let mut lanes = Lanes::new(target.ring(1, Completion::Interrupt)?, options)?;
    // A file may end within a block; nothing stands in that part.
    let size = extent.size_bytes / u64::from(extent.block_bytes) * u64::from(extent.block_bytes);
    let mut read = |offset: u64, to: &mut [u8]| {
        lanes.read_at(offset, to).with_context(|| format!("cannot read {} at {offset}", extent.name))
    };
    let found = signature::scan(&mut Reader::new(size, &mut read))?;
    if found.is_empty() {
        return Ok(());
    }
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    bail!(
        "{} carries data that writing would destroy: {}; take another device, or --force",
        extent.name,
        found.join(", ")
    )
}
