//! The disks of an NVMe controller, and where sysfs keeps them.
//!
//! ```text
//! one path                                 native multipath
//! /sys/bus/pci/devices/ADDR/nvme/nvme0/    /sys/bus/pci/devices/ADDR/nvme/nvme0/
//!   nvme0n1/                                 nvme0c0n1/         a path: hidden, no node in /dev
//!     nvme0n1p1/                           /sys/devices/virtual/nvme-subsystem/nvme-subsys0/
//!   ng0n1/                                   nvme0 -> ...       its controllers
//!                                            nvme0n1/           the head: what is mounted
//!                                              nvme0n1p1/
//! ```
//!
//! In `nvme<subsystem>c<controller>n<head>` the first number is that of the subsystem, not of the
//! controller: the head of `nvme1c5n2` is `nvme1n2`.

use std::path::PathBuf;

use super::{Sysfs, SysfsError};
use crate::pci::PciAddress;

/// A disk or a partition of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// Its name, also in `/dev`.
    pub name: String,
    /// Its folder in sysfs.
    pub dir: PathBuf,
    /// Its number as `major:minor`.
    pub number: Option<String>,
}

/// A namespace as a disk: the head if there are several paths to it.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub whole: Node,
    pub partitions: Vec<Node>,
    /// A path whose head is not there (yet): it has no node and nothing can use it.
    pub hidden: bool,
}

impl Disk {
    /// The disk, then its partitions.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        std::iter::once(&self.whole).chain(&self.partitions)
    }
}

/// A controller's name and what it shows as block and character devices.
#[derive(Debug, Clone, Default)]
pub(super) struct Controller {
    /// Such as `nvme0`; `None` when the function is not bound to the `nvme` driver.
    pub name: Option<String>,
    pub disks: Vec<Disk>,
    /// `nvme0` and `ng0n1`, which take pass-through commands; or `uio0`.
    pub characters: Vec<Node>,
}

/// What a name in the folder of a controller or subsystem stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Controller,
    Disk,
    /// One of the paths to the head of this name.
    Path {
        head: String,
    },
    Generic,
    Other,
}

fn entry(name: &str) -> Entry {
    fn number(text: &str) -> Option<(&str, &str)> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        (end > 0).then(|| text.split_at(end))
    }
    /// `n<number>` and nothing after it.
    fn namespace(text: &str) -> bool {
        text.strip_prefix('n').and_then(number).is_some_and(|(_, rest)| rest.is_empty())
    }
    if let Some((_, rest)) = name.strip_prefix("ng").and_then(number) {
        return if namespace(rest) { Entry::Generic } else { Entry::Other };
    }
    let Some((instance, rest)) = name.strip_prefix("nvme").and_then(number) else {
        return Entry::Other;
    };
    if rest.is_empty() {
        return Entry::Controller;
    }
    if namespace(rest) {
        return Entry::Disk;
    }
    match rest.strip_prefix('c').and_then(number) {
        Some((_, rest)) if namespace(rest) => Entry::Path { head: format!("nvme{instance}{rest}") },
        _ => Entry::Other,
    }
}

impl Sysfs {
    /// The NVMe controller on a PCI function, with every disk that would go with it.
    pub(super) fn controller(&self, address: PciAddress) -> Result<Controller, SysfsError> {
        let function = self.device_dir(address);
        let parent = function.join("nvme");
        let names = self.list(&parent)?;
        let Some(name) = names.into_iter().find(|n| entry(n) == Entry::Controller) else {
            // Other userspace drivers hold a function through uio.
            let dir = function.join("uio");
            let names = self.list(&dir)?.into_iter();
            return Ok(Controller {
                characters: names.map(|name| self.node(name.clone(), dir.join(name))).collect::<Result<_, _>>()?,
                ..Controller::default()
            });
        };
        let dir = parent.join(&name);
        let mut disks: Vec<Disk> = Vec::new();
        let mut characters = vec![self.node(name.clone(), dir.clone())?];
        for child in self.list(&dir)? {
            let path = dir.join(&child);
            match entry(&child) {
                Entry::Disk => add(&mut disks, self.disk(child, path, false)?),
                Entry::Path { head } => match self.head_dir(&head)? {
                    Some(head_dir) => add(&mut disks, self.disk(head, head_dir, false)?),
                    None => add(&mut disks, self.disk(child, path, true)?),
                },
                Entry::Generic => characters.push(self.node(child, path)?),
                Entry::Controller | Entry::Other => {}
            }
        }
        // A head outlives its paths while the controller is resetting or queues without a path.
        for (head, head_dir) in self.sole_heads(&name)? {
            add(&mut disks, self.disk(head, head_dir, false)?);
        }
        for disk in &disks {
            // The generic device of a head is not in the controller's folder.
            let generic = disk.whole.name.replacen("nvme", "ng", 1);
            if !disk.hidden && !characters.iter().any(|c| c.name == generic) {
                let dir = self.path("/sys/class/nvme-generic").join(&generic);
                characters.push(self.node(generic, dir)?);
            }
        }
        Ok(Controller { name: Some(name), disks, characters })
    }

    fn node(&self, name: String, dir: PathBuf) -> Result<Node, SysfsError> {
        let number = self.read_optional(&dir.join("dev"))?;
        Ok(Node { name, dir, number })
    }

