//! Making a bare kernel fit to run programs.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use crate::manifest::{MODULES, PORT};

const NOFILE: u64 = 1 << 16;

/// File systems: type, place, options. Root is a tmpfs already, so `/tmp` and `/run` are just folders
/// and keep what the initramfs put there.
const MOUNTS: [(&str, &str, &str); 4] =
    [("proc", "/proc", ""), ("sysfs", "/sys", ""), ("devtmpfs", "/dev", ""), ("tmpfs", "/dev/shm", "mode=1777")];
/// As far as the kernel has them.
const OPTIONAL_MOUNTS: [(&str, &str, &str); 4] = [
    ("devpts", "/dev/pts", "mode=620,ptmxmode=666"),
    ("debugfs", "/sys/kernel/debug", ""),
    ("tracefs", "/sys/kernel/tracing", ""),
    ("hugetlbfs", "/dev/hugepages", ""),
];
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Mounts, host name, loopback, limits.
pub(crate) fn set_up() -> Result<(), String> {
    for entry in MOUNTS {
        mount_one(entry).map_err(|errno| format!("cannot mount {}: {errno}", entry.1))?;
    }
    for entry in OPTIONAL_MOUNTS {
        let _ = mount_one(entry);
    }
    for (target, link) in LINKS {
        let _ = symlink(target, link);
    }
    // Without these much still works, and what does not says so itself.
    let _ = nix::unistd::sethostname("dmaring");
    let _ = fs::write("/sys/class/net/lo/flags", "0x1049");
    let _ = fs::write("/proc/sys/kernel/printk", "6");
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let _ = setrlimit(Resource::RLIMIT_NOFILE, NOFILE, NOFILE);
    Ok(())
}

fn mount_one((kind, place, options): (&str, &str, &str)) -> nix::Result<()> {
    // Fails harmlessly where the folder exists or cannot be made, as in sysfs.
    let _ = fs::create_dir_all(place);
    mount(Some(kind), place, Some(kind), MsFlags::empty(), Some(options))
}

/// Loads the modules in order, with their parameters on the kernel's command line; returns a line for
/// each that fails.
pub(crate) fn load_modules(names: &[String]) -> Vec<String> {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let failure = |name: &String| match load(name, &parameters(&line, name)) {
        Ok(()) | Err(Errno::EEXIST) => None,
        Err(errno) => Some(format!("module {name}: {errno}")),
    };
    names.iter().filter_map(failure).collect()
}

/// What follows `MODULE.` in the words of a kernel command line. The kernel itself does this only for
/// what is built in; for modules it is the loader's part.
fn parameters(line: &str, file: &str) -> CString {
    let plain = |name: &str| name.replace('-', "_");
    let module = plain(file.strip_suffix(".ko").unwrap_or(file));
    let mine = |word: &'_ str| {
        let (name, parameter) = word.split_once('.')?;
        (plain(name) == module).then(|| parameter.to_owned())
    };
    let words: Vec<String> = line.split_whitespace().filter_map(mine).collect();
    // A line of the kernel holds no null.
    CString::new(words.join(" ")).unwrap_or_default()
}

fn load(name: &str, parameters: &CStr) -> nix::Result<()> {
    let open = |path: &Path| File::open(path).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)));
    finit_module(open(&Path::new(MODULES).join(name))?, parameters, ModuleInitFlags::empty())
}

/// Opens the virtio-serial port to the host.
pub(crate) fn open_port() -> Result<File, String> {
    let mut last = "there is no such device".to_owned();
    let opened = within(Duration::from_secs(20), || {
        let entries = fs::read_dir("/sys/class/virtio-ports").ok()?.flatten();
        let is_ours = |path: &Path| fs::read_to_string(path.join("name")).is_ok_and(|name| name.trim() == PORT);
        let entry = entries.into_iter().find(|entry| is_ours(&entry.path()))?;
        let opened = File::options().read(true).write(true).open(Path::new("/dev").join(entry.file_name()));
        opened.map_err(|error: io::Error| last = error.to_string()).ok()
    });
    opened.ok_or_else(|| format!("cannot open the port to the host: {last}"))
}

/// Waits until as many controllers are live and namespaces there; else says how many are missing.
pub(crate) fn wait_for_nvme(controllers: usize, namespaces: usize) -> Option<String> {
    let found = || (count("/sys/class/nvme", is_live), count("/sys/class/block", is_namespace));
    let enough = || {
        let (live, there) = found();
        (live >= controllers && there >= namespaces).then_some(())
    };
    match within(Duration::from_secs(20), enough) {
        Some(()) => None,
        None => {
            let (live, there) = found();
            Some(format!("{live} of {controllers} controllers and {there} of {namespaces} namespaces came up"))
        }
    }
}

/// Brings up the CPUs that the kernel's command line held back; returns a line for each that fails.
pub(crate) fn bring_up_cpus(cpus: u32) -> Vec<String> {
    let failure = |cpu| match fs::write(format!("/sys/devices/system/cpu/cpu{cpu}/online"), "1") {
        Ok(()) => None,
        Err(error) => Some(format!("CPU {cpu}: {error}")),
    };
    (1..cpus).filter_map(failure).collect()
}

fn count(folder: &str, is_one: fn(&Path) -> bool) -> usize {
    fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| is_one(&entry.path())).count()
}

fn is_live(controller: &Path) -> bool {
    fs::read_to_string(controller.join("state")).is_ok_and(|state| state.trim() == "live")
}

/// `nvme0n1`, but neither its partitions nor the hidden paths `nvme0c0n1` of a multipath kernel.
fn is_namespace(disk: &Path) -> bool {
    let name = disk.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_prefix("nvme").and_then(|rest| rest.split_once('n')).is_some_and(|(c, n)| number(c) && number(n))
}

fn within<T>(limit: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let result = attempt();
        if result.is_some() || Instant::now() >= deadline {
            return result;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Processes the kernel killed for want of memory.
pub(crate) fn oom_kills() -> u64 {
    let text = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_told_from_partitions_and_paths() {
        for (name, expected) in
            [("nvme0n1", true), ("nvme12n34", true), ("nvme0n1p1", false), ("nvme0c0n1", false), ("sda", false)]
        {
            assert_eq!(is_namespace(&Path::new("/sys/class/block").join(name)), expected, "{name}");
        }
    }

    #[test]
    fn modules_get_their_own_parameters() {
        let line = "console=ttyS0 nvme.poll_queues=2 nvme_core.multipath=N nvme.use_threaded_interrupts=1 quiet";
        assert_eq!(parameters(line, "nvme.ko").as_c_str(), c"poll_queues=2 use_threaded_interrupts=1");
        assert_eq!(parameters(line, "nvme-core.ko").as_c_str(), c"multipath=N");
        assert_eq!(parameters(line, "vfio.ko").as_c_str(), c"");
    }
}
