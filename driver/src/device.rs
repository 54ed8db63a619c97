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
use crate::model::{Model, ModelConfig, ModelNamespace, Storage};
use crate::nvme::{ControllerInfo, Namespace, Owner};
use crate::options::DeviceOptions;
use crate::size::parse_size;
use crate::spec::log::{ErrorEntry, SmartLog};

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
    /// `model:256MiB`: a controller in software with one namespace in this process's memory, worked by a
    /// thread of its own; `model:null:1TiB`: one that reads as zeroes and forgets what is written. Sizes are
    /// those of [`parse_size`](crate::parse_size). Every opening by name is a new controller with new
    /// contents: to share one, open a [`Device`] and make rings on it.
    Model {
        /// Size of the namespace, in bytes: whole blocks of 512.
        size_bytes: u64,
        /// Nothing is kept.
        null: bool,
        /// The namespace, from 1; there is no other than 1.
        nsid: u32,
    },
    /// Any path, served by a kernel io_uring: a regular file, a block device, or a character device of the
    /// kernel's NVMe driver (`/dev/ng0n1`, `/dev/nvme0`), which takes NVMe commands only.
    Path(PathBuf),
}

/// Blocks of a model that is opened by name, in bytes.
const MODEL_BLOCK: u64 = 512;

fn parse_model(text: &str) -> Result<DeviceName, String> {
    const FORM: &str = "write model:256MiB, or model:null:1TiB for one that keeps nothing";
    let (null, rest) = text.strip_prefix("null:").map_or((false, text), |rest| (true, rest));
    let (size, nsid) = rest.split_once('/').unwrap_or((rest, "1"));
    let size_bytes = parse_size(size).map_err(|what| format!("{what}; {FORM}"))?;
    if size_bytes == 0 || !size_bytes.is_multiple_of(MODEL_BLOCK) || i64::try_from(size_bytes).is_err() {
        return Err(format!("{size_bytes} bytes are not 1 to 2^54 - 1 blocks of {MODEL_BLOCK}; {FORM}"));
    }
    match nsid.parse() {
        Ok(nsid @ 1..=0xffff_fffe) => Ok(DeviceName::Model { size_bytes, null, nsid }),
        _ => Err(format!("`{nsid}` is not a namespace (1 to 4294967294); {FORM}")),
    }
}

