//! Description of a guest, and running a command in it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::args;
use crate::count;
use crate::device::{Controller, Namespace, Storage};
use crate::error::VmError;
use crate::kernel::{Kernel, KernelSource};
use crate::run::{self, GuestExit, GuestOutput, Sinks};
use crate::{debian, install};

const MIB: u64 = 1 << 20;

/// What the command in the guest reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Input {
    /// Nothing.
    #[default]
    Null,
    /// Standard input of this process.
    Inherit,
    /// The same, as a terminal: this process' terminal is raw meanwhile, and Ctrl-] ends the guest.
    Terminal,
}

/// A file of the host that the guest gets.
#[derive(Debug, Clone)]
pub(crate) struct Added {
    pub host: PathBuf,
    pub guest: Option<PathBuf>,
}

/// A guest to be: built up by its methods, used by [`Vm::run`] or [`Vm::output`] any number of times.
///
/// The running executable is the guest's init, so its `main` calls [`crate::guest::init_if_pid1`] first.
#[derive(Debug, Clone)]
pub struct Vm {
    pub(crate) cpus: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) controllers: Vec<Controller>,
    pub(crate) iommu: bool,
    pub(crate) one_thread: bool,
    pub(crate) count: bool,
    pub(crate) kernel: KernelSource,
    pub(crate) kernel_args: Vec<String>,
    pub(crate) qemu_args: Vec<String>,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: String,
    pub(crate) added: Vec<Added>,
    pub(crate) get: Vec<(String, PathBuf)>,
    pub(crate) log: Option<PathBuf>,
    pub(crate) verbose: bool,
    pub(crate) input: Input,
}

impl Default for Vm {
    fn default() -> Self {
        Self::new()
    }
}

impl Vm {
    /// Two CPUs, 1 GiB of memory, an IOMMU, Debian's kernel, no controllers, no input, no time limit.
    #[must_use]
    pub fn new() -> Self {
        Self {
            cpus: 2,
            memory_bytes: 1024 * MIB,
            controllers: Vec::new(),
            iommu: true,
            one_thread: false,
            count: false,
            kernel: KernelSource::default(),
            kernel_args: Vec::new(),
            qemu_args: Vec::new(),
            time_limit: None,
            env: Vec::new(),
            cwd: "/".to_owned(),
            added: Vec::new(),
            get: Vec::new(),
            log: None,
            verbose: false,
            input: Input::Null,
        }
    }

    /// Number of CPUs, from 1 to 64; 2 by default.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// Memory in bytes, whole MiB; 1 GiB by default, at least 256 MiB.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Adds a controller; its address is that of [`Vm::controller_address`].
    #[must_use]
    pub fn controller(mut self, controller: Controller) -> Self {
        self.controllers.push(controller);
        self
    }

    /// Whether the machine has an Intel IOMMU, with interrupt remapping; true by default.
    #[must_use]
    pub fn iommu(mut self, iommu: bool) -> Self {
        self.iommu = iommu;
        self
    }

    /// Emulates all CPUs on one thread of the host, which makes counters of TCG plugins exact.
    #[must_use]
    pub fn one_thread(mut self, one: bool) -> Self {
        self.one_thread = one;
        self
    }

    /// Counts instructions and MMIO accesses of marked sections of the command: see [`Section`].
    ///
    /// This makes it one CPU, unless [`Vm::cpus`] follows, all on one thread of the host, and boots the
    /// kernel at its best: no translation of its own DMA (`iommu=pt`) and an NVMe queue to poll
    /// (`nvme.poll_queues=1`), unless its command line has these already. Needs a C compiler: `CC`, or
    /// `cc`, `gcc` or `clang` in PATH.
    ///
    /// [`Section`]: crate::Section
    #[must_use]
    pub fn count(mut self, count: bool) -> Self {
        self.count = count;
        if count {
            self.cpus = 1;
            self.one_thread = true;
        }
        self
    }

