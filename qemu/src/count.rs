//! Counting instructions: the plugin for QEMU, built by this machine's C compiler, and what it writes.
//!
//! ```text
//! $XDG_CACHE_HOME/dmaring/plugin/
//!   count-api1-0123456789abcdef.so    by version of QEMU's plugin interface and hash of the source
//! ```
//! A library is made under another name and renamed, so several runs may build the same one at once.

use std::env;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use crate::cache;
use crate::error::{Doing, VmError};
use crate::install::{find_in_path, is_executable, tool};

const SOURCE: &str = include_str!("../plugin/count.c");
const FLAGS: [&str; 5] = ["-std=gnu11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden"];
const COMPILERS: [&str; 3] = ["cc", "gcc", "clang"];

/// The kernel at its best: its own DMA is not translated, and there is a queue to poll.
pub(crate) const KERNEL_ARGS: [&str; 2] = ["iommu=pt", "nvme.poll_queues=1"];

/// What ran between a pair of marks: of the processor that ran the marks, user and kernel instructions
/// of whatever it did meanwhile, interrupts and ticks included.
///
/// A mark is a long NOP, the bytes `0f 1f 80 ID 4b 52 4d`. ID 101 begins a section, 102 ends it; 120
/// stands before a look for completions, 121 after one that will be repeated, and 122 between them if it was
/// not in vain all the same.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Section {
    /// 0, 1, … in the order in which sections ended.
    pub index: u64,
    /// The CPU.
    pub cpu: u32,
    /// User instructions, without those of empty polls.
    pub user: u64,
    /// Kernel instructions, without those of empty polls.
    pub kernel: u64,
    /// User instructions of empty polls; how many there are depends on the host's speed.
    pub empty_user: u64,
    /// Kernel instructions during empty polls.
    pub empty_kernel: u64,
    /// User instructions of the other CPUs meanwhile.
    pub other_user: u64,
    /// Kernel instructions of the other CPUs meanwhile.
    pub other_kernel: u64,
    /// Looks for completions.
    pub polls: u64,
    /// Those that were in vain.
    pub empty_polls: u64,
    /// Accesses to device memory, by all CPUs, empty polls included.
    pub mmio: Vec<Accesses>,
}

/// MMIO accesses to devices of one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accesses {
    /// As QEMU names the memory, such as `nvme`.
    pub device: String,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

impl Section {
    /// Reads and writes of the registers of NVMe controllers, doorbells above all.
    #[must_use]
    pub fn nvme_accesses(&self) -> u64 {
        let nvme = self.mmio.iter().filter(|accesses| accesses.device == "nvme");
        nvme.map(|accesses| accesses.reads + accesses.writes).sum()
    }
}

/// The plugin and the file that it writes to.
#[derive(Debug)]
pub(crate) struct Counter {
    plugin: PathBuf,
    lines: File,
}

impl Counter {
    /// Builds the plugin for this QEMU, unless the cache has it.
    pub fn new(qemu: &Path) -> Result<Self, VmError> {
        let plugin = plugin(qemu)?;
        let doing = || "making a file in memory".to_owned();
        let lines = memfd_create(c"dmaring-count", MFdFlags::MFD_CLOEXEC).doing(doing)?;
        Ok(Self { plugin, lines: lines.into() })
    }

    /// A descriptor for QEMU to inherit.
    pub fn lines(&self) -> Result<OwnedFd, VmError> {
        Ok(self.lines.try_clone().doing(|| "copying a descriptor".to_owned())?.into())
    }

    /// The argument of `-plugin`.
    pub fn argument(&self, lines: &OwnedFd) -> Result<String, VmError> {
        let no_text = || VmError::Config(format!("{}: not UTF-8", self.plugin.display()));
        let plugin = self.plugin.to_str().ok_or_else(no_text)?.replace(',', ",,");
        Ok(format!("file={plugin},out=/proc/self/fd/{}", lines.as_raw_fd()))
    }

