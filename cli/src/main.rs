//! The `dmaring` command.
fn main() {}
