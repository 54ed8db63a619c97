//! What the two names of a copy stand for.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use dmaring::{DeviceName, TargetInfo};
use dmaring_dma::pci::PciAddress;

use super::same::Place;
use crate::target::Target;

/// Blocks in which files are read and written directly; every file system can.
const FILE_BLOCK: u64 = 4096;

/// A name that has been looked at; nothing has been changed.
#[derive(Debug)]
pub enum Named {
    /// Bytes in their order.
    Stream(File),
    /// What a ring can be opened on.
    Device(DeviceName),
    /// A path where nothing is yet.
    Absent(PathBuf),
}

/// A side that a ring serves.
#[derive(Debug)]
pub struct Opened {
    pub target: Target,
    pub info: TargetInfo,
    /// The file, if it is a regular one.
    pub file: Option<File>,
}

impl Named {
    /// The source.
    ///
    /// # Errors
    /// It is not there, or is nothing that can be read.
    pub fn source(name: &str) -> anyhow::Result<Self> {
        if name == "-" {
            let file = io::stdin().as_fd().try_clone_to_owned().context("standard input is closed")?;
            return Ok(Self::Stream(file.into()));
        }
        let DeviceName::Path(path) = name.parse()? else { return Ok(Self::Device(name.parse()?)) };
        if !path.exists() {
            refuse_address(name)?;
        }
        let data = fs::metadata(&path).with_context(|| format!("cannot read {name}"))?;
        let kind = data.file_type();
        // Files whose size is told as 0 may have contents all the same, such as those of /proc.
        if kind.is_fifo() || kind.is_char_device() || (kind.is_file() && data.len() == 0) {
            return Ok(Self::Stream(File::open(&path).with_context(|| format!("cannot read {name}"))?));
        }
        refuse_odd(name, &kind)?;
        Ok(Self::Device(DeviceName::Path(path)))
    }

    /// The destination.
    ///
    /// # Errors
    /// It is nothing that can be written.
    pub fn destination(name: &str) -> anyhow::Result<Self> {
        if name == "-" {
            let file = io::stdout().as_fd().try_clone_to_owned().context("standard output is closed")?;
            return Ok(Self::Stream(file.into()));
        }
        let DeviceName::Path(path) = name.parse()? else { return Ok(Self::Device(name.parse()?)) };
        let data = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return absent(name, path),
            other => other.with_context(|| format!("cannot write {name}"))?,
        };
        let kind = data.file_type();
        if kind.is_fifo() || kind.is_char_device() {
            let file = OpenOptions::new().write(true).open(&path).with_context(|| format!("cannot write {name}"))?;
            return Ok(Self::Stream(file));
        }
        refuse_odd(name, &kind)?;
        Ok(Self::Device(DeviceName::Path(path)))
    }

    /// Where its bytes are.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Stream(file) => Place::of_file(&file.metadata().ok()?),
            Self::Device(name) => Place::of(name),
            Self::Absent(_) => None,
        }
    }
}

/// A file that will be made, where that can be meant.
fn absent(name: &str, path: PathBuf) -> anyhow::Result<Named> {
    refuse_address(name)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = fs::canonicalize(folder).with_context(|| format!("cannot make {name}"))?;
    if folder == Path::new("/dev") {
        bail!("there is no device {name}; a file in /dev would be in memory, so none is made");
    }
    if fs::symlink_metadata(&path).is_ok() {
        bail!("{name} is a link to nothing: remove it, or make what it points to");
    }
    Ok(Named::Absent(path))
}

fn refuse_address(name: &str) -> anyhow::Result<()> {
    if name.parse::<PciAddress>().is_ok() {
        bail!("there is no file {name}; if the controller at that address is meant, write pci:{name}");
    }
    Ok(())
}

fn refuse_odd(name: &str, kind: &fs::FileType) -> anyhow::Result<()> {
    if kind.is_dir() {
        bail!("{name} is a folder; name a file in it");
    }
    if !kind.is_file() && !kind.is_block_device() {
        bail!("{name} is neither a file, a device nor a pipe");
    }
    Ok(())
}

impl Opened {
    /// Opens it, and looks at it with a ring.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub fn open(name: &str) -> anyhow::Result<Self> {
        let target = Target::open(name, false)?;
        let info = target.ring(1, target.usual_completion())?.target().clone();
        let file = match info.regular_file {
            true => Some(File::options().read(true).write(!info.read_only).open(name)),
            false => None,
        };
        let file = file.transpose().with_context(|| format!("cannot open {name}"))?;
        Ok(Self { target, info, file })
    }

    /// What offsets and lengths of I/O are multiples of.
    pub fn align(&self) -> u64 {
        match self.info.regular_file && self.info.direct {
            true => FILE_BLOCK,
            false => u64::from(self.info.block_bytes.max(1)),
        }
    }
}
