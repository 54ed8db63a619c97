//! Two controllers of a kind that take turns on vfio-pci and on the kernel's driver.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use dmaring_dma::pci::PciAddress;
use dmaring_dma::sysfs::{BindOptions, Sysfs};

use crate::bind::parse_address;
use crate::output;

const VFIO_PCI: &str = "vfio-pci";
/// The kernel shows a disk some time after its driver was bound.
const DISK: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Two addresses, as `--swap` takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair(pub [PciAddress; 2]);

/// Reads `ADDRESS,ADDRESS`.
pub fn parse_pair(text: &str) -> Result<Pair, String> {
    let (one, two) = text.split_once(',').ok_or("write two addresses with a comma between")?;
    let pair = [parse_address(one)?, parse_address(two)?];
    if pair[0] == pair[1] {
        return Err("the two are one controller".to_owned());
    }
    Ok(Pair(pair))
}

/// Both controllers; dropped, they are with the drivers they were found with.
#[derive(Debug)]
pub struct Roles {
    sysfs: Sysfs,
    found: [(PciAddress, bool); 2],
}

/// Who has which role in a round.
#[derive(Debug, Clone)]
pub struct Round {
    /// On vfio-pci.
    pub vfio: PciAddress,
    /// With the kernel's driver.
    pub kernel: PciAddress,
    /// Its disk.
    pub disk: PathBuf,
}

impl Roles {
    /// Remembers how both are found.
    ///
    /// # Errors
    /// One is absent.
    pub fn new(pair: Pair) -> anyhow::Result<Self> {
        let sysfs = Sysfs::new();
        let mut found = pair.0.map(|address| (address, false));
        for (address, on_vfio) in &mut found {
            *on_vfio = sysfs.function(*address)?.driver.as_deref() == Some(VFIO_PCI);
        }
        Ok(Self { sysfs, found })
    }

    /// Gives the roles out; in odd rounds the other way round.
    ///
    /// # Errors
    /// A controller did not change its driver, or the kernel shows no disk of it.
    pub fn assign(&self, round: u32) -> anyhow::Result<Round> {
        let [(mut vfio, _), (mut kernel, _)] = self.found;
        if round % 2 == 1 {
            (vfio, kernel) = (kernel, vfio);
        }
        self.sysfs.unbind(kernel)?;
        self.sysfs.bind(vfio, BindOptions::default())?;
        let disk = self.wait_for_disk(kernel)?;
        Ok(Round { vfio, kernel, disk })
    }

    /// The disk of namespace 1, or of the first.
    fn wait_for_disk(&self, address: PciAddress) -> anyhow::Result<PathBuf> {
        let deadline = Instant::now() + DISK;
        loop {
            let disks = self.sysfs.function(address)?.block_devices;
            let disk = disks.iter().find(|disk| disk.nsid == Some(1)).or(disks.first());
            let path = disk.filter(|disk| disk.size_bytes > 0).map(|disk| Path::new("/dev").join(&disk.name));
            if let Some(path) = path.filter(|path| path.exists()) {
                return Ok(path);
            }
            if Instant::now() > deadline {
                bail!("the kernel shows no disk of {address} after {} s: `dmesg` may say why", DISK.as_secs());
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    fn restore(&self, address: PciAddress, on_vfio: bool) -> anyhow::Result<()> {
        if on_vfio {
            self.sysfs.bind(address, BindOptions::default()).map(drop)
        } else {
            self.sysfs.unbind(address).map(drop)
        }
        .with_context(|| format!("{address} was not put back as it was found"))
    }
}

impl Drop for Roles {
    fn drop(&mut self) {
        for (address, on_vfio) in self.found {
            if let Err(error) = self.restore(address, on_vfio) {
                output::note(&format!("{error:#}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_two_controllers() {
        let pair = parse_pair("0000:00:04.0,pci:00:05.0").unwrap();
        assert_eq!(pair.0.map(|address| address.to_string()), ["0000:00:04.0", "0000:00:05.0"]);
        for text in ["", "0000:00:04.0", "0000:00:04.0,", "00:04.0,0000:00:04.0", "a,b"] {
            assert!(parse_pair(text).is_err(), "{text}");
        }
    }
}
