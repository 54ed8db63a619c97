//! IOMMU groups: the smallest sets of functions the IOMMU can tell from the rest.
//!
//! A group belongs to user space or to the kernel as a whole. Since Linux 5.18 the IOMMU core
//! keeps count: a driver that binds takes a share of the group's DMA ownership for the kernel
//! (`iommu_device_use_default_domain`) unless it is marked `driver_managed_dma`, and VFIO's claim
//! (`iommu_group_claim_dma_owner`) fails while there is any share. So marked are the VFIO drivers,
//! `pci-stub` and `pcieport`. Functions without a driver do not count, and bridges usually have
//! none. Before 5.18 VFIO let bridges pass with any driver; now `shpchp` on one is in the way.

use std::fmt;
use std::path::PathBuf;

use super::{Process, Sysfs, SysfsError};
use crate::pci::PciAddress;

/// An IOMMU group and its members, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub number: u32,
    /// Whether there is no IOMMU behind it (`enable_unsafe_noiommu_mode`): DMA is not confined.
    pub no_iommu: bool,
    /// All its members, in the order of their names.
    pub members: Vec<GroupMember>,
}

/// A device in an IOMMU group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Its name in sysfs; for a PCI function its address.
    pub name: String,
    /// Its address, if it is a PCI function.
    pub address: Option<PciAddress>,
    /// Its class code, if it is a PCI function.
    pub class: Option<u32>,
    /// The kernel driver bound to it.
    pub driver: Option<String>,
}

impl GroupMember {
    /// Whether its driver keeps the group from user space.
    pub fn blocks(&self) -> bool {
        match self.driver.as_deref() {
            None | Some("pci-stub" | "pcieport") => false,
            // vfio-pci, and variants such as mlx5_vfio_pci or nvgrace-gpu-vfio-pci.
            Some(driver) => !driver.split(['-', '_']).any(|part| part == "vfio"),
        }
    }
}

impl fmt::Display for GroupMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.driver {
            Some(driver) => write!(f, "{} ({driver})", self.name),
            None => write!(f, "{} (no driver)", self.name),
        }
    }
}

impl Group {
    /// The members whose drivers keep the group from user space.
    pub fn blockers(&self) -> Vec<&GroupMember> {
        self.members.iter().filter(|m| m.blocks()).collect()
    }

    /// Fails with the functions that are in the way, if there are any.
    ///
    /// # Errors
    /// [`SysfsError::NotViable`].
    pub fn check_viable(&self) -> Result<(), SysfsError> {
        let blockers: Vec<GroupMember> = self.blockers().into_iter().cloned().collect();
        if blockers.is_empty() {
            return Ok(());
        }
        Err(SysfsError::NotViable { group: self.number, blockers })
    }

    /// The VFIO node of the group, such as `/dev/vfio/7`; there once a member is on a VFIO driver.
    pub fn node(&self) -> PathBuf {
        let kind = if self.no_iommu { "noiommu-" } else { "" };
        PathBuf::from(format!("/dev/vfio/{kind}{}", self.number))
    }
}

impl Sysfs {
    /// The IOMMU group of a PCI function.
    ///
    /// # Errors
    /// [`SysfsError::NoIommu`] or [`SysfsError::NotBehindIommu`] if it has none;
    /// [`SysfsError::NoFunction`] if it is absent.
    pub fn group(&self, address: PciAddress) -> Result<Group, SysfsError> {
        let dir = self.device_dir(address);
        if !dir.exists() {
            return Err(SysfsError::NoFunction { address, path: self.system_path(&dir) });
        }
        match self.iommu_group(&dir)? {
            Some(number) => self.group_numbered(number),
            None => Err(self.no_group(address)?),
        }
    }

    /// Why a function has no IOMMU group.
    pub(super) fn no_group(&self, address: PciAddress) -> Result<SysfsError, SysfsError> {
        let iommus = self.list(&self.path("/sys/class/iommu"))?;
        Ok(if iommus.is_empty() {
            SysfsError::NoIommu { address }
        } else {
            SysfsError::NotBehindIommu { address, iommus }
        })
    }

    fn group_numbered(&self, number: u32) -> Result<Group, SysfsError> {
        let dir = self.path(&format!("/sys/kernel/iommu_groups/{number}"));
        let name = self.read_optional(&dir.join("name"))?;
        let devices = dir.join("devices");
        let mut members = Vec::new();
        for name in self.list(&devices)? {
            let device = devices.join(&name);
            let address = name.parse().ok();
            let class = device.join("class");
            members.push(GroupMember {
                address,
                class: match address {
                    Some(_) => Some(self.hexadecimal(&class)? & 0xff_ffff),
                    None => None,
                },
                driver: self.driver_of(&device)?,
                name,
            });
        }
        Ok(Group { number, no_iommu: name.as_deref() == Some("vfio-noiommu"), members })
    }

