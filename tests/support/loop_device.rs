//! Loop devices that do direct I/O.

#![expect(unsafe_code)] // owns the ioctls of loop devices

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo64 {
    before_flags: [u64; 5],
    numbers: [u32; 3],
    flags: u32,
    names: [u8; 64 + 64 + 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopInfo64>() == 232);
const _: () = assert!(size_of::<LoopConfig>() == 304);

nix::ioctl_none_bad!(loop_ctl_get_free, 0x4c82);
nix::ioctl_write_ptr_bad!(loop_configure, 0x4c0a, LoopConfig);
nix::ioctl_read_bad!(loop_get_status64, 0x4c05, LoopInfo64);

/// A loop device on a file that nobody else sees. It goes when this is dropped and nobody else has it
/// open.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    path: String,
    _device: File,
}

impl LoopDevice {
    /// A device of `size_bytes` zeroes.
    ///
    /// # Errors
    /// Why there is none, in words for a skipped case.
    pub(crate) fn new(size_bytes: u64, read_only: bool) -> Result<Self, String> {
        let backing = backing(size_bytes).map_err(|e| format!("no file for a loop device: {e}"))?;
        for _ in 0..64 {
            match attach(&backing, read_only) {
                Ok(device) => return device.check(),
                // Somebody else has just taken the free one.
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {}
                Err(e) => return Err(format!("no loop device can be had: {e}")),
            }
        }
        Err("no loop device can be had: all that were free were taken at once".into())
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    fn check(self) -> Result<Self, String> {
        let flags = status(&self._device).map_err(|e| format!("the loop device has no status: {e}"))?;
        if flags & LO_FLAGS_DIRECT_IO == 0 {
            return Err("the file system of the temporary folder has no direct I/O, which a loop device needs".into());
        }
        Ok(self)
    }
}

/// A sparse file without a name, where direct I/O is likely to work.
fn backing(size_bytes: u64) -> io::Result<File> {
    let near = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
    let file = match near.map(tempfile::tempfile_in) {
        Some(Ok(file)) => file,
        _ => tempfile::tempfile()?,
    };
    file.set_len(size_bytes)?;
    Ok(file)
}

fn attach(backing: &File, read_only: bool) -> io::Result<LoopDevice> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    // SAFETY: takes no argument.
    let number = unsafe { loop_ctl_get_free(control.as_raw_fd()) }?;
    let path = format!("/dev/loop{number}");
    let device = OpenOptions::new().read(true).write(!read_only).open(&path)?;
    let flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO | if read_only { LO_FLAGS_READ_ONLY } else { 0 };
    let info = LoopInfo64 { before_flags: [0; 5], numbers: [0; 3], flags, names: [0; 160], init: [0; 2] };
    let config = LoopConfig { fd: backing.as_raw_fd().cast_unsigned(), block_size: 512, info, reserved: [0; 8] };
    // SAFETY: the kernel reads one `loop_config`, whose size is asserted.
    unsafe { loop_configure(device.as_raw_fd(), &raw const config) }?;
    Ok(LoopDevice { path, _device: device })
}

fn status(device: &File) -> io::Result<u32> {
    let mut info = LoopInfo64 { before_flags: [0; 5], numbers: [0; 3], flags: 0, names: [0; 160], init: [0; 2] };
    // SAFETY: the kernel writes one `loop_info64`, whose size is asserted.
    unsafe { loop_get_status64(device.as_raw_fd(), &raw mut info) }?;
    Ok(info.flags)
}
