//! The control interface of the kernel module: its device, and the calls that it takes. The module itself comes
//! later; its interface is fixed here first.

use std::ffi::c_int;

/// The device.
pub const DEVICE: &str = "/dev/uintr";

/// The version of this interface. A module answers its own to [`version`]; others are not used.
pub const INTERFACE: c_int = 1;

nix::ioctl_none! {
    /// The interface's version, above 0. The first of the calls, none of which has number 1 or 2: those are
    /// FIBMAP and FIGETBSZ, which file systems answer.
    version, b'U', 0x10
}
