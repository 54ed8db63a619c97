//! `dmaring bind` and `dmaring unbind`: moving a controller to vfio-pci and back.

use clap::Args;
use dmaring_dma::pci::PciAddress;
use dmaring_dma::sysfs::{BindOptions, Sysfs};

use crate::output;

/// `dmaring bind`.
#[derive(Debug, Args)]
pub struct BindCommand {
    /// PCI address, such as 0000:00:04.0
    #[arg(value_parser = parse_address)]
    address: PciAddress,
    /// Take it even if it is in use: what uses it loses it, with what was not yet written
    #[arg(long)]
    force: bool,
}

/// `dmaring unbind`.
#[derive(Debug, Args)]
pub struct UnbindCommand {
    /// PCI address, such as 0000:00:04.0
    #[arg(value_parser = parse_address)]
    address: PciAddress,
}

/// An address as it stands in a name, with or without `pci:`.
pub fn parse_address(text: &str) -> Result<PciAddress, String> {
    let address = text.strip_prefix("pci:").unwrap_or(text);
    address.parse().map_err(|error| format!("{error}"))
}

impl BindCommand {
    /// Binds, and says what was done.
    ///
    /// # Errors
    /// Why the controller was left, or put back, as it was.
    pub fn run(&self) -> anyhow::Result<()> {
        let (address, force) = (self.address, self.force);
        let sysfs = Sysfs::new();
        let bound = sysfs.bind(address, BindOptions { force })?;
        let from = bound.previous_driver.as_deref().unwrap_or("no driver");
        let mut text = if bound.already {
            format!("{address} is on vfio-pci already; nothing was done")
        } else {
            format!("{address} is now on vfio-pci, taken from {from}; `dmaring unbind {address}` gives it back")
        };
        if let Err(reason) = sysfs.group(address).and_then(|group| group.check_viable()) {
            text += &format!("\nit cannot be opened yet: {reason}");
        }
        output::print(&format!("{text}\n"))
    }
}

impl UnbindCommand {
    /// Gives back, and says what was done.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(&self) -> anyhow::Result<()> {
        let address = self.address;
        let unbound = Sysfs::new().unbind(address)?;
        let driver = unbound.driver.as_deref().unwrap_or("no driver");
        output::print(&if unbound.already {
            format!("{address} is not on vfio-pci but with {driver}; nothing was done\n")
        } else {
            format!("{address} is back with {driver}\n")
        })
    }
}
