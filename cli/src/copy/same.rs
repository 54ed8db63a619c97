//! Whether two names reach the same bytes.
//!
//! Links, loop devices, partitions and the kernel's disks of NVMe namespaces are followed down to what
//! holds the bytes. What lies on several disks, such as LVM and RAID, is not; the kernel lets nobody
//! write to those disks while they are in use.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use dmaring::DeviceName;
use dmaring_dma::pci::PciAddress;
use dmaring_dma::sysfs::Sysfs;

const SECTOR: u64 = 512;
/// A loop device on a file on … is followed so far.
const DEEPEST: u32 = 8;

/// What holds the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Medium {
    /// A regular file or a pipe: device and inode.
    File(u64, u64),
    /// A disk of the kernel: its device number.
    Disk(u64),
    /// A namespace of a controller.
    Namespace(PciAddress, u32),
}

/// Where something begins on a medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub medium: Medium,
    /// Byte offset of its first byte.
    pub base: u64,
}

impl Place {
    /// Of a name; nothing for what does not exist, and for a model, which is a new one each time.
    pub fn of(name: &DeviceName) -> Option<Self> {
        match name {
            DeviceName::Pci { address, nsid } => Some(Self { medium: Medium::Namespace(*address, *nsid), base: 0 }),
            DeviceName::Path(path) => Self::of_file(&fs::metadata(path).ok()?),
            _ => None,
        }
    }

    /// Of an opened file; nothing for terminals and the like, which hold no bytes.
    pub fn of_file(data: &Metadata) -> Option<Self> {
        follow(data, 0, DEEPEST)
    }
}

/// Whether `len` bytes from each of two places have one in common.
pub fn overlap((one, at_one): (&Place, u64), (other, at_other): (&Place, u64), len: u64) -> bool {
    let (one, other) = (one.base.saturating_add(at_one), other.base.saturating_add(at_other));
    one < other.saturating_add(len) && other < one.saturating_add(len)
}

fn follow(data: &Metadata, base: u64, deepest: u32) -> Option<Place> {
    let kind = data.file_type();
    if kind.is_file() || kind.is_fifo() || kind.is_socket() {
        return Some(Place { medium: Medium::File(data.dev(), data.ino()), base });
    }
    if !kind.is_block_device() {
        return None;
    }
    let disk = Place { medium: Medium::Disk(data.rdev()), base };
    let (major, minor) = (nix::sys::stat::major(data.rdev()), nix::sys::stat::minor(data.rdev()));
    let Ok(folder) = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")) else {
        return Some(disk);
    };
    let (folder, disk) = whole(folder, disk);
    let backing = fs::read_to_string(folder.join("loop/backing_file")).ok();
    let file = backing.and_then(|path| fs::metadata(path.strip_suffix('\n').unwrap_or(&path)).ok());
    if let Some(file) = file.filter(|_| deepest > 0) {
        let base = disk.base.saturating_add(number(&folder, "loop/offset").unwrap_or(0));
        return follow(&file, base, deepest - 1);
    }
    let name = folder.file_name()?.to_string_lossy().into_owned();
    Some(namespace(&name).map_or(disk.clone(), |medium| Place { medium, base: disk.base }))
}

/// The disk of a partition.
fn whole(folder: PathBuf, place: Place) -> (PathBuf, Place) {
    let parent = || {
        let parent = folder.parent().filter(|_| folder.join("partition").exists())?;
        let (major, minor) = fs::read_to_string(parent.join("dev")).ok()?.trim().split_once(':').map(numbers)??;
        let start = number(&folder, "start")?.checked_mul(SECTOR)?;
        let medium = Medium::Disk(nix::sys::stat::makedev(major, minor));
        Some((parent.to_owned(), Place { medium, base: place.base.checked_add(start)? }))
    };
    let found = parent();
    found.unwrap_or((folder, place))
}

fn numbers((major, minor): (&str, &str)) -> Option<(u64, u64)> {
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn number(folder: &Path, name: &str) -> Option<u64> {
    fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
}

/// The namespace that the kernel shows as a disk of this name.
fn namespace(name: &str) -> Option<Medium> {
    if !name.starts_with("nvme") {
        return None;
    }
    let controllers = Sysfs::new().nvme_controllers().ok()?;
    let mut disks = controllers.iter().flat_map(|function| {
        let disks = function.block_devices.iter();
        disks.map(|disk| (function.address, disk))
    });
    let (address, disk) = disks.find(|(_, disk)| disk.name == name)?;
    Some(Medium::Namespace(address, disk.nsid?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_a_part_of_its_disk() {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("sda1");
        fs::create_dir(&part).unwrap();
        for (name, text) in
            [("dev", "8:0\n"), ("sda1/dev", "8:1\n"), ("sda1/start", "2048\n"), ("sda1/partition", "1\n")]
        {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let place = |minor| Place { medium: Medium::Disk(nix::sys::stat::makedev(8, minor)), base: 0 };
        let (disk, found) = whole(part, place(1));
        assert_eq!((disk.as_path(), &found), (folder.path(), &Place { base: 1 << 20, ..place(0) }));
        assert_eq!(whole(disk, place(0)).1, place(0));
        assert!(overlap((&place(0), 1 << 20), (&found, 0), 1) && !overlap((&place(0), 0), (&found, 0), 1 << 20));
    }

    #[test]
    fn links_are_followed_and_ranges_compared() {
        let folder = tempfile::tempdir().unwrap();
        let [file, hard, soft, other] = ["file", "hard", "soft", "other"].map(|name| folder.path().join(name));
        fs::write(&file, "x").unwrap();
        fs::write(&other, "x").unwrap();
        fs::hard_link(&file, &hard).unwrap();
        std::os::unix::fs::symlink(&file, &soft).unwrap();
        let place = |path: &Path| Place::of(&DeviceName::Path(path.to_owned())).unwrap();
        assert_eq!(place(&file), place(&hard));
        assert_eq!(place(&file), place(&soft));
        assert_ne!(place(&file), place(&other));
        assert_eq!(Place::of(&DeviceName::Path("/nonexistent".into())), None);
        assert_eq!(Place::of(&DeviceName::Path("/dev/null".into())), None);
        assert_eq!(Place::of(&"model:1m".parse().unwrap()), None);
        let place = place(&file);
        let moved = Place { base: 1000, ..place.clone() };
        for (one, other, len, expected) in [(0, 0, 1, true), (0, 10, 10, false), (0, 9, 10, true), (5, 0, 6, true)] {
            assert_eq!(overlap((&place, one), (&place, other), len), expected, "{one} {other} {len}");
        }
        assert!(overlap((&place, 1000), (&moved, 0), 1));
        assert!(!overlap((&place, 0), (&moved, 0), 1000));
    }
}
