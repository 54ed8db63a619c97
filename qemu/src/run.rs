//! One run of a guest, from finding QEMU to the command's exit status.

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::args::{Machine, Wiring};
use crate::count::{self, Counter, Section};
use crate::device::Storage;
use crate::error::{Doing, VmError};
use crate::initramfs::{self, Initramfs};
use crate::kernel::Kernel;
use crate::manifest::{self, Manifest};
use crate::session::Session;
use crate::vm::{Input, Vm};
use crate::{install, klog, modules, raw_mode, spawn};

/// How the command in the guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestExit {
    /// Exit code, if it ended by itself.
    pub code: Option<i32>,
    /// Signal that killed it.
    pub signal: Option<i32>,
    /// What was counted, section by section in the order they ended; empty without
    /// [`Vm::count`](crate::Vm::count).
    pub sections: Vec<Section>,
}

impl GuestExit {
    /// As a shell tells it: the exit code, or 128 and the signal.
    #[must_use]
    pub fn status(&self) -> i32 {
        self.code.unwrap_or_else(|| 128 + self.signal.unwrap_or(0))
    }

    /// Whether the exit code is 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status() == 0
    }
}

/// How the command ended, and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestOutput {
    /// How it ended.
    pub exit: GuestExit,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
}

/// Where the command's output goes.
pub(crate) struct Sinks<'a> {
    pub stdout: &'a mut dyn Write,
    pub stderr: &'a mut dyn Write,
}

/// Runs `command` in a new guest.
pub(crate) fn run(vm: &Vm, command: Vec<String>, sinks: &mut Sinks<'_>) -> Result<GuestExit, VmError> {
    vm.check()?;
    if command.is_empty() {
        return Err(VmError::Config("no command to run in the guest".to_owned()));
    }
    let log_file = vm.log.as_deref().map(klog::open).transpose()?;
    let qemu = install::qemu()?;
    let mut counter = if vm.count { Some(Counter::new(&qemu)?) } else { None };
    let kernel = vm.kernel.locate()?;
    let (initrd, library_path) = build_initramfs(vm, &kernel, command)?;

    let (port, port_far) = UnixStream::pair().doing(|| "making a socket pair".to_owned())?;
    let (console, console_far) = UnixStream::pair().doing(|| "making a socket pair".to_owned())?;
    let mut fds: Vec<OwnedFd> = vec![initrd.into(), port_far.into(), console_far.into()];
    for namespace in vm.namespaces() {
        if let Storage::Mem { size_bytes } = namespace.storage {
            fds.push(memory_disk(size_bytes)?);
        }
    }
    let disks_end = fds.len();
    let mut qemu_args = vm.qemu_args.clone();
    if let Some(counter) = &mut counter {
        fds.push(counter.lines()?);
        qemu_args.extend(["-plugin".to_owned(), counter.argument(&fds[disks_end])?]);
    }
    let number = |index: usize| fds[index].as_raw_fd();
    let disks = fds[3..disks_end].iter().map(AsRawFd::as_raw_fd).collect();
    let wiring = Wiring { initrd: number(0), port: number(1), console: number(2), disks };
    let mut kernel_args = vm.all_kernel_args();
    if !library_path.is_empty() {
        // The kernel hands what it does not know to init as environment.
        kernel_args.push(format!("LD_LIBRARY_PATH={library_path}"));
    }
    let machine = Machine {
        cpus: vm.cpus,
        memory_mib: vm.memory_mib(),
        controllers: &vm.controllers,
        iommu: vm.iommu,
        one_thread: vm.one_thread,
        verbose: vm.verbose,
        kernel: &kernel,
        kernel_args: &kernel_args,
        qemu_args: &qemu_args,
    };
    let args = machine.args(&wiring);
    if vm.verbose {
        eprintln!("dmaring: {} {}", qemu.display(), args.join(" ".as_ref()).to_string_lossy());
    }
    let child = spawn::spawn(&qemu, &args, &fds).doing(|| format!("starting {}", qemu.display()))?;
    // Ours must be closed, or the end of QEMU would not show as the end of the streams.
    drop(fds);
    let ended = Session::new(vm, child, port, console, log_file).run(sinks);
    let mut exit = match counter {
        Some(_) => ended.map_err(|error| count::refused(&qemu, error))?,
        None => ended?,
    };
    if let Some(counter) = counter {
        exit.sections = counter.sections()?;
    }
    Ok(exit)
}

