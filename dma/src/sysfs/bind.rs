//! Moving a controller to vfio-pci and back.
//!
//! ```text
//! bind:    class -> uses -> vfio-pci loaded -> IOMMU -> driver_override = vfio-pci
//!            -> uses again, disks claimed -> unbind -> drivers_probe -> verify
//!          any failure from driver_override on: put it and the driver back as they were
//! unbind:  class -> group not open -> driver_override = "" -> unbind -> drivers_probe -> verify
//! ```
//!
//! Writes to `unbind` and `drivers_probe` return when the kernel is done; a controller that does
//! not answer keeps the kernel's own driver busy for as long as its timeouts say.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::{PciFunction, Sysfs, SysfsError};
use crate::pci::PciAddress;

const VFIO_PCI: &str = "vfio-pci";
const NVME: &str = "nvme";

/// What unsets `driver_override`: an empty line (an empty write never reaches the kernel).
const NO_OVERRIDE: &str = "\n";

/// How to bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BindOptions {
    /// Take the controller even if it is in use (default: no). What uses it loses it, and what
    /// was not yet written is lost. Other functions than NVMe controllers are never taken.
    pub force: bool,
}

/// A controller is on vfio-pci.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The driver it was taken from; `None` if it had none or was already on vfio-pci.
    pub previous_driver: Option<String>,
    /// It was on vfio-pci before, and nothing was done.
    pub already: bool,
}

/// A controller is not on vfio-pci.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unbound {
    /// The driver that has it now.
    pub driver: Option<String>,
    /// It was not on vfio-pci before, and nothing was done.
    pub already: bool,
}

impl Sysfs {
    /// Binds an NVMe controller to vfio-pci.
    ///
    /// Refuses while anything [uses](Sysfs::uses) the controller that [`Use::refuses`]; the check
    /// is repeated, and the disks are claimed exclusively, right before the kernel's driver is
    /// unbound, so that nothing is mounted in between. Loads vfio-pci with `modprobe` if needed.
    /// On failure the function is put back to the driver it was found with. Whether its IOMMU
    /// group is viable is not decided here: see [`Sysfs::group`].
    ///
    /// [`Use::refuses`]: super::Use::refuses
    ///
    /// # Errors
    /// [`SysfsError::NotNvme`], [`SysfsError::InUse`], [`SysfsError::NoDriver`],
    /// [`SysfsError::NoIommu`], [`SysfsError::NotBehindIommu`] and [`SysfsError::Permission`]
    /// before anything is touched; [`SysfsError::RolledBack`] or [`SysfsError::NotRolledBack`],
    /// with the cause as source, after.
    pub fn bind(&self, address: PciAddress, options: BindOptions) -> Result<Bound, SysfsError> {
        let found = self.controller_function(address)?;
        if found.driver.as_deref() == Some(VFIO_PCI) {
            return Ok(Bound { previous_driver: None, already: true });
        }
        if options.force {
            self.warn_of_uses(address);
        } else {
            // Dropped at once: only the second look, below, must last until the unbind.
            drop(self.claim(address)?);
        }
        self.check_writable(&self.device_dir(address).join("driver_override"))?;
        self.ensure_vfio_pci()?;
        self.check_translated(&found)?;
        match self.take(&found, options) {
            Ok(()) => {
                tracing::info!(%address, from = ?found.driver, "bound to vfio-pci");
                Ok(Bound { previous_driver: found.driver, already: false })
            }
            Err(cause) => Err(self.roll_back(&found, cause)),
        }
    }

