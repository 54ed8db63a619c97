//! A file or block device, opened for a kernel ring.

#![expect(unsafe_code)] // owns one ioctl

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use crate::error::Error;

nix::ioctl_read_bad!(blkroget, nix::request_code_none!(0x12, 94), libc::c_int);
nix::ioctl_read_bad!(blksszget, nix::request_code_none!(0x12, 104), libc::c_int);

/// What is known of an opened path.
#[derive(Clone, Debug)]
pub(crate) struct PathInfo {
    pub(crate) size_bytes: u64,
    pub(crate) block_bytes: u32,
    pub(crate) read_only: bool,
    pub(crate) regular_file: bool,
    pub(crate) direct: bool,
}

/// An opened file or block device.
#[derive(Debug)]
pub(crate) struct KernelFile {
    pub(crate) file: File,
    pub(crate) info: PathInfo,
}

impl KernelFile {
    /// Opens a path for direct I/O, for writing too where that is allowed.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let name = || path.display().to_string();
        let fail = |reason: io::Error| {
            let remedy = match reason.raw_os_error() {
                Some(libc::EACCES | libc::EPERM) => ": run as root, or take the right to it",
                Some(libc::EBUSY) => ": something else in the system has it to itself",
                _ => "",
            };
            Error::OpenFile { name: name(), reason, remedy }
        };
        let kind = std::fs::metadata(path).map_err(fail)?.file_type();
        if kind.is_char_device()
            && let Some(extent) = nvme_extent(path)
        {
            let (file, read_only) = open(path, false).map_err(fail)?;
            let (size_bytes, block_bytes) = extent;
            let info = PathInfo { size_bytes, block_bytes, read_only, regular_file: false, direct: true };
            return Ok(Self { file, info });
        }
        if !kind.is_file() && !kind.is_block_device() {
            let what = "it is neither a regular file nor a block device".into();
            return Err(Error::Name { name: name(), what });
        }
        let (mut file, read_only) = open(path, true).map_err(fail)?;
        let size_bytes = (&file).seek(SeekFrom::End(0)).map_err(fail)?;
        // Direct I/O cannot reach the end of a file that does not end with a block.
        let mut direct = is_direct(&file).map_err(fail)?;
        if direct && kind.is_file() && !size_bytes.is_multiple_of(512) {
            (file, _) = open(path, false).map_err(fail)?;
            direct = false;
        }
        // The file position is where an offset of -1 reads: at the beginning, as after open.
        (&file).rewind().map_err(fail)?;
        let block_bytes = match direct {
            true if kind.is_block_device() => logical_block(&file).map_err(fail)?,
            true => 512,
            false => 1,
        };
        let regular_file = kind.is_file();
        // A read-only device opens for writing all the same, and refuses the writes.
        let read_only = read_only || (kind.is_block_device() && is_read_only(&file).map_err(fail)?);
        Ok(Self { file, info: PathInfo { size_bytes, block_bytes, read_only, regular_file, direct } })
    }
}

/// Size and block size, in bytes, behind a character device of the kernel's NVMe driver, which takes NVMe
/// commands only: those of its namespace (`/dev/ng0n1`), or 0 and 1 of a controller (`/dev/nvme0`). `None` for
/// other devices.
fn nvme_extent(path: &Path) -> Option<(u64, u32)> {
    let number = nix::sys::stat::stat(path).ok()?.st_rdev;
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    let device = std::fs::canonicalize(format!("/sys/dev/char/{major}:{minor}")).ok()?;
    let class = std::fs::canonicalize(device.join("subsystem")).ok()?;
    match class.file_name()?.to_str()? {
        "nvme" => Some((0, 1)),
        "nvme-generic" => {
            // Its block device stands beside it: nvme0n1 for ng0n1.
            let disk = format!("nvme{}", device.file_name()?.to_str()?.strip_prefix("ng")?);
            let number = |file: &str| {
                let text = std::fs::read_to_string(device.parent()?.join(&disk).join(file)).ok()?;
                text.trim().parse::<u64>().ok()
            };
            let sectors = number("size").unwrap_or(0);
            let block = number("queue/logical_block_size").and_then(|bytes| u32::try_from(bytes).ok());
            Some((sectors.saturating_mul(512), block.filter(|bytes| *bytes > 0).unwrap_or(1)))
        }
        _ => None,
    }
}

/// Opens read-write, or read-only where writing is not allowed; directly, if wanted and the file system
/// can.
fn open(path: &Path, direct: bool) -> io::Result<(File, bool)> {
    let open = |write: bool, flags: i32| OpenOptions::new().read(true).write(write).custom_flags(flags).open(path);
    let attempt = |write: bool| match open(write, if direct { libc::O_DIRECT } else { 0 }) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => open(write, 0),
        result => result,
    };
    match attempt(true) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EACCES | libc::EROFS | libc::EPERM | libc::ETXTBSY)) => {
            // The first error names the reason when reading is not allowed either.
            attempt(false).map(|file| (file, true)).map_err(|_| e)
        }
        result => result.map(|file| (file, false)),
    }
}

fn is_direct(file: &File) -> io::Result<bool> {
    let flags = nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_GETFL)?;
    Ok(flags & libc::O_DIRECT != 0)
}

fn is_read_only(file: &File) -> io::Result<bool> {
    let mut flag = 0;
    // SAFETY: the kernel writes one int.
    unsafe { blkroget(file.as_raw_fd(), &raw mut flag) }?;
    Ok(flag != 0)
}

fn logical_block(file: &File) -> io::Result<u32> {
    let mut bytes = 0;
    // SAFETY: the kernel writes one int.
    unsafe { blksszget(file.as_raw_fd(), &raw mut bytes) }?;
    u32::try_from(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}