fn memory_disk(size_bytes: u64) -> Result<OwnedFd, VmError> {
    let doing = || format!("making a memory disk of {size_bytes} bytes");
    let file = File::from(memfd_create(c"dmaring-disk", MFdFlags::MFD_CLOEXEC).doing(doing)?);
    file.set_len(size_bytes).doing(doing)?;
    Ok(file.into())
}

/// Packs the initramfs; with it comes the library path init needs.
fn build_initramfs(vm: &Vm, kernel: &Kernel, command: Vec<String>) -> Result<(File, String), VmError> {
    let own = env::current_exe().doing(|| "finding the running executable".to_owned())?;
    let mut tree = Initramfs::new(&own)?;
    for added in &vm.added {
        let host = std::path::absolute(&added.host).doing(|| format!("finding {}", added.host.display()))?;
        match &added.guest {
            Some(guest) => tree.add(&host, guest)?,
            None => add_here_and_in_bin(&mut tree, &host)?,
        }
    }
    let modules = modules::collect(&kernel.modules)?;
    let file_name = |name: &str| format!("{name}.ko");
    let names = modules.iter().map(|module| file_name(&module.name)).collect();
    for module in modules {
        tree.data(Path::new(manifest::MODULES).join(file_name(&module.name)), module.bytes);
    }
    let library_path = tree.library_path();
    let manifest = Manifest {
        command,
        env: environment(vm, &library_path),
        cwd: vm.cwd.clone(),
        modules: names,
        cpus: vm.cpus,
        controllers: vm.controllers.len(),
        namespaces: vm.namespaces().count(),
        get: vm.get.iter().map(|(guest, _)| guest.clone()).collect(),
        tty: vm.input == Input::Terminal,
        window: raw_mode::window(),
    };
    let text = serde_json::to_vec(&manifest).map_err(io::Error::from).doing(|| "writing the manifest".to_owned())?;
    tree.data(manifest::PATH, text);
    let file = tree.pack()?;
    // The archive and its contents are in memory together, and the root file system takes half of it.
    let (needed_mib, have_mib) = ((initramfs::size(&file)? >> 20) * 2 + 192, vm.memory_mib());
    if needed_mib > have_mib {
        let text = format!("the files to take along need a guest of {needed_mib} MiB, this one has {have_mib}");
        return Err(VmError::Config(text));
    }
    Ok((file, library_path))
}

/// Places a file under its own path, where that stays visible in the guest, and a program in `/bin` as well.
fn add_here_and_in_bin(tree: &mut Initramfs, host: &Path) -> Result<(), VmError> {
    let name = host.file_name().unwrap_or_default();
    let in_bin = Path::new("/usr/bin").join(name);
    if ["/dev", "/proc", "/sys"].iter().any(|mounted| host.starts_with(mounted)) {
        return tree.add(host, &in_bin);
    }
    tree.add(host, host)?;
    if install::is_executable(host) {
        tree.link(&in_bin, host);
    }
    Ok(())
}

fn environment(vm: &Vm, library_path: &str) -> Vec<(String, String)> {
    let terminal = env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
    let mut all = vec![
        ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/usr/sbin".to_owned()),
        ("HOME".to_owned(), "/root".to_owned()),
        ("TERM".to_owned(), terminal),
    ];
    if !library_path.is_empty() {
        all.push(("LD_LIBRARY_PATH".to_owned(), library_path.to_owned()));
    }
    all.extend(vm.env.iter().cloned());
    all
}
