//! Runs the conformance cases: see the crate's documentation.

use std::process::ExitCode;

fn main() -> ExitCode {
    // In a guest this executable is init, and never comes back from here.
    dmaring_qemu::guest::init_if_pid1();
    dmaring_tests::main()
}
