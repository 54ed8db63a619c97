//! A device: an opened controller, shared by the rings that use it.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use dmaring_dma::Transport;
use dmaring_dma::pci::PciAddress;
use dmaring_dma::vfio::VfioDevice;

use crate::error::Error;
use crate::nvme::{ControllerInfo, Namespace, Owner};

/// What a user opens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceName {
    /// `pci:0000:00:04.0`, or `pci:0000:00:04.0/2` for namespace 2.
    Pci {
        /// The function.
        address: PciAddress,
        /// The namespace, from 1.
        nsid: u32,
    },
    /// Any path, served by a kernel io_uring.
    Path(PathBuf),
}

impl FromStr for DeviceName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let refuse = |what: String| Err(Error::Name { name: name.to_owned(), what });
        const FORM: &str = "write pci:0000:00:04.0, or pci:0000:00:04.0/2 for namespace 2";
        if name.is_empty() {
            return refuse(format!("the name is empty: {FORM}, or a path"));
        }
        for later in ["vfio-user:", "model:"] {
            if name.starts_with(later) {
                return refuse(format!("{later} devices are not served by this version; {FORM}, or a path"));
            }
        }
        let Some(function) = name.strip_prefix("pci:") else {
            return Ok(Self::Path(name.into()));
        };
        let (address, nsid) = function.split_once('/').unwrap_or((function, "1"));
        let address = match address.parse() {
            Ok(address) => address,
            Err(error) => return refuse(format!("{error}; {FORM}")),
        };
        match nsid.parse() {
            Ok(nsid @ 1..=0xffff_fffe) => Ok(Self::Pci { address, nsid }),
            _ => refuse(format!("`{nsid}` is not a namespace (1 to 4294967294); {FORM}")),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci { address, nsid: 1 } => write!(f, "pci:{address}"),
            Self::Pci { address, nsid } => write!(f, "pci:{address}/{nsid}"),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The controllers that this process has open: a VFIO group opens once, rings share it.
static OPEN: LazyLock<Mutex<HashMap<PciAddress, Weak<Owner>>>> = LazyLock::new(Mutex::default);

/// An opened NVMe controller. Clones share it; the last one gives it back.
#[derive(Clone, Debug)]
pub struct Device {
    owner: Arc<Owner>,
    namespaces: Arc<[Namespace]>,
    unusable: Arc<[(u32, String)]>,
}

impl Device {
    /// Opens the controller of a `pci:` name; the namespace in it is ignored. A controller that this
    /// process has open already is shared.
    ///
    /// # Errors
    /// What is in the way (not bound, in use and by whom, no IOMMU, memory-lock limit, not NVMe) and what
    /// to do; [`Error::Unsupported`] for a path, which has no controller.
    pub fn open(name: &str) -> Result<Self, Error> {
        match name.parse()? {
            DeviceName::Pci { address, .. } => Self::open_pci(address),
            DeviceName::Path(_) => Err(Error::Unsupported {
                call: "Device::open",
                what: "a path has no controller of its own: open a ring on it",
            }),
        }
    }

    pub(crate) fn open_pci(address: PciAddress) -> Result<Self, Error> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = open.get(&address).and_then(Weak::upgrade).filter(|owner| owner.is_ours());
        let owner = match shared {
            Some(owner) => owner,
            None => {
                let owner = Arc::new(Owner::open(Arc::new(VfioDevice::open(address)?))?);
                open.insert(address, Arc::downgrade(&owner));
                owner
            }
        };
        drop(open);
        Self::of(owner)
    }

    /// Takes the controller behind any transport, such as a [`Model`](crate::model::Model).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn on(transport: Arc<dyn Transport>) -> Result<Self, Error> {
        Self::of(Arc::new(Owner::open(transport)?))
    }

    fn of(owner: Arc<Owner>) -> Result<Self, Error> {
        let mut namespaces = Vec::new();
        let mut unusable = Vec::new();
        for (nsid, namespace) in owner.namespaces()? {
            match namespace {
                Ok(namespace) => namespaces.push(namespace),
                Err(error) => unusable.push((nsid, error.to_string())),
            }
        }
        Ok(Self { owner, namespaces: namespaces.into(), unusable: unusable.into() })
    }

    /// The device's name, such as `pci:0000:00:04.0`.
    #[must_use]
    pub fn name(&self) -> String {
        self.owner.name()
    }

    /// What the controller says of itself.
    #[must_use]
    pub fn info(&self) -> &ControllerInfo {
        self.owner.info()
    }

    /// The active namespaces that can be used.
    #[must_use]
    pub fn namespaces(&self) -> &[Namespace] {
        &self.namespaces
    }

    /// The active namespaces that cannot be used, each with the reason.
    #[must_use]
    pub fn unusable(&self) -> &[(u32, String)] {
        &self.unusable
    }

    /// One namespace.
    ///
    /// # Errors
    /// [`Error::NoNamespace`], or [`Error::Namespace`] with the reason why it cannot be used.
    pub fn namespace(&self, nsid: u32) -> Result<&Namespace, Error> {
        if let Some(namespace) = self.namespaces.iter().find(|n| n.nsid == nsid) {
            return Ok(namespace);
        }
        match self.unusable.iter().find(|(id, _)| *id == nsid) {
            Some((_, what)) => Err(Error::Unusable { what: what.clone() }),
            None => {
                let present = self.namespaces.iter().map(|n| n.nsid).collect();
                Err(Error::NoNamespace { device: self.name(), nsid, present })
            }
        }
    }

    pub(crate) fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_print_alike() {
        for name in ["pci:0000:00:04.0", "pci:0000:00:04.0/2", "/dev/nvme0n1", "file", "./pci:x"] {
            assert_eq!(name.parse::<DeviceName>().unwrap().to_string(), name);
        }
        assert_eq!("pci:00:04.0/1".parse::<DeviceName>().unwrap().to_string(), "pci:0000:00:04.0");
    }

    #[test]
    fn names_that_do_not_parse_say_why_and_show_the_form() {
        for name in [
            "",
            "pci:",
            "pci:zz",
            "pci:0000:00:04.0/",
            "pci:0000:00:04.0/0",
            "pci:0000:00:04.0/4294967295",
            "pci:0000:00:04.0/-1",
            "pci:0000:00:04.0/99999999999999999999",
            "vfio-user:/x",
            "model:1GiB",
        ] {
            let error = name.parse::<DeviceName>().unwrap_err();
            assert!(error.to_string().contains("pci:0000:00:04.0"), "{error}");
            assert_eq!(error.errno(), libc::EINVAL);
        }
    }
}
