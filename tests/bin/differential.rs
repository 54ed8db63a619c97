//! Runs drawn programs on the kernel's io_uring and on dmaring, and compares: see `differential`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // In a guest this executable is init, and never comes back from here.
    dmaring_qemu::guest::init_if_pid1();
    dmaring_tests::differential::main()
}
