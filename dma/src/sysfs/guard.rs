//! The guard: what uses a controller, and so would be lost if its kernel driver were unbound.
//!
//! The kernel does not refuse to unbind `nvme` under a mounted file system: the write succeeds and
//! the file system fails from then on. Hence everything here errs towards "in use":
//!
//! | what | where it is seen |
//! |---|---|
//! | mount | `/proc/self/mountinfo`, by `major:minor`, and by source (btrfs has a number of its own) |
//! | swap | `/proc/swaps` |
//! | device mapper, LVM, MD, bcache | `holders/` of the disk and of each partition |
//! | loop device, NVMe target | their `backing_file` and `device_path`: they do not open exclusively |
//! | ZFS, other btrfs members, mounts in other namespaces, ... | an exclusive open answers EBUSY |
//! | a program | `/proc/<pid>/fd` |
//!
//! Not seen: a process that has only mapped the device, or registered its descriptor with an
//! io_uring and closed it, without claiming it exclusively.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{major, minor};

use super::block::{Controller, Disk, Node};
use super::guard_tables::{mounts, swaps};
use super::{Process, Sysfs, SysfsError};
use crate::pci::PciAddress;

/// One use of a controller's disk, partition or character device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Use {
    /// A file system on it is mounted.
    Mounted {
        /// The disk or partition.
        device: String,
        /// Where.
        mount_point: PathBuf,
    },
    /// It is swap space in use.
    Swap {
        /// The disk or partition.
        device: String,
    },
    /// Another device of the kernel is built on it.
    Holder {
        /// The disk or partition.
        device: String,
        /// Such as `dm-0 (vg-root)`, `md0`, `loop3`.
        holder: String,
    },
    /// Something in the kernel, or a process, has claimed it exclusively.
    OpenExclusive {
        /// The disk or partition.
        device: String,
    },
    /// A process has it open.
    OpenBy {
        /// The disk, partition or character device.
        device: String,
        /// The process.
        process: Process,
        /// Whether it may write.
        writes: bool,
    },
}

impl Use {
    /// Whether this is a reason not to take the controller.
    ///
    /// All are but one: a process that only reads. Monitors and udev open disks to read them and
    /// recover when the disk goes; whoever may write (a virtual machine, a database on a raw
    /// partition) has data to lose.
    pub fn refuses(&self) -> bool {
        !matches!(self, Self::OpenBy { writes: false, .. })
    }

    fn device(&self) -> &str {
        match self {
            Self::Mounted { device, .. }
            | Self::Swap { device }
            | Self::Holder { device, .. }
            | Self::OpenExclusive { device }
            | Self::OpenBy { device, .. } => device,
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted { device, mount_point } => write!(f, "{device} is mounted at {}", mount_point.display()),
            Self::Swap { device } => write!(f, "{device} is swap space"),
            Self::Holder { device, holder } => write!(f, "{device} is part of {holder}"),
            Self::OpenExclusive { device } => write!(
                f,
                "{device} is claimed exclusively (ZFS, a btrfs member, a mount in another namespace, a process)"
            ),
            Self::OpenBy { device, process, writes } => {
                let mode = if *writes { "writing" } else { "reading" };
                write!(f, "{device} is open for {mode} by {process}")
            }
        }
    }
}

impl Sysfs {
    /// What uses the controller now, [`Use::refuses`] or not.
    ///
    /// Covers controllers on the `nvme` driver, and programs that hold one through uio. Privilege is needed for all of it: the
    /// exclusive open, and other users' processes.
    ///
    /// # Errors
    /// [`SysfsError::NoFunction`]; [`SysfsError::NoNode`], [`SysfsError::Permission`] or
    /// [`SysfsError::Io`] if it cannot be told. "Cannot tell" is never "not in use".
    pub fn uses(&self, address: PciAddress) -> Result<Vec<Use>, SysfsError> {
        let dir = self.device_dir(address);
        if !dir.exists() {
            return Err(SysfsError::NoFunction { address, path: self.system_path(&dir) });
        }
        let controller = self.controller(address)?;
        let nodes: Vec<&Node> = controller.disks.iter().flat_map(Disk::nodes).collect();
        let mut uses = self.mounted(&nodes)?;
        uses.extend(self.swapped(&nodes)?);
        uses.extend(self.held(&nodes)?);
        for disk in controller.disks.iter().filter(|disk| !disk.hidden) {
            let claimed = self.claimed(disk, &uses)?;
            uses.extend(claimed);
        }
        uses.extend(self.opened(&controller, &nodes)?);
        Ok(uses)
    }

