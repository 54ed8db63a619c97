//! An IOMMU group: the set of functions the hardware cannot tell apart, opened as one.

#![expect(unsafe_code)] // owns the group descriptor and the calls on it

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};

use nix::errno::Errno;
use vfio_bindings::bindings::vfio::{VFIO_GROUP_FLAGS_VIABLE, vfio_group_status};

use super::ioctl;
use crate::DmaError;
use crate::pci::PciAddress;
use crate::sysfs::{Process, Sysfs};

#[derive(Debug)]
pub(super) struct Group {
    file: File,
    address: PciAddress,
}

impl Group {
    /// Opens the group of `address`, which must be bound to `vfio-pci` and viable.
    pub(super) fn open(sysfs: &Sysfs, address: PciAddress) -> Result<Self, DmaError> {
        let function = sysfs.function(address)?;
        let driver = function.driver.as_deref();
        if driver != Some("vfio-pci") {
            // Without an IOMMU, binding would not help: that error comes first.
            sysfs.group(address)?;
            return Err(DmaError::NotBound { address, driver: driver.unwrap_or("no driver").to_owned() });
        }
        let group = sysfs.group(address)?;
        let path = group.node();
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|reason| {
            if reason.raw_os_error() == Some(libc::EBUSY) {
                DmaError::Busy { address, holder: holder(sysfs, group.number) }
            } else {
                DmaError::Open { path, reason }
            }
        })?;
        let mut status = vfio_group_status { argsz: size_of::<vfio_group_status>() as u32, flags: 0 };
        // SAFETY: the structure outlives the call and has the size it says.
        unsafe { ioctl::group_get_status(file.as_raw_fd(), &raw mut status) }
            .map_err(|e| DmaError::Vfio { call: "VFIO_GROUP_GET_STATUS", reason: e.into() })?;
        if status.flags & VFIO_GROUP_FLAGS_VIABLE == 0 {
            group.check_viable()?;
            let blockers = "a driver of the kernel has one of its functions".to_owned();
            return Err(DmaError::GroupNotViable { address, group: group.number, blockers });
        }
        Ok(Self { file, address })
    }

    pub(super) fn join(&self, container: BorrowedFd<'_>) -> Result<(), DmaError> {
        let fd = container.as_raw_fd();
        // SAFETY: the kernel reads one descriptor number, which outlives the call.
        unsafe { ioctl::group_set_container(self.file.as_raw_fd(), &raw const fd) }
            .map_err(|e| DmaError::Vfio { call: "VFIO_GROUP_SET_CONTAINER", reason: e.into() })?;
        Ok(())
    }

    pub(super) fn device(&self, sysfs: &Sysfs) -> Result<File, DmaError> {
        let name = CString::new(self.address.to_string()).expect("an address has no NUL");
        // SAFETY: the name is NUL-terminated and outlives the call.
        let result = unsafe { ioctl::group_get_device_fd(self.file.as_raw_fd(), name.as_ptr()) };
        match result {
            // SAFETY: a new descriptor that nobody else has.
            Ok(fd) => Ok(unsafe { File::from_raw_fd(fd) }),
            Err(Errno::EBUSY) => {
                let group = sysfs.group(self.address)?;
                Err(DmaError::Busy { address: self.address, holder: holder(sysfs, group.number) })
            }
            Err(errno) => Err(DmaError::Vfio { call: "VFIO_GROUP_GET_DEVICE_FD", reason: io::Error::from(errno) }),
        }
    }
}

fn holder(sysfs: &Sysfs, group: u32) -> String {
    let me = std::process::id();
    let holders = sysfs.group_holders(group).unwrap_or_default();
    let name = |p: &Process| if p.pid == me { "this process".to_owned() } else { p.to_string() };
    let names: Vec<String> = holders.iter().map(name).collect();
    if names.is_empty() { "a process that cannot be seen from here".into() } else { names.join(", ") }
}
