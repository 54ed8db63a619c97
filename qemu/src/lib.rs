//! Boots a Debian kernel with emulated NVMe controllers and a virtual IOMMU, and runs programs in it.
//!
//! The program under test needs no disk image: the running executable is packed into an initramfs as
//! `/init`, with the files it is asked to bring along, and is its own PID 1 in the guest.
//!
//! ```text
//! host                                               guest
//! Vm::run ── finds QEMU and a kernel
//!         ── packs /init, modules, files, manifest ─► init_if_pid1 reads the manifest
//!         ── starts QEMU                              mounts, loads modules, waits for NVMe
//!         ◄─ frames over one virtio-serial port ────► stdin, stdout, stderr of the command
//!         ◄─ files asked for, exit status ──────────  syncs, powers off
//! ```
//!
//! Every `main` that can be the guest's init calls [`guest::init_if_pid1`] first.
//!
//! Nothing is left behind: initramfs, memory-backed disks and channels are anonymous files that QEMU
//! inherits, and QEMU dies with the thread that started it.
//!
//! Emulation is always TCG, as neither KVM nor a second IOMMU can be taken for granted.

mod args;
mod cache;
mod closure;
mod count;
mod debian;
mod debversion;
mod device;
mod error;
mod frame;
pub mod guest;
mod initramfs;
mod input;
mod install;
mod kernel;
mod klog;
mod manifest;
mod modules;
mod raw_mode;
mod run;
mod session;
mod spawn;
mod vm;

pub use count::{Accesses, Section};
pub use device::{Controller, Namespace, Storage};
pub use error::{GuestLog, VmError};
pub use kernel::{Kernel, KernelSource};
pub use run::{GuestExit, GuestOutput};
pub use vm::{Input, Vm, fetch};