    /// Refuses if the controller is in use; otherwise claims its disks, so that nothing can be
    /// mounted on them until the claims are dropped.
    pub(super) fn claim(&self, address: PciAddress) -> Result<Vec<File>, SysfsError> {
        let mut uses = self.uses(address)?;
        uses.retain(Use::refuses);
        if !uses.is_empty() {
            return Err(SysfsError::InUse { address, uses });
        }
        let controller = self.controller(address)?;
        let mut claims = Vec::new();
        for disk in controller.disks.iter().filter(|disk| !disk.hidden) {
            match self.open_exclusive(&disk.whole)? {
                Some(file) => claims.push(file),
                None => {
                    let device = disk.whole.name.clone();
                    let uses = vec![Use::OpenExclusive { device }];
                    return Err(SysfsError::InUse { address, uses });
                }
            }
        }
        Ok(claims)
    }

    fn mounted(&self, nodes: &[&Node]) -> Result<Vec<Use>, SysfsError> {
        let path = self.path("/proc/self/mountinfo");
        let table = mounts(&self.read_bytes(&path)?);
        let found = table.into_iter().filter_map(|mount| {
            let node = nodes
                .iter()
                .find(|node| node.number.as_deref() == Some(&mount.number))
                .copied()
                .or_else(|| self.node_at(&mount.source, nodes))?;
            Some(Use::Mounted { device: node.name.clone(), mount_point: mount.point })
        });
        Ok(found.collect())
    }

    fn swapped(&self, nodes: &[&Node]) -> Result<Vec<Use>, SysfsError> {
        // Absent in kernels built without swap.
        let path = self.path("/proc/swaps");
        if !path.exists() {
            return Ok(Vec::new());
        }
        let table = swaps(&self.read_bytes(&path)?);
        let devices = table.iter().filter_map(|path| self.node_at(path, nodes));
        Ok(devices.map(|node| Use::Swap { device: node.name.clone() }).collect())
    }

    fn held(&self, nodes: &[&Node]) -> Result<Vec<Use>, SysfsError> {
        let mut uses = Vec::new();
        let mut held_by = |node: &Node, holder: String| {
            let device = node.name.clone();
            uses.push(Use::Holder { device, holder });
        };
        for node in nodes {
            for holder in self.list(&node.dir.join("holders"))? {
                let name = self.path("/sys/block").join(&holder).join("dm/name");
                let holder = match self.read_optional(&name)? {
                    Some(name) => format!("{holder} ({name})"),
                    None => holder,
                };
                held_by(node, holder);
            }
        }
        let block = self.path("/sys/block");
        for name in self.list(&block)? {
            let backing = block.join(&name).join("loop/backing_file");
            if let Some(path) = self.read_optional(&backing)?
                && let Some(node) = self.node_at(Path::new(&path), nodes)
            {
                held_by(node, name);
            }
        }
        let targets = self.path("/sys/kernel/config/nvmet/subsystems");
        for subsystem in self.list(&targets)? {
            let namespaces = targets.join(&subsystem).join("namespaces");
            for id in self.list(&namespaces)? {
                let dir = namespaces.join(&id);
                if self.read_optional(&dir.join("enable"))?.as_deref() == Some("1")
                    && let Some(path) = self.read_optional(&dir.join("device_path"))?
                    && let Some(node) = self.node_at(Path::new(&path), nodes)
                {
                    held_by(node, format!("NVMe target {subsystem}, namespace {id}"));
                }
            }
        }
        Ok(uses)
    }