    /// The processes that have a VFIO group, or a device in it, open.
    ///
    /// Covers `/dev/vfio/N`, the device nodes of iommufd (`/dev/vfio/devices/vfioN`), and device
    /// descriptors obtained from a group where the kernel names them in `fdinfo` (late 2025 on).
    /// Without privilege only one's own processes are seen.
    pub fn group_holders(&self, group: u32) -> Result<Vec<Process>, SysfsError> {
        let members = self.group_numbered(group)?.members;
        let mut nodes =
            vec![PathBuf::from(format!("/dev/vfio/{group}")), PathBuf::from(format!("/dev/vfio/noiommu-{group}"))];
        for member in &members {
            let devices =
                self.path(&format!("/sys/kernel/iommu_groups/{group}/devices")).join(&member.name).join("vfio-dev");
            let names = self.list(&devices)?.into_iter();
            nodes.extend(names.map(|name| PathBuf::from("/dev/vfio/devices").join(name)));
        }
        let found = self.open_files(|file| {
            let is_member = || {
                let path = file.info("vfio-device-syspath")?;
                let (_, name) = path.rsplit_once('/')?;
                members.iter().find(|member| member.name == name)
            };
            let is_device = file.target.as_os_str() == "anon_inode:[vfio-device]";
            (nodes.contains(&file.target) || is_device && is_member().is_some()).then_some(())
        })?;
        Ok(found.into_iter().map(|(process, ())| process).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{ADDRESS, FakeTree};
    use super::*;

    fn grouped() -> FakeTree {
        let tree = FakeTree::new();
        tree.nvme();
        tree.bound_to_vfio();
        tree.member(7, "0000:00:04.0");
        tree
    }

    fn member(driver: Option<&str>) -> GroupMember {
        GroupMember {
            name: "0000:00:05.0".to_owned(),
            address: "0000:00:05.0".parse().ok(),
            class: Some(0x0c0330),
            driver: driver.map(str::to_owned),
        }
    }

    #[test]
    fn drivers_that_leave_dma_to_user_space_do_not_block() {
        for driver in ["vfio-pci", "mlx5_vfio_pci", "nvgrace-gpu-vfio-pci", "vfio-platform", "pci-stub", "pcieport"] {
            assert!(!member(Some(driver)).blocks(), "{driver}");
        }
        assert!(!member(None).blocks());
        for driver in ["nvme", "xhci_hcd", "shpchp", "avfioc"] {
            assert!(member(Some(driver)).blocks(), "{driver}");
        }
    }

    #[test]
    fn group_alone_is_viable() {
        let tree = grouped();
        let group = tree.sysfs().group(ADDRESS).unwrap();
        assert_eq!((group.number, group.no_iommu), (7, false));
        assert_eq!(group.members.len(), 1);
        assert_eq!(group.members[0].class, Some(0x010802));
        assert_eq!(group.node(), PathBuf::from("/dev/vfio/7"));
        group.check_viable().unwrap();
    }

    #[test]
    fn blocker_is_named_with_its_driver() {
        let tree = grouped();
        tree.other("0000:00:05.0", "0x0c0330", Some("xhci_hcd"));
        tree.other("0000:00:06.0", "0x060400", Some("pcieport"));
        tree.other("0000:00:07.0", "0x020000", None);
        for name in ["0000:00:05.0", "0000:00:06.0", "0000:00:07.0"] {
            tree.member(7, name);
        }
        let group = tree.sysfs().group(ADDRESS).unwrap();
        assert_eq!(group.members.len(), 4);
        let error = group.check_viable().unwrap_err().to_string();
        assert_eq!(
            error,
            "IOMMU group 7 is not viable: 0000:00:05.0 (xhci_hcd) shares it with a kernel driver that does DMA; unbind it, or move the controller to a slot with a group of its own"
        );
    }

    #[test]
    fn unconfined_group_has_another_node() {
        let tree = grouped();
        tree.write("sys/kernel/iommu_groups/7/name", "vfio-noiommu\n");
        let group = tree.sysfs().group(ADDRESS).unwrap();
        assert!(group.no_iommu);
        assert_eq!(group.node(), PathBuf::from("/dev/vfio/noiommu-7"));
    }

    #[test]
    fn no_iommu_and_not_behind_one_are_told_apart() {
        let tree = FakeTree::new();
        tree.other("0000:00:04.0", "0x010802", None);
        let text = tree.sysfs().group(ADDRESS).unwrap_err().to_string();
        assert!(text.contains("intel_iommu=on"), "{text}");
        tree.dir("sys/class/iommu/dmar0");
        let text = tree.sysfs().group(ADDRESS).unwrap_err().to_string();
        assert!(text.contains("this system has dmar0"), "{text}");
    }

    #[test]
    fn holders_by_group_by_device_node_and_by_device() {
        let tree = grouped();
        tree.dir(&format!("sys/bus/pci/devices/{ADDRESS}/vfio-dev/vfio0/power"));
        tree.open_by(50, "qemu", "/dev/vfio/7", "02");
        tree.open_by(51, "other", "/dev/vfio/70", "02");
        tree.open_by(52, "cdev", "/dev/vfio/devices/vfio0", "02");
        tree.open_by(53, "device", "anon_inode:[vfio-device]", "02");
        tree.write("proc/53/fdinfo/3", "flags:\t02\nvfio-device-syspath: /sys/devices/pci0000:00/0000:00:04.0\n");
        tree.open_by(54, "elsewhere", "anon_inode:[vfio-device]", "02");
        tree.write("proc/54/fdinfo/3", "flags:\t02\nvfio-device-syspath: /sys/devices/pci0000:00/0000:00:05.0\n");
        let holders = tree.sysfs().group_holders(7).unwrap();
        let lines: Vec<String> = holders.iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["qemu (pid 50)", "cdev (pid 52)", "device (pid 53)"]);
    }
}
