//! Finds QEMU, or installs it where that can be done without asking.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::error::VmError;

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";
const REMEDY: &str = "install it (Debian, Ubuntu: `apt-get install qemu-system-x86`; Fedora: `dnf install qemu-system-x86-core`; Arch: `pacman -S qemu-system-x86`) or name it in DMARING_QEMU";

/// Finds an executable file by name in PATH.
pub(crate) fn find_in_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| is_executable(path))
}

/// Whether `path` is a file this user may run.
pub(crate) fn is_executable(path: &Path) -> bool {
    path.is_file() && nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok()
}

/// Runs a tool with its output kept and no standard input.
///
/// # Errors
/// One line with what the tool said, if it cannot be started or fails.
pub(crate) fn tool(command: &mut Command) -> Result<Output, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("`{name}` cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message").trim();
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
    Err(format!("`{name} {}` failed ({}): {said}", args.join(" "), output.status))
}

/// Path of QEMU: `DMARING_QEMU`, PATH, or (as root, with apt) freshly installed.
pub(crate) fn qemu() -> Result<PathBuf, VmError> {
    if let Some(path) = env::var_os("DMARING_QEMU").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        if is_executable(&path) {
            return Ok(path);
        }
        let reason = format!("DMARING_QEMU names {}, which is no executable file", path.display());
        return Err(VmError::Qemu { reason, remedy: "correct or unset it" });
    }
    if let Some(path) = find_in_path(PROGRAM) {
        return Ok(path);
    }
    let missing = |reason: String| VmError::Qemu { reason, remedy: REMEDY };
    if find_in_path("apt-get").is_none() {
        return Err(missing("it is not in PATH".to_owned()));
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(missing("it is not in PATH, and only root can install it".to_owned()));
    }
    eprintln!("dmaring: installing {PACKAGE} with apt-get");
    install().map_err(missing)?;
    find_in_path(PROGRAM).ok_or_else(|| missing(format!("the package {PACKAGE} did not bring it")))
}

fn install() -> Result<(), String> {
    let run = || {
        let mut apt = Command::new("apt-get");
        apt.args(["-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends", PACKAGE]);
        tool(&mut apt)
    };
    if run().is_err() {
        update()?;
        run()?;
    }
    Ok(())
}

/// Fetches apt's package lists; needs root.
pub(crate) fn update() -> Result<(), String> {
    tool(Command::new("apt-get").arg("update")).map(drop)
}
