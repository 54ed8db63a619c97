//! What a PCI function is, and which driver and disks it has now.

use std::path::Path;

use super::block::Disk;
use super::{Sysfs, SysfsError};
use crate::pci::PciAddress;

/// Mass storage, non-volatile memory, NVM Express I/O controller (PCI Code and ID Assignment, 1.9).
const CLASS_NVME: u32 = 0x01_0802;

/// The unit of `size` in sysfs, whatever the block size of the disk.
const SECTOR_BYTES: u64 = 512;

/// A PCI function as sysfs shows it at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PciFunction {
    /// Where it is.
    pub address: PciAddress,
    /// Vendor id, such as 0x1b36.
    pub vendor: u16,
    /// Device id, such as 0x0010.
    pub device: u16,
    /// Class code, 24 bits: base class, sub-class, programming interface.
    pub class: u32,
    /// The kernel driver bound to it.
    pub driver: Option<String>,
    /// The only driver that may bind to it, if one was set.
    pub driver_override: Option<String>,
    /// The number of its IOMMU group; `None` without an IOMMU.
    pub iommu_group: Option<u32>,
    /// The NUMA node it is attached to; `None` if the firmware does not say.
    pub numa_node: Option<i32>,
    /// Its namespaces as the kernel's disks; empty unless bound to the `nvme` driver.
    pub block_devices: Vec<BlockDevice>,
    /// The kernel's name of the controller, such as `nvme0`.
    pub nvme: Option<String>,
}

/// A namespace of a controller as a disk of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockDevice {
    /// Such as `nvme0n1`; with several paths to the namespace, the disk they make up.
    pub name: String,
    /// Capacity in bytes.
    pub size_bytes: u64,
    /// Logical block size in bytes.
    pub logical_block_size: u32,
    /// The namespace id; `None` if the kernel does not show it.
    pub nsid: Option<u32>,
}

impl PciFunction {
    /// Whether the class code is that of an NVMe I/O controller.
    pub fn is_nvme(&self) -> bool {
        self.class == CLASS_NVME
    }
}

impl Sysfs {
    /// Describes one PCI function.
    ///
    /// # Errors
    /// [`SysfsError::NoFunction`] if it is absent; [`SysfsError::Malformed`] or
    /// [`SysfsError::Io`] if the kernel's files cannot be understood or read.
    pub fn function(&self, address: PciAddress) -> Result<PciFunction, SysfsError> {
        let dir = self.device_dir(address);
        if !dir.exists() {
            return Err(SysfsError::NoFunction { address, path: self.system_path(&dir) });
        }
        let controller = self.controller(address)?;
        let mut block_devices = Vec::new();
        for disk in &controller.disks {
            block_devices.push(self.block_device(disk)?);
        }
        Ok(PciFunction {
            address,
            vendor: self.id(&dir.join("vendor"))?,
            device: self.id(&dir.join("device"))?,
            class: self.hexadecimal(&dir.join("class"))? & 0xff_ffff,
            driver: self.driver_of(&dir)?,
            driver_override: self.driver_override(&dir)?,
            iommu_group: self.iommu_group(&dir)?,
            numa_node: self.numa_node(&dir)?,
            block_devices,
            nvme: controller.name,
        })
    }

    /// All NVMe controllers, whatever driver they have, in the order of their addresses.
    ///
    /// A function that disappears meanwhile is left out.
    pub fn nvme_controllers(&self) -> Result<Vec<PciFunction>, SysfsError> {
        let mut found = Vec::new();
        for name in self.list(&self.path("/sys/bus/pci/devices"))? {
            let Ok(address) = name.parse::<PciAddress>() else {
                continue;
            };
            let dir = self.device_dir(address);
            // The class first: the files of unrelated devices are not our business.
            let described = self
                .hexadecimal(&dir.join("class"))
                .and_then(|class| (class & 0xff_ffff == CLASS_NVME).then(|| self.function(address)).transpose());
            match described {
                Ok(function) => found.extend(function),
                Err(_) if !dir.exists() => tracing::debug!(%address, "gone while listing"),
                Err(error) => return Err(error),
            }
        }
        found.sort_by_key(|function| function.address);
        Ok(found)
    }

    fn block_device(&self, disk: &Disk) -> Result<BlockDevice, SysfsError> {
        let dir = &disk.whole.dir;
        let sectors: u64 = self.decimal(&dir.join("size"))?;
        let nsid = dir.join("nsid");
        Ok(BlockDevice {
            name: disk.whole.name.clone(),
            size_bytes: sectors.saturating_mul(SECTOR_BYTES),
            logical_block_size: self.decimal(&dir.join("queue/logical_block_size"))?,
            nsid: match self.read_optional(&nsid)? {
                Some(text) => Some(self.parsed(&nsid, &text, "a namespace id")?),
                None => None,
            },
        })
    }

    pub(super) fn driver_override(&self, dir: &Path) -> Result<Option<String>, SysfsError> {
        let value = self.read_optional(&dir.join("driver_override"))?;
        // The kernel prints a null pointer when nothing is set.
        Ok(value.filter(|driver| !driver.is_empty() && driver != "(null)"))
    }