    /// The kernel to boot; Debian's by default.
    #[must_use]
    pub fn kernel(mut self, kernel: KernelSource) -> Self {
        self.kernel = kernel;
        self
    }

    /// Appends to the kernel's command line.
    #[must_use]
    pub fn kernel_arg(mut self, arg: impl Into<String>) -> Self {
        self.kernel_args.push(arg.into());
        self
    }

    /// Appends one argument to QEMU's command line.
    #[must_use]
    pub fn qemu_arg(mut self, arg: impl Into<String>) -> Self {
        self.qemu_args.push(arg.into());
        self
    }

    /// Kills the guest after this long, boot included; none by default. Booting alone may take 2 minutes.
    #[must_use]
    pub fn time_limit(mut self, limit: Option<Duration>) -> Self {
        self.time_limit = limit;
        self
    }

    /// Sets a variable of the command's environment, which else holds PATH, HOME and TERM.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The command's working directory; `/` by default.
    #[must_use]
    pub fn cwd(mut self, path: impl Into<String>) -> Self {
        self.cwd = path.into();
        self
    }

    /// Takes a file into the guest, with its mode and, if it is a program, all it needs to run.
    ///
    /// Without `guest` it is found under the path it has here and, if executable, as `/bin/NAME`.
    #[must_use]
    pub fn add(mut self, host: impl Into<PathBuf>, guest: Option<&Path>) -> Self {
        self.added.push(Added { host: host.into(), guest: guest.map(Path::to_owned) });
        self
    }

    /// Brings a file of the guest back when the command has ended, whatever its exit status.
    #[must_use]
    pub fn get(mut self, guest: impl Into<String>, host: impl Into<PathBuf>) -> Self {
        self.get.push((guest.into(), host.into()));
        self
    }

    /// Keeps the kernel log in this file; otherwise it is kept, in a temporary file, only on failure.
    #[must_use]
    pub fn log(mut self, path: Option<PathBuf>) -> Self {
        self.log = path;
        self
    }

    /// Shows QEMU's command line and the kernel's messages on standard error.
    #[must_use]
    pub fn verbose(mut self, verbose: bool) -> Self {
        self.verbose = verbose;
        self
    }

    /// What the command reads; nothing by default.
    #[must_use]
    pub fn input(mut self, input: Input) -> Self {
        self.input = input;
        self
    }

    /// PCI address of controller `index` in the guest: `0000:00:04.0`, `0000:00:05.0`, ….
    #[must_use]
    pub fn controller_address(index: usize) -> String {
        args::controller_address(index)
    }

    /// Boots the guest and runs `command` in it; its output goes to this process' as it comes.
    ///
    /// # Errors
    /// Any [`VmError`] where the command did not run to its end. A command that fails is no error.
    pub fn run<S: Into<String>>(&self, command: impl IntoIterator<Item = S>) -> Result<GuestExit, VmError> {
        let mut sinks = Sinks { stdout: &mut io::stdout(), stderr: &mut io::stderr() };
        run::run(self, command.into_iter().map(Into::into).collect(), &mut sinks)
    }

    /// Like [`Vm::run`], but gives the output to `stdout` and `stderr` as it comes: what the command wrote
    /// before a guest died is not lost.
    ///
    /// # Errors
    /// As [`Vm::run`].
    pub fn run_into<S: Into<String>>(
        &self,
        command: impl IntoIterator<Item = S>,
        stdout: &mut dyn Write,
        stderr: &mut dyn Write,
    ) -> Result<GuestExit, VmError> {
        let command = command.into_iter().map(Into::into).collect();
        run::run(self, command, &mut Sinks { stdout, stderr })
    }

