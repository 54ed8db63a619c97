//! The `dmaring` command.

mod size;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "dmaring", version, about = "io_uring rings on NVMe queues")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run programs in a guest with emulated NVMe controllers and an IOMMU
    Vm(vm::VmCommand),
}

fn main() -> ExitCode {
    dmaring_qemu::guest::init_if_pid1();
    let result = match Arguments::parse().command {
        Command::Vm(command) => command.run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("dmaring: {error:#}");
        ExitCode::FAILURE
    })
}
