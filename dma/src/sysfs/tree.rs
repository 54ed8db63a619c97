//! The tree everything is read from and written to: the system's, or one of plain files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::fcntl::OFlag;

use super::SysfsError;
use crate::pci::PciAddress;

/// Access to `/sys`, `/proc` and `/dev` below a root.
#[derive(Debug, Clone)]
pub struct Sysfs {
    root: PathBuf,
    pub(super) kernel: Kernel,
}

/// What plain files cannot imitate; tests replace it.
#[derive(Debug, Clone)]
pub(super) struct Kernel {
    /// Opens a node of `/dev`: block nodes exclusively, a VFIO group for the only time it allows.
    pub open: fn(&Path, OFlag) -> io::Result<File>,
    /// Loads a module, given the root and its name.
    pub modprobe: fn(&Path, &str) -> io::Result<()>,
    /// How long a driver link may take to change after the write that changes it has returned.
    pub patience: Duration,
}

impl Sysfs {
    /// The system this program runs on.
    pub fn new() -> Self {
        Self::at("/")
    }

    /// A tree with `sys`, `proc` and `dev` below `root`, such as a test builds from plain files.
    ///
    /// Modules are loaded only if `root` is `/`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            kernel: Kernel {
                open: open_node,
                modprobe,
                // The writes are synchronous; this only covers deferred probes.
                patience: Duration::from_secs(3),
            },
        }
    }

    /// The root of the tree.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn is_the_system(&self) -> bool {
        self.root == Path::new("/")
    }

    /// An absolute path of the system, below the root.
    pub(super) fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// A path of this tree as the system names it, without the root.
    pub(super) fn system_path(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.root) {
            Ok(below) => Path::new("/").join(below),
            Err(_) => path.to_owned(),
        }
    }

    pub(super) fn device_dir(&self, address: PciAddress) -> PathBuf {
        self.path(&format!("/sys/bus/pci/devices/{address}"))
    }

    pub(super) fn driver_dir(&self, driver: &str) -> PathBuf {
        self.path("/sys/bus/pci/drivers").join(driver)
    }

    /// The driver of a device, given its folder.
    pub(super) fn driver_of(&self, device_dir: &Path) -> Result<Option<String>, SysfsError> {
        self.link_name(&device_dir.join("driver"))
    }

    /// The last component of what a link points to; `None` if there is no link.
    pub(super) fn link_name(&self, path: &Path) -> Result<Option<String>, SysfsError> {
        match fs::read_link(path) {
            Ok(target) => Ok(target.file_name().map(|name| name.to_string_lossy().into_owned())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(SysfsError::io("read the link", path, error)),
        }
    }

    /// The content of a file that must be there; bytes, since paths in `/proc` are bytes.
    pub(super) fn read_bytes(&self, path: &Path) -> Result<Vec<u8>, SysfsError> {
        fs::read(path).map_err(|error| SysfsError::io("read", path, error))
    }

    /// The trimmed content of a file that must be there.
    pub(super) fn read(&self, path: &Path) -> Result<String, SysfsError> {
        let bytes = self.read_bytes(path)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The trimmed content of a file that older kernels and other devices may not have.
    pub(super) fn read_optional(&self, path: &Path) -> Result<Option<String>, SysfsError> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(SysfsError::io("read", path, error)),
        }
    }

    /// The sorted names in a folder; none if it is absent.
    pub(super) fn list(&self, dir: &Path) -> Result<Vec<String>, SysfsError> {
        let failed = |error| SysfsError::io("list", dir, error);
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            names.push(name.to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Writes an attribute in one write, as the kernel wants it; never creates a file.
    pub(super) fn write(&self, path: &Path, value: &str) -> Result<(), SysfsError> {
        tracing::debug!(path = %path.display(), value = value.trim_end(), "write");
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(path)
            .and_then(|mut file| file.write_all(value.as_bytes()))
            .map_err(|error| SysfsError::io("write", path, error))
    }
}

impl Default for Sysfs {
    fn default() -> Self {
        Self::new()
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn open_node(path: &Path, flags: OFlag) -> io::Result<File> {
    let access = flags & OFlag::O_ACCMODE;
    OpenOptions::new()
        .read(access != OFlag::O_WRONLY)
        .write(access != OFlag::O_RDONLY)
        .custom_flags((flags & !OFlag::O_ACCMODE).bits())
        .open(path)
}

fn modprobe(root: &Path, module: &str) -> io::Result<()> {
    if root != Path::new("/") {
        return Err(io::Error::other("modules are not loaded for a tree that is not the system's"));
    }
    let run = |program: &str| Command::new(program).arg(module).output();
    // A user's PATH often lacks the sbin folders.
    let output = run("modprobe").or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => run("/sbin/modprobe"),
        _ => Err(error),
    });
    let output = output.map_err(|error| {
        let text = format!("modprobe could not be run: {error}");
        io::Error::new(error.kind(), text)
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("it said nothing");
    Err(io::Error::other(format!("{}: {said}", output.status)))
}
