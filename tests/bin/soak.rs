//! Writes, reads back and verifies 1 GiB (or `--total SIZE`) through VFIO, in a guest of its own or on
//! `--device pci:…`. What is on the device is lost.

use std::process::ExitCode;

fn main() -> ExitCode {
    // In a guest this executable is init, and never comes back from here.
    dmaring_qemu::guest::init_if_pid1();
    dmaring_tests::soak::main()
}