/// A number of bytes in the largest unit that divides it.
fn print_size(bytes: u64) -> String {
    let units = ["", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let steps = (bytes.trailing_zeros() as usize / 10).min(units.len() - 1);
    format!("{}{}", bytes >> (10 * steps), units[steps])
}

impl FromStr for DeviceName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let refuse = |what: String| Err(Error::Name { name: name.to_owned(), what });
        const FORM: &str = "write pci:0000:00:04.0, or pci:0000:00:04.0/2 for namespace 2";
        if name.is_empty() {
            return refuse(format!("the name is empty: {FORM}, or a path"));
        }
        if name.starts_with("vfio-user:") {
            return refuse(format!("vfio-user: devices are not served by this version; {FORM}, or a path"));
        }
        if let Some(model) = name.strip_prefix("model:") {
            return parse_model(model).or_else(refuse);
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
            Self::Model { size_bytes, null, nsid } => {
                let (null, size) = (if *null { "null:" } else { "" }, print_size(*size_bytes));
                if *nsid == 1 { write!(f, "model:{null}{size}") } else { write!(f, "model:{null}{size}/{nsid}") }
            }
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
    /// Opens the controller of a `pci:` or `model:` name; the namespace in it is ignored. A `pci:` controller
    /// that this process has open already is shared; a `model:` is a new one each time.
    ///
    /// # Errors
    /// What is in the way (not bound, in use and by whom, no IOMMU, memory-lock limit, not NVMe) and what
    /// to do; [`Error::Unsupported`] for a path, which has no controller.
    pub fn open(name: &str) -> Result<Self, Error> {
        Self::open_as(name, &DeviceOptions::default())
    }

    /// Opening with options.
    #[must_use]
    pub fn options() -> DeviceOptions {
        DeviceOptions::default()
    }

    pub(crate) fn open_as(name: &str, options: &DeviceOptions) -> Result<Self, Error> {
        match name.parse()? {
            DeviceName::Pci { address, .. } => Self::open_pci(address, options),
            DeviceName::Model { size_bytes, null, .. } => Self::open_model(size_bytes, null, options),
            DeviceName::Path(_) => Err(Error::Unsupported {
                call: "Device::open",
                what: "a path has no controller of its own: open a ring on it",
            }),
        }
    }

    pub(crate) fn open_pci(address: PciAddress, options: &DeviceOptions) -> Result<Self, Error> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = open.get(&address).and_then(Weak::upgrade).filter(|owner| owner.is_ours());
        let owner = match shared {
            Some(owner) => owner,
            None => {
                let owner = Arc::new(Owner::open(Arc::new(VfioDevice::open(address)?), options)?);
                open.insert(address, Arc::downgrade(&owner));
                owner
            }
        };
        drop(open);
        Self::of(owner)
    }

    pub(crate) fn open_model(size_bytes: u64, null: bool, options: &DeviceOptions) -> Result<Self, Error> {
        let name = DeviceName::Model { size_bytes, null, nsid: 1 }.to_string();
        let storage = if null { Ok(Storage::null(size_bytes)) } else { Storage::ram(size_bytes) };
        let storage = storage.map_err(|reason| match reason.raw_os_error() {
            Some(_) => Error::Os { call: "memory of the model", reason },
            None => Error::Name { name: name.clone(), what: reason.to_string() },
        })?;
        let config = ModelConfig::new(vec![ModelNamespace::new(storage)]);
        let model =
            Model::threaded(&name, config).map_err(|reason| Error::Os { call: "a thread of the model", reason })?;
        Self::on_as(Arc::new(model), options)
    }

    /// Takes the controller behind any transport, such as a [`Model`](crate::model::Model).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn on(transport: Arc<dyn Transport>) -> Result<Self, Error> {
        Self::on_as(transport, &DeviceOptions::default())
    }

    pub(crate) fn on_as(transport: Arc<dyn Transport>, options: &DeviceOptions) -> Result<Self, Error> {
        Self::of(Arc::new(Owner::open(transport, options)?))
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

    /// Asks the controller how it is: SMART / Health Information (section 5.16.1.3).
    ///
    /// # Errors
    /// [`Error::Admin`] when the controller refuses the log page; [`Error::Gone`], [`Error::Fatal`],
    /// [`Error::Timeout`] when it does not answer; [`Error::Forked`].
    pub fn smart(&self) -> Result<SmartLog, Error> {
        self.owner.smart()
    }

    /// The errors that the controller remembers (section 5.16.1.2), the latest first as it gives them.
    ///
    /// # Errors
    /// As [`smart`](Self::smart).
    pub fn error_log(&self) -> Result<Vec<ErrorEntry>, Error> {
        self.owner.error_log()
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
        for name in [
            "pci:0000:00:04.0",
            "pci:0000:00:04.0/2",
            "/dev/nvme0n1",
            "file",
            "./pci:x",
            "model:256MiB",
            "model:null:1TiB/2",
            "model:1536",
        ] {
            assert_eq!(name.parse::<DeviceName>().unwrap().to_string(), name);
        }
        assert_eq!("model:4k".parse::<DeviceName>().unwrap().to_string(), "model:4KiB");
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
        ] {
            let error = name.parse::<DeviceName>().unwrap_err();
            assert!(error.to_string().contains("pci:0000:00:04.0"), "{error}");
            assert_eq!(error.errno(), libc::EINVAL);
        }
    }

    #[test]
    fn sizes_of_models_that_cannot_be_say_why_and_show_the_form() {
        let names = ["", "0", "x", "-1", "513", "1k/0", "null:", "null:0", "99999999999g", "8388608t", "1.5g", "1g/x"];
        for name in names.map(|size| format!("model:{size}")) {
            let error = name.parse::<DeviceName>().unwrap_err();
            assert!(error.to_string().contains("model:256MiB"), "{error}");
            assert_eq!(error.errno(), libc::EINVAL);
        }
        let error = Device::open("model:8191t").unwrap_err();
        assert!(error.to_string().contains("the machine's memory"), "{error}");
        assert_eq!(error.errno(), libc::EINVAL);
    }

    #[test]
    fn a_model_is_a_new_controller_with_each_opening() {
        let first = crate::DmaFile::open("model:1m").unwrap();
        first.write_at(&[7; 512], 0).unwrap();
        let second = crate::DmaFile::open("model:1m").unwrap();
        let mut data = [1; 512];
        second.read_at(&mut data, 0).unwrap();
        assert_eq!(data, [0; 512]);
        first.read_at(&mut data, 0).unwrap();
        assert_eq!(data, [7; 512]);
        assert!(matches!(crate::Ring::builder(8).open("model:1m/2"), Err(Error::NoNamespace { .. })));
    }

    #[test]
    fn null_models_keep_nothing_and_may_be_larger_than_memory() {
        let file = crate::DmaFile::open("model:null:64t").unwrap();
        file.write_at(&[7; 512], 63 << 40).unwrap();
        let mut data = [1; 512];
        file.read_at(&mut data, 63 << 40).unwrap();
        assert_eq!(data, [0; 512]);
    }
}
