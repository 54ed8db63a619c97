//! `dmaring vm`: programs in a guest with emulated NVMe controllers and an IOMMU.

use std::env;
use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use dmaring_qemu::{Controller, GuestExit, Input, KernelSource, Namespace, Storage, Vm, VmError};

use crate::count;
use crate::output;
use crate::vm_compare::VmCompare;
use dmaring::parse_size;

/// `dmaring vm`.
#[derive(Args)]
pub struct VmCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Boot a guest, run one command in it, and end with its exit status
    Run {
        #[command(flatten)]
        options: VmOptions,
        /// Count instructions and MMIO accesses of the sections that the command marks, as dmaring bench
        /// does; they are printed on standard error
        #[arg(long)]
        count: bool,
        /// A program of this machine, taken along with its libraries, or one that is in the guest
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Boot a guest with a shell; Ctrl-] ends it
    Shell {
        #[command(flatten)]
        options: VmOptions,
    },
    /// Boot a guest with two controllers and compare this library with the kernel's io_uring
    Compare(Box<VmCompare>),
    /// Have QEMU and the guest's kernel ready, so that later runs need no network
    Fetch,
}

/// What the guest is like.
#[derive(Args)]
pub struct VmOptions {
    /// CPUs of the guest [default: 2, and 1 for counting]
    #[arg(long, value_name = "N")]
    pub cpus: Option<u32>,
    /// Memory of the guest
    #[arg(long, value_name = "SIZE", default_value = "1g", value_parser = parse_size)]
    pub memory: u64,
    /// NVMe controllers, at the PCI addresses 0000:00:04.0, 0000:00:05.0, …
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub controllers: usize,
    /// Namespaces of each controller
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub namespaces: usize,
    /// Logical block size: 512 or 4096
    #[arg(long, value_name = "BYTES", default_value = "512", value_parser = parse_block_size)]
    pub block_size: u32,
    /// Where namespaces keep their data: null (nowhere), mem (memory) or a raw file [default: mem]
    #[arg(long, value_name = "null|mem|FILE")]
    pub storage: Option<PathBuf>,
    /// Size of each namespace; a file that does not exist is made this large
    #[arg(long, value_name = "SIZE", default_value = "1g", value_parser = parse_size)]
    pub size: u64,
    /// Largest transfer, as a power of two of 4096 bytes; 0: no limit [QEMU's default: 7]
    #[arg(long, value_name = "N")]
    pub mdts: Option<u8>,
    /// Kernel to boot: debian (fetched and cached), host (the running one) or an image
    #[arg(long, value_name = "debian|host|FILE", default_value = "debian")]
    pub kernel: PathBuf,
    /// Modules of a kernel image [default: /lib/modules/VERSION]
    #[arg(long, value_name = "DIR")]
    pub modules: Option<PathBuf>,
    /// A machine without IOMMU
    #[arg(long)]
    pub no_iommu: bool,
    /// One more argument for QEMU; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub qemu_arg: Vec<String>,
    /// More for the kernel's command line; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub kernel_arg: Vec<String>,
    /// Kill the guest after this time, boot included
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub timeout: Option<Duration>,
    /// Keep the kernel log in this file; otherwise it is kept only on failure
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Show QEMU's command line and the kernel log
    #[arg(long, short)]
    pub verbose: bool,
    /// Take a file along, a program with its libraries; may be repeated
    #[arg(long, value_name = "FILE[:GUESTPATH]")]
    pub add: Vec<String>,
    /// Bring a file back after the command has ended; may be repeated
    #[arg(long, value_name = "GUESTPATH:FILE", value_parser = parse_get)]
    pub get: Vec<(String, PathBuf)>,
    /// Set an environment variable of the command; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_env)]
    pub env: Vec<(String, String)>,
}

fn parse_block_size(text: &str) -> Result<u32, String> {
    match parse_size(text)? {
        512 => Ok(512),
        4096 => Ok(4096),
        other => Err(format!("{other} is not supported; take 512 or 4096")),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0.0);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration
        .filter(|duration| *duration >= Duration::from_millis(1))
        .ok_or_else(|| "write a number of seconds above zero".to_owned())
}