    pub(super) fn iommu_group(&self, dir: &Path) -> Result<Option<u32>, SysfsError> {
        let link = dir.join("iommu_group");
        match self.link_name(&link)? {
            Some(name) => Ok(Some(self.parsed(&link, &name, "the number of a group")?)),
            None => Ok(None),
        }
    }

    fn numa_node(&self, dir: &Path) -> Result<Option<i32>, SysfsError> {
        let path = dir.join("numa_node");
        let Some(text) = self.read_optional(&path)? else {
            return Ok(None);
        };
        let node: i32 = self.parsed(&path, &text, "a NUMA node")?;
        Ok((node >= 0).then_some(node))
    }

    fn id(&self, path: &Path) -> Result<u16, SysfsError> {
        let value = self.hexadecimal(path)?;
        u16::try_from(value).map_err(|_| SysfsError::Malformed {
            path: self.system_path(path),
            value: format!("{value:#x}"),
            expected: "a 16-bit id",
        })
    }

    pub(super) fn hexadecimal(&self, path: &Path) -> Result<u32, SysfsError> {
        let text = self.read(path)?;
        let digits = text.strip_prefix("0x").unwrap_or(&text);
        u32::from_str_radix(digits, 16).map_err(|_| SysfsError::Malformed {
            path: self.system_path(path),
            value: text.clone(),
            expected: "a hexadecimal number",
        })
    }

    fn decimal<T: std::str::FromStr>(&self, path: &Path) -> Result<T, SysfsError> {
        let text = self.read(path)?;
        self.parsed(path, &text, "a number")
    }

    fn parsed<T: std::str::FromStr>(&self, path: &Path, text: &str, expected: &'static str) -> Result<T, SysfsError> {
        text.parse().map_err(|_| SysfsError::Malformed {
            path: self.system_path(path),
            value: text.to_owned(),
            expected,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{ADDRESS, FakeTree};
    use super::*;

    #[test]
    fn controller_is_described() {
        let tree = FakeTree::new();
        tree.nvme();
        let function = tree.sysfs().function(ADDRESS).unwrap();
        assert!(function.is_nvme());
        assert_eq!((function.vendor, function.device), (0x1b36, 0x0010));
        assert_eq!(function.driver.as_deref(), Some("nvme"));
        assert_eq!(function.driver_override, None);
        assert_eq!(function.iommu_group, Some(7));
        assert_eq!(function.numa_node, None);
        assert_eq!(function.nvme.as_deref(), Some("nvme0"));
        assert_eq!(
            function.block_devices,
            [BlockDevice { name: "nvme0n1".to_owned(), size_bytes: 1 << 30, logical_block_size: 4096, nsid: Some(1) }]
        );
    }

    #[test]
    fn multipath_disk_is_named_by_its_head() {
        let tree = FakeTree::new();
        tree.nvme_multipath();
        let function = tree.sysfs().function(ADDRESS).unwrap();
        assert_eq!(function.block_devices[0].name, "nvme3n1");
        assert_eq!(function.block_devices[0].size_bytes, 1 << 30);
    }

    #[test]
    fn bound_to_vfio_it_has_no_disks() {
        let tree = FakeTree::new();
        tree.nvme();
        tree.bound_to_vfio();
        tree.write(&format!("sys/bus/pci/devices/{ADDRESS}/numa_node"), "1\n");
        let function = tree.sysfs().function(ADDRESS).unwrap();
        assert_eq!(function.driver.as_deref(), Some("vfio-pci"));
        assert_eq!(function.driver_override.as_deref(), Some("vfio-pci"));
        assert_eq!(function.numa_node, Some(1));
        assert_eq!((function.nvme, function.block_devices.len()), (None, 0));
    }

    #[test]
    fn absent_function_is_a_clear_error() {
        let error = FakeTree::new().sysfs().function(ADDRESS).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("no PCI function 0000:00:04.0 (/sys/bus/pci/devices/0000:00:04.0"), "{text}");
    }

    #[test]
    fn malformed_attribute_names_its_file() {
        let tree = FakeTree::new();
        tree.nvme();
        tree.write(&format!("sys/bus/pci/devices/{ADDRESS}/class"), "what\n");
        let text = tree.sysfs().function(ADDRESS).unwrap_err().to_string();
        assert_eq!(
            text,
            "/sys/bus/pci/devices/0000:00:04.0/class holds `what` where a hexadecimal number was expected"
        );
    }

    #[test]
    fn controllers_are_sorted_and_others_left_out() {
        let tree = FakeTree::new();
        tree.nvme();
        tree.other("0000:00:03.0", "0x020000", Some("virtio-pci"));
        tree.other("10000:01:00.0", "0x010802", None);
        tree.other("0000:00:02.0", "0x010802", None);
        // Administrative controllers and other programming interfaces are not ours.
        tree.other("0000:00:05.0", "0x010803", None);
        let found = tree.sysfs().nvme_controllers().unwrap();
        let names: Vec<String> = found.iter().map(|f| f.address.to_string()).collect();
        assert_eq!(names, ["0000:00:02.0", "0000:00:04.0", "10000:01:00.0"]);
    }
}
