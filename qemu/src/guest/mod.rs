//! The guest's side: the running executable as PID 1.
//!
//! 1. mounts, host name, loopback, modules
//! 2. opens the port to the host, waits for the controllers
//! 3. runs the command, relaying its input and output, reaping orphans
//! 4. kills what is left, sends files and status, syncs
//! 5. powers off once the host has it all
//!
//! If anything here panics, PID 1 ends, the kernel panics and QEMU ends: the host sees no status.

mod child;
mod init;
mod relay;
mod ring;
mod system;

use std::path::Path;

use crate::manifest;

/// Becomes the guest's init, and does not return, if this process is PID 1 of a guest of this crate.
/// Otherwise returns at once. To be called first thing in `main`.
pub fn init_if_pid1() {
    if std::process::id() == 1 && Path::new(manifest::PATH).exists() {
        init::main()
    }
}
