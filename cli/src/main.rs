//! The `dmaring` command.

mod bench;
mod bind;
mod chart;
mod compare;
mod copy;
mod count;
mod guard;
mod health;
mod info;
mod interrupt;
mod job;
mod lanes;
mod list;
mod machine;
mod manual;
mod output;
mod pattern;
mod plan;
mod report;
mod signature;
mod swap;
mod table;
mod target;
mod usage;
mod verify;
mod vm;
mod vm_compare;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "dmaring", version, about = "io_uring rings on NVMe queues")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List NVMe controllers, and what can be used of each
    List(list::ListCommand),
    /// Take a controller from the kernel's driver, for use in user space
    Bind(bind::BindCommand),
    /// Give a controller back to the kernel's driver
    Unbind(bind::UnbindCommand),
    /// Show what a device is and what it can do
    Info(info::InfoCommand),
    /// Run one job on a device and measure it
    Bench(bench::BenchCommand),
    /// Run one job on several devices and with several ways of completion, in turn
    Compare(compare::CompareCommand),
    /// Copy between devices, files and standard streams
    Copy(copy::CopyCommand),
    /// The guest's part of vm compare --count
    #[command(hide = true)]
    CountRows(count::rows::CountRows),
    /// Run programs in a guest with emulated NVMe controllers and an IOMMU
    Vm(vm::VmCommand),
    /// Print what makes a shell complete this command's words
    Completions(manual::CompletionsCommand),
    /// Print the manual page, or write all of them
    Man(manual::ManCommand),
}

fn main() -> ExitCode {
    dmaring_qemu::guest::init_if_pid1();
    log_to_stderr();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage::report(&error),
    };
    let result = match arguments.command {
        Command::List(command) => done(command.run()),
        Command::Bind(command) => done(command.run()),
        Command::Unbind(command) => done(command.run()),
        Command::Info(command) => done(command.run()),
        Command::Bench(command) => command.run(command_line()),
        Command::Compare(command) => command.run(command_line()),
        Command::Copy(command) => command.run(),
        Command::CountRows(command) => command.run(command_line()),
        Command::Completions(command) => done(command.run()),
        Command::Man(command) => done(command.run()),
        Command::Vm(command) => command.run(command_line()),
    };
    result.unwrap_or_else(|error| {
        output::note(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}

/// Warnings of the library, such as what was taken by force; what ends a command is its error instead.
fn log_to_stderr() {
    let usual = || EnvFilter::new("error,dmaring_dma=warn");
    let filter = EnvFilter::try_from_env("DMARING_LOG").unwrap_or_else(|_| usual());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    log.without_time().with_target(false).init();
}

fn done(result: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}

/// This process' command line, for reports.
fn command_line() -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    format!("dmaring {}", words.join(" "))
}