    /// What was counted.
    pub fn sections(mut self) -> Result<Vec<Section>, VmError> {
        let mut text = String::new();
        let doing = || "reading what was counted".to_owned();
        self.lines.rewind().doing(doing)?;
        self.lines.read_to_string(&mut text).doing(doing)?;
        parse(&text)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Section(Section),
    Stray { stray_end: u32 },
}

fn parse(text: &str) -> Result<Vec<Section>, VmError> {
    let section = |line: &str| match serde_json::from_str(line) {
        Ok(Line::Section(section)) => Ok(section),
        Ok(Line::Stray { stray_end }) => Err(VmError::Count {
            reason: format!("a section ended on CPU {stray_end} that had not begun there"),
            remedy: "give the guest one CPU, or pin the program to one",
        }),
        Err(error) => Err(VmError::Count {
            reason: format!("the plugin wrote a damaged line ({error}): {line}"),
            remedy: "this is a mistake in dmaring",
        }),
    };
    text.lines().map(section).collect()
}

fn plugin(qemu: &Path) -> Result<PathBuf, VmError> {
    let api = interface(qemu)?;
    let folder = cache::folder("plugin")?;
    let target = folder.join(format!("count-api{api}-{:016x}.so", fingerprint()));
    if target.is_file() {
        return Ok(target);
    }
    let unfit = |reason: String| VmError::Count { reason, remedy: "the compiler must make shared x86_64 libraries" };
    let mut compiler = compiler()?;
    let scratch = tempfile::Builder::new().prefix("building-").tempdir_in(&folder);
    let scratch = scratch.doing(|| format!("making a folder in {}", folder.display()))?;
    let (source, library) = (scratch.path().join("count.c"), scratch.path().join("count.so"));
    std::fs::write(&source, SOURCE).doing(|| format!("writing {}", source.display()))?;
    compiler.args(FLAGS).arg(format!("-DAPI={api}")).arg("-o").arg(&library).arg(&source);
    tool(&mut compiler).map_err(unfit)?;
    std::fs::rename(&library, &target).doing(|| format!("renaming to {}", target.display()))?;
    Ok(target)
}

/// What a QEMU that ended because of the plugin is told as: it names plugins in its help, and yet it could
/// not load this one (`qemu_plugin_load_list` in plugins/loader.c says so in one line).
pub(crate) fn refused(qemu: &Path, error: VmError) -> VmError {
    match error {
        VmError::Died { reason, .. } if reason.to_ascii_lowercase().contains("plugin") => VmError::Count {
            reason: format!("{} did not take the plugin ({reason})", qemu.display()),
            remedy: "take Debian's QEMU, or one built with --enable-plugins, and name it in DMARING_QEMU",
        },
        other => other,
    }
}

/// The version of the plugin interface to keep to.
fn interface(qemu: &Path) -> Result<u32, VmError> {
    let ask = |option: &str| {
        let output = tool(Command::new(qemu).arg(option));
        let output = output.map_err(|reason| VmError::Qemu { reason, remedy: "take another QEMU" })?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    if !ask("--help")?.lines().any(|line| line.starts_with("-plugin")) {
        return Err(VmError::Count {
            reason: format!("{} was built without TCG plugins", qemu.display()),
            remedy: "take Debian's, or one built with --enable-plugins, and name it in DMARING_QEMU",
        });
    }
    Ok(interface_of(&ask("--version")?))
}

fn interface_of(version: &str) -> u32 {
    let number = version.split_once("version ").map_or("", |(_, number)| number);
    let mut parts = number.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    match (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) {
        (..9, _) => 1,
        (9, 0) => 2,
        _ => 3,
    }
}

fn compiler() -> Result<Command, VmError> {
    let missing = |reason: String| VmError::Count {
        reason,
        remedy: "install a C compiler (Debian, Ubuntu: `apt-get install gcc libc6-dev`; Fedora, Arch: the package gcc) or name one in CC",
    };
    let Some(named) = env::var("CC").ok().filter(|named| !named.trim().is_empty()) else {
        let found = COMPILERS.into_iter().find_map(find_in_path);
        let none = || {
            missing("the plugin for it is built by a C compiler, and neither cc, gcc nor clang is in PATH".to_owned())
        };
        return Ok(Command::new(found.ok_or_else(none)?));
    };
    let mut words = named.split_whitespace();
    let program = words.next().unwrap_or_default();
    let path = if program.contains('/') { Some(program.into()) } else { find_in_path(program) };
    let path = path.filter(|path| is_executable(path));
    let mut command = Command::new(path.ok_or_else(|| missing(format!("CC names {program}, which is not there")))?);
    command.args(words);
    Ok(command)
}

/// FNV-1a of all that the library depends on, apart from the interface.
fn fingerprint() -> u64 {
    let parts = FLAGS.into_iter().chain([SOURCE, env::consts::ARCH]);
    let bytes = parts.flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"index":3,"cpu":1,"user":10,"kernel":20,"empty_user":1,"empty_kernel":2,"other_user":3,"other_kernel":4,"polls":7,"empty_polls":5,"mmio":[{"device":"nvme","reads":0,"writes":2},{"device":"apic-msi","reads":0,"writes":9}]}"#;

    #[test]
    fn sections_are_read_line_by_line() {
        assert_eq!(parse("").unwrap(), []);
        let sections = parse(&format!("{LINE}\n{LINE}\n")).unwrap();
        assert_eq!(sections.len(), 2);
        let section = &sections[0];
        assert_eq!((section.index, section.cpu, section.user, section.kernel), (3, 1, 10, 20));
        assert_eq!((section.polls, section.empty_polls, section.nvme_accesses()), (7, 5, 2));
        assert_eq!(parse(&serde_json::to_string(section).unwrap()).unwrap().first(), Some(section));
    }

    #[test]
    fn damage_and_strays_are_errors() {
        for (text, why) in
            [("{\"stray_end\":1}", "ended on CPU 1"), (&LINE[..50], "damaged"), ("\n", "damaged"), ("{}", "damaged")]
        {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn the_interface_goes_by_the_version() {
        for (version, api) in [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", 1),
            ("QEMU emulator version 8.2.2", 1),
            ("QEMU emulator version 9.0.0", 2),
            ("QEMU emulator version 9.1.0-rc1", 3),
            ("QEMU emulator version 10.0.2 (v10)", 3),
            ("something else", 1),
        ] {
            assert_eq!(interface_of(version), api, "{version}");
        }
    }
}
