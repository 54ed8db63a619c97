//! Fuzzes rings on a model: see `dmaring_tests::fuzz`.

use std::process::ExitCode;

fn main() -> ExitCode {
    dmaring_tests::fuzz::main()
}