    fn disk(&self, name: String, dir: PathBuf, hidden: bool) -> Result<Disk, SysfsError> {
        let mut partitions = Vec::new();
        for child in self.list(&dir)? {
            let path = dir.join(&child);
            if path.join("partition").exists() {
                partitions.push(self.node(child, path)?);
            }
        }
        Ok(Disk { whole: self.node(name, dir)?, partitions, hidden })
    }

    /// Where the head disk of this name is, once it exists.
    fn head_dir(&self, head: &str) -> Result<Option<PathBuf>, SysfsError> {
        let by_name = self.path("/sys/block").join(head);
        if by_name.exists() {
            return Ok(Some(by_name));
        }
        Ok(self.subsystems()?.into_iter().map(|dir| dir.join(head)).find(|path| path.exists()))
    }

    fn subsystems(&self) -> Result<Vec<PathBuf>, SysfsError> {
        let mut found = Vec::new();
        for parent in ["/sys/class/nvme-subsystem", "/sys/devices/virtual/nvme-subsystem"] {
            let parent = self.path(parent);
            found.extend(self.list(&parent)?.into_iter().map(|name| parent.join(name)));
        }
        Ok(found)
    }

    /// The heads of the subsystem whose only controller this is.
    fn sole_heads(&self, controller: &str) -> Result<Vec<(String, PathBuf)>, SysfsError> {
        let mut heads = Vec::new();
        for dir in self.subsystems()? {
            let names = self.list(&dir)?;
            let mut controllers = names.iter().filter(|n| entry(n) == Entry::Controller);
            if controllers.next().is_some_and(|name| name == controller) && controllers.next().is_none() {
                let disks = names.iter().filter(|name| entry(name) == Entry::Disk);
                heads.extend(disks.map(|name| (name.clone(), dir.join(name))));
            }
        }
        Ok(heads)
    }
}

fn add(disks: &mut Vec<Disk>, disk: Disk) {
    if !disks.iter().any(|d| d.whole.name == disk.whole.name) {
        disks.push(disk);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{ADDRESS, FakeTree};
    use super::*;

    fn names(controller: &Controller) -> Vec<&str> {
        let nodes = controller.disks.iter().flat_map(Disk::nodes);
        nodes.map(|node| node.name.as_str()).collect()
    }

    #[test]
    fn names_are_told_apart() {
        assert_eq!(entry("nvme0"), Entry::Controller);
        assert_eq!(entry("nvme12n3"), Entry::Disk);
        assert_eq!(entry("nvme1c5n2"), Entry::Path { head: "nvme1n2".to_owned() });
        assert_eq!(entry("ng0n1"), Entry::Generic);
        for other in ["nvme", "nvmen1", "nvme0n1p1", "nvme0c1", "nvme0x", "ng0", "hwmon1", "power", "nvme-subsys0"] {
            assert_eq!(entry(other), Entry::Other, "{other}");
        }
    }

    #[test]
    fn one_path_disk_with_its_partitions() {
        let tree = FakeTree::new();
        tree.nvme();
        tree.partition("nvme0n1", 1);
        tree.partition("nvme0n1", 2);
        let found = tree.sysfs().controller(ADDRESS).unwrap();
        assert_eq!(found.name.as_deref(), Some("nvme0"));
        assert_eq!(names(&found), ["nvme0n1", "nvme0n1p1", "nvme0n1p2"]);
        let characters: Vec<&str> = found.characters.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(characters, ["nvme0", "ng0n1"]);
    }

    #[test]
    fn multipath_head_stands_for_its_path() {
        let tree = FakeTree::new();
        tree.nvme_multipath();
        tree.partition("nvme3n1", 1);
        let found = tree.sysfs().controller(ADDRESS).unwrap();
        assert_eq!(names(&found), ["nvme3n1", "nvme3n1p1"]);
        assert!(!found.disks[0].hidden);
    }

    #[test]
    fn multipath_head_is_found_in_its_subsystem_alone() {
        let tree = FakeTree::new();
        tree.nvme_multipath();
        tree.partition("nvme3n1", 1);
        tree.remove("sys/block/nvme3n1");
        let found = tree.sysfs().controller(ADDRESS).unwrap();
        assert_eq!(names(&found), ["nvme3n1", "nvme3n1p1"]);
    }

    #[test]
    fn multipath_head_without_paths_is_still_the_controllers() {
        let tree = FakeTree::new();
        tree.nvme_multipath();
        tree.remove(&format!("sys/bus/pci/devices/{ADDRESS}/nvme/nvme0/nvme3c0n1"));
        let found = tree.sysfs().controller(ADDRESS).unwrap();
        assert_eq!(names(&found), ["nvme3n1"]);
    }

    #[test]
    fn path_without_a_head_is_hidden() {
        let tree = FakeTree::new();
        tree.nvme_multipath();
        tree.remove("sys/block/nvme3n1");
        tree.remove("sys/devices/virtual/nvme-subsystem");
        let found = tree.sysfs().controller(ADDRESS).unwrap();
        assert_eq!(names(&found), ["nvme3c0n1"]);
        assert!(found.disks[0].hidden);
    }
}