    /// Gives an NVMe controller on vfio-pci back to the kernel's driver.
    ///
    /// Also finishes what an interrupted bind left: a function without a driver whose
    /// `driver_override` is still vfio-pci. Otherwise, does nothing to a function that is not on
    /// vfio-pci. The disks appear some time after the driver is bound.
    ///
    /// # Errors
    /// [`SysfsError::Held`] if the VFIO group is open; [`SysfsError::NotNvme`];
    /// [`SysfsError::NoTaker`] or [`SysfsError::ClaimedByIds`] if it did not get back.
    pub fn unbind(&self, address: PciAddress) -> Result<Unbound, SysfsError> {
        let found = self.controller_function(address)?;
        let on_vfio = found.driver.as_deref() == Some(VFIO_PCI);
        let half_bound = found.driver.is_none() && found.driver_override.as_deref() == Some(VFIO_PCI);
        if !on_vfio && !half_bound {
            return Ok(Unbound { driver: found.driver, already: true });
        }
        if on_vfio {
            self.check_not_held(&found)?;
        }
        self.set_override(address, None)?;
        if on_vfio && let Err(error) = self.release(address, VFIO_PCI) {
            if let Err(error) = self.set_override(address, found.driver_override.as_deref()) {
                tracing::warn!(%address, %error, "driver_override was not put back");
            }
            return Err(error);
        }
        if !self.driver_dir(NVME).exists()
            && let Err(error) = (self.kernel.modprobe)(self.root(), NVME)
        {
            tracing::warn!(%error, "modprobe nvme failed");
        }
        self.probe(address)?;
        let driver = self.wait_for_driver(address, |now| now.is_some())?;
        match driver.as_deref() {
            None => Err(SysfsError::NoTaker { address }),
            Some(VFIO_PCI) => Err(SysfsError::ClaimedByIds { address }),
            Some(driver_name) => {
                tracing::info!(%address, to = driver_name, "given back");
                Ok(Unbound { driver, already: false })
            }
        }
    }

    fn controller_function(&self, address: PciAddress) -> Result<PciFunction, SysfsError> {
        let function = self.function(address)?;
        if !function.is_nvme() {
            return Err(SysfsError::NotNvme { address, class: function.class });
        }
        Ok(function)
    }

    fn warn_of_uses(&self, address: PciAddress) {
        match self.uses(address) {
            Ok(uses) => {
                for used in uses.iter().filter(|used| used.refuses()) {
                    tracing::warn!(%address, "taken although {used}");
                }
            }
            Err(error) => tracing::warn!(%address, %error, "taken although its uses are unknown"),
        }
    }

    /// Fails early, and with the right advice, if attributes may not be written.
    fn check_writable(&self, path: &Path) -> Result<(), SysfsError> {
        (self.kernel.open)(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC)
            .map(drop)
            .map_err(|error| SysfsError::io("write", path, error))
    }

    fn ensure_vfio_pci(&self) -> Result<(), SysfsError> {
        let dir = self.driver_dir(VFIO_PCI);
        if dir.exists() {
            return Ok(());
        }
        let no_driver = |source| SysfsError::NoDriver { driver: VFIO_PCI, source };
        (self.kernel.modprobe)(self.root(), VFIO_PCI).map_err(no_driver)?;
        if dir.exists() {
            return Ok(());
        }
        let path = self.system_path(&dir);
        let text = format!("modprobe succeeded, but {} is absent", path.display());
        Err(no_driver(std::io::Error::other(text)))
    }

    /// vfio-pci refuses functions without a group unless its unsafe mode makes one up.
    fn check_translated(&self, found: &PciFunction) -> Result<(), SysfsError> {
        if found.iommu_group.is_some() {
            return Ok(());
        }
        let unsafe_mode = self.path("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode");
        if self.read_optional(&unsafe_mode)?.as_deref() == Some("Y") {
            tracing::warn!(address = %found.address, "no IOMMU: the device's DMA is not confined");
            return Ok(());
        }
        Err(self.no_group(found.address)?)
    }

    /// The part of a bind that changes the system.
    fn take(&self, found: &PciFunction, options: BindOptions) -> Result<(), SysfsError> {
        let address = found.address;
        self.set_override(address, Some(VFIO_PCI))?;
        if let Some(driver) = &found.driver {
            let claims = if options.force { Vec::new() } else { self.claim(address)? };
            self.release(address, driver)?;
            // Only now: a claim keeps the disk from being mounted until it is gone.
            drop(claims);
        }
        self.probe(address)?;
        self.expect_driver(address, VFIO_PCI)
    }