fn parse_get(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once(':') {
        Some((guest, host)) if guest.starts_with('/') && !host.is_empty() => Ok((guest.to_owned(), host.into())),
        _ => Err("write GUESTPATH:FILE, such as /tmp/result:result".to_owned()),
    }
}

fn parse_env(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

impl VmOptions {
    /// The guest these options describe; `dmaring` is in it.
    ///
    /// # Errors
    /// Options that contradict each other, or a file that cannot be had.
    pub fn to_vm(&self) -> anyhow::Result<Vm> {
        let own = env::current_exe().context("finding the running executable")?;
        let mut vm = Vm::new()
            .memory(self.memory)
            .iommu(!self.no_iommu)
            .kernel(self.kernel_source()?)
            .time_limit(self.timeout)
            .log(self.log.clone())
            .verbose(self.verbose)
            .add(own, Some(Path::new("/bin/dmaring")));
        if let Some(cpus) = self.cpus {
            vm = vm.cpus(cpus);
        }
        let storage = self.storage()?;
        for _ in 0..self.controllers {
            let namespace = Namespace::new(storage.clone()).block_size(self.block_size);
            let mut controller = Controller::new(vec![namespace; self.namespaces]);
            controller.mdts = self.mdts;
            vm = vm.controller(controller);
        }
        vm = self.qemu_arg.iter().fold(vm, Vm::qemu_arg);
        vm = self.kernel_arg.iter().fold(vm, Vm::kernel_arg);
        vm = self.env.iter().fold(vm, |vm, (name, value)| vm.env(name, value));
        vm = self.get.iter().fold(vm, |vm, (guest, host)| vm.get(guest, host));
        for text in &self.add {
            let (host, guest) = split_add(text)?;
            vm = vm.add(host, guest);
        }
        Ok(vm)
    }

    fn kernel_source(&self) -> anyhow::Result<KernelSource> {
        let named = matches!(self.kernel.to_str(), Some("debian" | "host"));
        if named && self.modules.is_some() {
            bail!("--modules goes with --kernel FILE");
        }
        Ok(match self.kernel.to_str() {
            Some("debian") => KernelSource::Debian,
            Some("host") => KernelSource::Host,
            _ => KernelSource::Image { path: self.kernel.clone(), modules: self.modules.clone() },
        })
    }

    fn storage(&self) -> anyhow::Result<Storage> {
        let path = self.storage.clone().unwrap_or_else(|| "mem".into());
        match path.to_str() {
            Some("null") => {
                return Ok(Storage::Null { size_bytes: self.size });
            }
            Some("mem") => {
                return Ok(Storage::Mem { size_bytes: self.size });
            }
            _ => {}
        }
        if self.controllers * self.namespaces > 1 {
            bail!("--storage {} can back only one namespace: take --controllers 1 --namespaces 1", path.display());
        }
        if !path.exists() && self.size == 0 {
            bail!("--size 0: {} does not exist and needs a size to be made with", path.display());
        }
        if !path.exists() {
            let made = File::create_new(&path).and_then(|file| file.set_len(self.size));
            made.with_context(|| format!("making {}", path.display()))?;
        }
        Ok(Storage::File { path })
    }
}

/// Splits at the last colon that an absolute path follows, unless the whole is a file.
fn split_add(text: &str) -> anyhow::Result<(PathBuf, Option<&Path>)> {
    let whole = Path::new(text);
    let (host, guest) = match text.rfind(":/") {
        Some(at) if !whole.exists() => (Path::new(&text[..at]), Some(Path::new(&text[at + 1..]))),
        _ => (whole, None),
    };
    if !host.exists() {
        bail!("--add {text}: there is no file {}", host.display());
    }
    Ok((host.to_owned(), guest))
}

impl VmCommand {
    /// Does it; the exit status is the guest command's.
    ///
    /// # Errors
    /// Whatever kept the command from running to its end.
    pub fn run(self, command_line: String) -> anyhow::Result<ExitCode> {
        match self.action {
            Action::Run { options, count, command } => {
                let (vm, command) = with_command(options.to_vm()?, &options.add, command)?;
                let vm = if count { counting(vm, &options) } else { vm };
                let exit = finish(&vm.input(Input::Inherit), command)?;
                if count {
                    eprint!("{}", count::sections(&exit.sections));
                }
                Ok(exit_code(&exit))
            }
            Action::Shell { options } => {
                let (vm, command) = with_shell(options.to_vm()?)?;
                finish(&vm, command).map(|exit| exit_code(&exit))
            }
            Action::Compare(compare) => compare.run(command_line),
            Action::Fetch => {
                let (qemu, kernel) = dmaring_qemu::fetch()?;
                let (qemu, image) = (qemu.display(), kernel.image.display());
                output::print(&format!("QEMU: {qemu}\nkernel: {image} ({})\n", kernel.version))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Runs, showing the end of the kernel log if the guest failed.
///
/// # Errors
/// Whatever kept the command from running to its end.
pub fn finish(vm: &Vm, command: Vec<String>) -> anyhow::Result<GuestExit> {
    Ok(vm.run(command).inspect_err(show_log)?)
}

/// The guest command's exit status as ours.
pub fn exit_code(exit: &GuestExit) -> ExitCode {
    ExitCode::from(u8::try_from(exit.status()).unwrap_or(1))
}

/// The same guest, counted; with one CPU unless the user said how many.
pub fn counting(vm: Vm, options: &VmOptions) -> Vm {
    let vm = vm.count(true);
    match options.cpus {
        Some(cpus) => vm.cpus(cpus),
        None => vm,
    }
}

fn show_log(error: &VmError) {
    for line in error.log().map(|log| log.tail.as_str()).unwrap_or_default().lines() {
        eprintln!("guest| {line}");
    }
}

/// Takes the command's program along if it is one of this machine's.
fn with_command(vm: Vm, added: &[String], mut command: Vec<String>) -> anyhow::Result<(Vm, Vec<String>)> {
    let Some(program) = command.first_mut() else {
        bail!("no command to run in the guest");
    };
    if program.contains('/') {
        let path = std::path::absolute(&*program).with_context(|| format!("finding {program}"))?;
        if !path.is_file() {
            // In the guest by --add, or a mistake that the guest reports.
            return Ok((vm, command));
        }
        *program = path.to_str().with_context(|| format!("{program}: not UTF-8"))?.to_owned();
        return Ok((vm.add(&path, None), command));
    }
    let is_added = |text: &String| Path::new(text).file_name().is_some_and(|name| *name == **program);
    if program == "dmaring" || added.iter().any(is_added) {
        return Ok((vm, command));
    }
    Ok((in_path(program).into_iter().fold(vm, |vm, path| vm.add(path, None)), command))
}

fn in_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Takes a shell along, and the usual small programs.
fn with_shell(mut vm: Vm) -> anyhow::Result<(Vm, Vec<String>)> {
    const TOOLS: [&str; 24] = [
        "ls", "cat", "cp", "mv", "rm", "ln", "mkdir", "dd", "echo", "head", "tail", "grep", "hexdump", "xxd", "dmesg",
        "ps", "kill", "mount", "umount", "sleep", "stat", "readlink", "find", "sync",
    ];
    let shell = ["busybox", "bash", "sh"].into_iter().find_map(|name| Some((name, in_path(name)?)));
    let Some((name, path)) = shell else {
        bail!("no shell on this machine to take into the guest: install busybox or bash");
    };
    let mut command = vec![name.to_owned()];
    if name == "busybox" {
        command.push("sh".to_owned());
        vm = TOOLS.iter().fold(vm, |vm, tool| vm.add(&path, Some(&Path::new("/bin").join(tool))));
    } else {
        vm = TOOLS.iter().filter_map(|tool| in_path(tool)).fold(vm, |vm, tool| vm.add(tool, None));
    }
    let input = if std::io::stdin().is_terminal() { Input::Terminal } else { Input::Inherit };
    Ok((vm.add(path, None).cwd("/root").input(input), command))
}