    /// What of a disk is claimed by something that `known` does not explain.
    fn claimed(&self, disk: &Disk, known: &[Use]) -> Result<Vec<Use>, SysfsError> {
        let explained = |node: &Node| known.iter().any(|known| known.device() == node.name);
        // A claim on a partition also claims the disk, so the disk alone answers for all.
        if self.open_exclusive(&disk.whole)?.is_some() || explained(&disk.whole) {
            return Ok(Vec::new());
        }
        let mut uses = Vec::new();
        let mut all_explained = false;
        for node in &disk.partitions {
            if explained(node) {
                all_explained = true;
            } else if matches!(self.open_exclusive(node), Ok(None)) {
                let device = node.name.clone();
                uses.push(Use::OpenExclusive { device });
            }
        }
        if uses.is_empty() && !all_explained {
            let device = disk.whole.name.clone();
            uses.push(Use::OpenExclusive { device });
        }
        Ok(uses)
    }

    /// Claims a disk or partition; `None` if something else has claimed it.
    fn open_exclusive(&self, node: &Node) -> Result<Option<File>, SysfsError> {
        let path = self.path("/dev").join(&node.name);
        let no_node = || SysfsError::NoNode { device: node.name.clone(), path: self.system_path(&path) };
        // Reading only: closing a block device that was open for writing makes udev probe it.
        let flags = OFlag::O_RDONLY | OFlag::O_EXCL | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match (self.kernel.open)(&path, flags) {
            Ok(file) => file,
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(no_node()),
            Err(error) => return Err(SysfsError::io("open exclusively", &path, error)),
        };
        // A stale node, or a file some tool wrote in place of one, would say "free" of nothing.
        let number = block_number(&path);
        if number != node.number && (number.is_some() || self.is_the_system()) {
            return Err(no_node());
        }
        Ok(Some(file))
    }

    fn opened(&self, controller: &Controller, nodes: &[&Node]) -> Result<Vec<Use>, SysfsError> {
        let found = self.open_files(|file| {
            let below_dev = file.target.strip_prefix("/dev").ok()?;
            let all = nodes.iter().copied().chain(&controller.characters);
            // By number as well: containers have nodes of other names.
            let number = self.is_the_system().then(|| device_number(&file.link)).flatten();
            let node = all.into_iter().find(|node| {
                let is_block = !controller.characters.contains(*node);
                below_dev == Path::new(&node.name)
                    || (number.is_some() && number == node.number.clone().map(|number| (is_block, number)))
            })?;
            Some((node.name.clone(), file.writes()))
        })?;
        let uses = found.into_iter().map(|(process, (device, writes))| Use::OpenBy { device, process, writes });
        Ok(uses.collect())
    }

    /// The node that a path in `/dev` leads to, by name after following links, or by number.
    fn node_at<'a>(&self, path: &Path, nodes: &[&'a Node]) -> Option<&'a Node> {
        let below_dev = path.strip_prefix("/dev").ok()?;
        let here = self.path("/dev").join(below_dev);
        let resolved = fs::canonicalize(&here);
        let resolved = resolved.as_deref().unwrap_or(&here);
        let number = block_number(resolved);
        nodes
            .iter()
            .find(|node| {
                resolved.file_name() == Some(node.name.as_ref()) || (number.is_some() && number == node.number)
            })
            .copied()
    }
}

/// Whether a file is a block device (otherwise a character device), and its `major:minor`.
fn device_number(path: &Path) -> Option<(bool, String)> {
    let metadata = fs::metadata(path).ok()?;
    let kind = metadata.file_type();
    let number = metadata.rdev();
    (kind.is_block_device() || kind.is_char_device()).then(|| {
        let number = format!("{}:{}", major(number), minor(number));
        (kind.is_block_device(), number)
    })
}

fn block_number(path: &Path) -> Option<String> {
    let (is_block, number) = device_number(path)?;
    is_block.then_some(number)
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