    /// Puts the function back as it was found, and says how that went.
    fn roll_back(&self, found: &PciFunction, cause: SysfsError) -> SysfsError {
        let address = found.address;
        let source = Box::new(cause);
        tracing::warn!(%address, error = %source, "binding failed, rolling back");
        match self.put_back(found) {
            Ok(()) => SysfsError::RolledBack { address, restored: found.driver.clone(), source },
            Err(rollback) => SysfsError::NotRolledBack {
                address,
                previous: found.driver.clone(),
                left: self.driver_of(&self.device_dir(address)).unwrap_or(None),
                rollback: Box::new(rollback),
                source,
            },
        }
    }

    fn put_back(&self, found: &PciFunction) -> Result<(), SysfsError> {
        let address = found.address;
        self.set_override(address, found.driver_override.as_deref())?;
        let now = self.driver_of(&self.device_dir(address))?;
        if now == found.driver {
            return Ok(());
        }
        if let Some(driver) = &now {
            self.release(address, driver)?;
        }
        match &found.driver {
            Some(driver) => {
                self.probe(address)?;
                self.expect_driver(address, driver)
            }
            None => Ok(()),
        }
    }

    fn check_not_held(&self, found: &PciFunction) -> Result<(), SysfsError> {
        let address = found.address;
        let Some(number) = found.iommu_group else {
            return Ok(());
        };
        let held = |holders| SysfsError::Held { address, group: number, holders };
        let holders = self.group_holders(number)?;
        if !holders.is_empty() {
            return Err(held(holders));
        }
        // A group opens once, and stays open with its devices: this also sees holders that show
        // no descriptor. Nothing is done with it, and it is closed at once.
        let node = self.path(&self.group(address)?.node().to_string_lossy());
        match (self.kernel.open)(&node, OFlag::O_RDWR | OFlag::O_CLOEXEC) {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => Err(held(holders)),
            // No node: built without groups (VFIO_GROUP=n), or a /dev without it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(SysfsError::io("open", &node, error)),
        }
    }

    fn set_override(&self, address: PciAddress, driver: Option<&str>) -> Result<(), SysfsError> {
        let path = self.device_dir(address).join("driver_override");
        self.write(&path, driver.unwrap_or(NO_OVERRIDE))
    }

    fn probe(&self, address: PciAddress) -> Result<(), SysfsError> {
        let path = self.path("/sys/bus/pci/drivers_probe");
        self.write(&path, &address.to_string())
    }

    /// Unbinds the function from a driver and waits until it is.
    fn release(&self, address: PciAddress, driver: &str) -> Result<(), SysfsError> {
        let path = self.driver_dir(driver).join("unbind");
        let began = Instant::now();
        self.write(&path, &address.to_string())?;
        match self.wait_for_driver(address, |now| now != Some(driver))? {
            Some(now) if now == driver => {
                Err(SysfsError::StillBound { address, driver: now, waited_ms: began.elapsed().as_millis() })
            }
            _ => Ok(()),
        }
    }

    fn expect_driver(&self, address: PciAddress, wanted: &str) -> Result<(), SysfsError> {
        let mut found = self.wait_for_driver(address, |now| now == Some(wanted))?;
        let mut source = None;
        if found.is_none() {
            // drivers_probe keeps the answer of the driver to itself; `bind` passes it on.
            let path = self.driver_dir(wanted).join("bind");
            match self.write(&path, &address.to_string()) {
                Ok(()) => found = self.wait_for_driver(address, |now| now == Some(wanted))?,
                Err(SysfsError::Io { source: error, .. }) => source = Some(error),
                Err(error) => return Err(error),
            }
        }
        if found.as_deref() == Some(wanted) {
            return Ok(());
        }
        Err(SysfsError::NotTaken { address, wanted: wanted.to_owned(), found, source })
    }

    /// Waits, within bounds, until the driver is as wanted; returns what it is in the end.
    fn wait_for_driver(
        &self,
        address: PciAddress,
        wanted: impl Fn(Option<&str>) -> bool,
    ) -> Result<Option<String>, SysfsError> {
        let dir = self.device_dir(address);
        let deadline = Instant::now() + self.kernel.patience;
        loop {
            let now = self.driver_of(&dir)?;
            if wanted(now.as_deref()) || Instant::now() >= deadline {
                return Ok(now);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
#[path = "bind_tests.rs"]
mod tests;