    /// Like [`Vm::run`], but keeps the output.
    ///
    /// # Errors
    /// As [`Vm::run`].
    pub fn output<S: Into<String>>(&self, command: impl IntoIterator<Item = S>) -> Result<GuestOutput, VmError> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut sinks = Sinks { stdout: &mut stdout, stderr: &mut stderr };
        let exit = run::run(self, command.into_iter().map(Into::into).collect(), &mut sinks)?;
        Ok(GuestOutput { exit, stdout, stderr })
    }

    pub(crate) fn memory_mib(&self) -> u64 {
        self.memory_bytes / MIB
    }

    /// The kernel's command line as far as it is up to the user.
    pub(crate) fn all_kernel_args(&self) -> Vec<String> {
        let mut args = self.kernel_args.clone();
        if self.count {
            for usual in count::KERNEL_ARGS {
                let name = usual.split_once('=').map(|(name, _)| name);
                if !args.iter().any(|arg| arg.split_once('=').map(|(name, _)| name) == name) {
                    args.push(usual.to_owned());
                }
            }
        }
        args
    }

    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.controllers.iter().flat_map(|controller| &controller.namespaces)
    }

    /// Refuses what QEMU or the guest would fail on less clearly.
    pub(crate) fn check(&self) -> Result<(), VmError> {
        let refuse = |text: String| Err(VmError::Config(text));
        if !(1..=64).contains(&self.cpus) {
            return refuse(format!("{} CPUs: a guest has 1 to 64", self.cpus));
        }
        if self.memory_bytes < 256 * MIB || !self.memory_bytes.is_multiple_of(MIB) {
            let bytes = self.memory_bytes;
            return refuse(format!("{bytes} bytes of memory: a guest needs at least 256 MiB, in whole MiB"));
        }
        if self.controllers.len() > args::MAX_CONTROLLERS {
            let (count, most) = (self.controllers.len(), args::MAX_CONTROLLERS);
            return refuse(format!("{count} controllers: a guest has slots for {most}"));
        }
        for namespace in self.namespaces() {
            let block = namespace.block_size;
            if block != 512 && block != 4096 {
                return refuse(format!("block size {block}: take 512 or 4096"));
            }
            match &namespace.storage {
                Storage::Null { size_bytes: size } | Storage::Mem { size_bytes: size } => {
                    if *size == 0 || !size.is_multiple_of(u64::from(block)) || i64::try_from(*size).is_err() {
                        return refuse(format!("namespace of {size} bytes: take a multiple of {block}, below 8 EiB"));
                    }
                }
                Storage::File { path } => {
                    if let Err(error) = path.metadata() {
                        return refuse(format!("namespace in {}: {error}", path.display()));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Has QEMU and the newest Debian kernel ready, so that later runs need no network.
///
/// # Errors
/// [`VmError::Qemu`] or [`VmError::Kernel`] where one cannot be had.
pub fn fetch() -> Result<(PathBuf, Kernel), VmError> {
    Ok((install::qemu()?, debian::fetch()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_has_the_kernel_at_its_best_unless_told_otherwise() {
        let vm = Vm::new().kernel_arg("iommu=nopt").count(true);
        assert_eq!((vm.cpus, vm.one_thread), (1, true));
        assert_eq!(vm.all_kernel_args(), ["iommu=nopt", "nvme.poll_queues=1"]);
        assert_eq!(vm.count(false).all_kernel_args(), ["iommu=nopt"]);
    }

    #[test]
    fn nonsense_is_refused_before_anything_starts() {
        let with = |namespace| Vm::new().controller(Controller::new(vec![namespace]));
        let mem = |size_bytes| Namespace::new(Storage::Mem { size_bytes });
        assert!(with(mem(4096)).check().is_ok());
        for vm in [
            Vm::new().cpus(0),
            Vm::new().memory(1),
            with(mem(0)),
            with(mem(1000)),
            with(mem(4096).block_size(1024)),
            with(mem(u64::MAX - 511)),
            with(Namespace::new(Storage::File { path: "/nonexistent".into() })),
        ] {
            assert!(matches!(vm.check(), Err(VmError::Config(_))), "{vm:?}");
        }
    }
}
