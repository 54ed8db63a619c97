//! A device by its name, from which rings are opened.

use anyhow::bail;
use dmaring::{Device, DeviceName, Ring};
use dmaring_dma::pci::PciAddress;

use crate::job::Completion;

/// A name that has been understood, and for a `pci:` name the opened device.
#[derive(Debug, Clone)]
pub struct Target {
    name: String,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// A controller can be opened only once: all rings share it.
    Device { device: Device, nsid: u32 },
    /// Each ring opens the path, or the kernel's disk of a device that could not be had.
    Name { fallback: bool },
}

impl Target {
    /// Opens the device, or with `fallback` leaves that to each ring if it cannot be had.
    ///
    /// # Errors
    /// The name is none, or the device cannot be opened.
    pub fn open(name: &str, fallback: bool) -> anyhow::Result<Self> {
        let source = match name.parse::<DeviceName>()? {
            DeviceName::Pci { nsid, .. } => match Device::open(name) {
                Ok(device) => Source::Device { device, nsid },
                Err(_) if fallback => Source::Name { fallback },
                Err(error) => return Err(error.into()),
            },
            DeviceName::Model { nsid, .. } => Source::Device { device: Device::open(name)?, nsid },
            DeviceName::Path(path) if !path.exists() && name.parse::<PciAddress>().is_ok() => {
                bail!("there is no file {name}; if the controller at that address is meant, write pci:{name}");
            }
            _ => Source::Name { fallback: false },
        };
        let name = name.to_owned();
        Ok(Self { name, source })
    }

    /// Whether it is a device of ours rather than a path.
    pub fn is_device(&self) -> bool {
        matches!(self.source, Source::Device { .. })
    }

    /// The device of ours, with the number of the namespace.
    pub fn device(&self) -> Option<(&Device, u32)> {
        match &self.source {
            Source::Device { device, nsid } => Some((device, *nsid)),
            Source::Name { .. } => None,
        }
    }

    /// A ring on it.
    ///
    /// # Errors
    /// Why the library cannot open one.
    pub fn ring(&self, entries: u32, completion: Completion) -> anyhow::Result<Ring> {
        let builder = Ring::builder(entries).completion(completion.mode());
        let opened = match &self.source {
            Source::Device { device, nsid } => builder.open_device(device, *nsid),
            Source::Name { fallback } => builder.fallback(*fallback).open(&self.name),
        };
        Ok(opened?)
    }

    /// How completions are learnt of unless the user says.
    pub fn usual_completion(&self) -> Completion {
        if self.is_device() { Completion::Poll } else { Completion::Interrupt }
    }
}
