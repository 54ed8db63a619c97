//! Debian's kernel packages, unpacked into a cache without being installed.
//!
//! ```text
//! $XDG_CACHE_HOME/dmaring/kernel/
//!   lock                                           held while fetching
//!   linux-image-6.12.117+deb12-cloud-amd64_6.12.117-1~deb12u1/   complete: made by rename
//!     boot/vmlinuz-…  lib/modules/…
//! ```
//! A kernel in the cache is taken without asking apt; only [`fetch`] looks for a newer one.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

use crate::cache;
use crate::debversion;
use crate::error::{Doing, VmError};
use crate::install::{find_in_path, tool, update};
use crate::kernel::Kernel;

/// The series whose behaviour the tests know.
const SERIES: &str = "6.12";
const FOLDER: &str = "kernel";
const SCRATCH: &str = "unpacking-";
const REMEDY: &str = "run `apt-get update` as root, or give an image (`--kernel PATH` or `--kernel host`)";

/// A kernel package: `linux-image-VERSION-cloud-amd64` or `linux-image-VERSION-amd64`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Package {
    name: String,
    /// Position in order of preference: the known series, any cloud kernel, any kernel.
    rank: u8,
    version: String,
}

impl Package {
    fn parse(name: &str) -> Option<Self> {
        let middle = name.strip_prefix("linux-image-")?.strip_suffix("-amd64")?;
        let (version, cloud) = match middle.strip_suffix("-cloud") {
            Some(version) => (version, true),
            None => (middle, false),
        };
        // Meta-packages end in a series ("6.12") or have none; "-rt" is another kernel.
        let of_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | '~');
        let numbers = version.split('+').next()?;
        if !version.starts_with(|c: char| c.is_ascii_digit()) || !numbers.chars().all(of_number) {
            return None;
        }
        if numbers.matches(['.', '-']).count() < 2 || version.ends_with("-rt") {
            return None;
        }
        let known = version.strip_prefix(SERIES).is_some_and(|rest| rest.starts_with('.'));
        let rank = match (cloud, known) {
            (true, true) => 2,
            (true, false) => 1,
            (false, _) => 0,
        };
        Some(Self { name: name.to_owned(), rank, version: version.to_owned() })
    }

    fn is_of_known_series(&self) -> bool {
        self.rank == 2
    }

    fn preference(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank).then_with(|| debversion::compare(&self.version, &other.version))
    }
}

/// The cache's newest kernel, or one fetched now.
pub(crate) fn cached_or_fetched() -> Result<Kernel, VmError> {
    let cache = cache::folder(FOLDER)?;
    if let Some(kernel) = newest_cached(&cache) {
        return Ok(kernel);
    }
    let _lock = lock(&cache)?;
    // Another run may have fetched it while this one waited.
    match newest_cached(&cache) {
        Some(kernel) => Ok(kernel),
        None => fetch_into(&cache),
    }
}

/// Fetches the newest kernel apt knows, unless the cache has it.
pub(crate) fn fetch() -> Result<Kernel, VmError> {
    let cache = cache::folder(FOLDER)?;
    let _lock = lock(&cache)?;
    fetch_into(&cache)
}

fn lock(cache: &Path) -> Result<Flock<File>, VmError> {
    let path = cache.join("lock");
    let doing = || format!("locking {}", path.display());
    let file = File::options().create(true).truncate(false).write(true).open(&path).doing(doing)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno).doing(doing)
}

fn newest_cached(cache: &Path) -> Option<Kernel> {
    let entries = fs::read_dir(cache).ok()?.flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (package, version) = name.split_once('_')?;
            Some((Package::parse(package)?, version.to_owned(), entry.path()))
        })
        .collect();
    found.sort_by(|a, b| b.0.preference(&a.0).then_with(|| debversion::compare(&b.1, &a.1)));
    found.iter().find_map(|(_, _, path)| unpacked(path).ok())
}

/// The kernel in an unpacked package.
fn unpacked(root: &Path) -> Result<Kernel, VmError> {
    let boot = root.join("boot");
    let entries = fs::read_dir(&boot).doing(|| format!("reading {}", boot.display()))?;
    let image = entries.flatten().find(|entry| entry.file_name().as_encoded_bytes().starts_with(b"vmlinuz-"));
    let image = image.ok_or_else(|| unfit(format!("no vmlinuz in {}", boot.display())))?.path();
    let kernel = Kernel::from_image(image, None)?;
    // "usr" since the merge of the folders (Debian 13), else without.
    let folders = ["lib/modules", "usr/lib/modules"].map(|folder| root.join(folder).join(&kernel.version));
    let modules = folders.into_iter().find(|folder| folder.is_dir());
    Ok(Kernel { modules: modules.ok_or_else(|| unfit("the package has no modules".to_owned()))?, ..kernel })
}

fn unfit(reason: String) -> VmError {
    VmError::Kernel { reason, remedy: REMEDY }
}

/// Caller holds the lock.
fn fetch_into(cache: &Path) -> Result<Kernel, VmError> {
    for program in ["apt-get", "apt-cache", "dpkg-deb"] {
        if find_in_path(program).is_none() {
            let reason = format!("Debian's is fetched with {program}, which is not on this machine");
            let remedy = "give an image (`--kernel PATH` or `--kernel host`)";
            return Err(VmError::Kernel { reason, remedy });
        }
    }
    remove_scratch(cache);
    let root = nix::unistd::geteuid().is_root();
    let mut updated = false;
    let mut package = best_known();
    // Lists may be older than the first kernel of the series in the archive.
    if root && !package.as_ref().is_ok_and(Package::is_of_known_series) {
        updated = true;
        match update() {
            // Another kernel does as well: which one is taken is said when it is fetched.
            Err(_) if package.is_ok() => {}
            result => {
                result.map_err(unfit)?;
                package = best_known();
            }
        }
    }
    let mut package = package.map_err(unfit)?;
    if let Some(kernel) = candidate(&package).and_then(|key| unpacked(&cache.join(key)).ok()) {
        return Ok(kernel);
    }
    let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(cache);
    let scratch = scratch.doing(|| format!("making a folder in {}", cache.display()))?;
    let deb = match download(&package, scratch.path()) {
        // The lists may name a file that the archive has replaced.
        Err(_) if root && !updated => {
            update().map_err(unfit)?;
            package = best_known().map_err(unfit)?;
            download(&package, scratch.path())
        }
        result => result,
    };
    let deb = deb.map_err(unfit)?;
    let key = key(&deb).ok_or_else(|| unfit(format!("unexpected file name {}", deb.display())))?;
    let target = cache.join(key);
    if let Ok(kernel) = unpacked(&target) {
        return Ok(kernel);
    }
    let tree = scratch.path().join("tree");
    tool(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&tree)).map_err(unfit)?;
    unpacked(&tree)?;
    if target.exists() {
        fs::remove_dir_all(&target).doing(|| format!("removing damaged {}", target.display()))?;
    }
    fs::rename(&tree, &target).doing(|| format!("renaming to {}", target.display()))?;
    unpacked(&target)
}

/// Removes what an interrupted fetch left.
fn remove_scratch(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(SCRATCH.as_bytes()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn best_known() -> Result<Package, String> {
    let mut search = Command::new("apt-cache");
    let output = tool(search.args(["search", "--names-only", "^linux-image-[0-9].*-amd64$"]))?;
    let text = String::from_utf8_lossy(&output.stdout);
    best(text.lines().filter_map(|line| line.split_whitespace().next()))
        .ok_or_else(|| "apt knows no linux-image package for amd64".to_owned())
}

/// The cache's name for the version of `package` that apt would download.
fn candidate(package: &Package) -> Option<String> {
    let mut show = Command::new("apt-cache");
    let output = tool(show.args(["show", "--no-all-versions", &package.name])).ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.lines().find_map(|line| line.strip_prefix("Version: "))?;
    Some(format!("{}_{}", package.name, version.trim()))
}

fn best<'a>(names: impl Iterator<Item = &'a str>) -> Option<Package> {
    names.filter_map(Package::parse).max_by(Package::preference)
}

fn download(package: &Package, folder: &Path) -> Result<PathBuf, String> {
    eprintln!("dmaring: fetching {} with apt-get", package.name);
    tool(Command::new("apt-get").arg("download").arg(&package.name).current_dir(folder))?;
    let mut files = fs::read_dir(folder).map_err(|error| error.to_string())?.flatten().map(|entry| entry.path());
    files
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or_else(|| "`apt-get download` brought no file".to_owned())
}

/// `NAME_VERSION` of `NAME_VERSION_amd64.deb`.
fn key(deb: &Path) -> Option<&str> {
    deb.file_name()?.to_str()?.strip_suffix("_amd64.deb").filter(|key| key.contains('_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_signed_cloud_kernel_of_the_known_series_wins() {
        let names = [
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.1.0-50-cloud-amd64",
            "linux-image-6.12.101+deb12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.118+deb12-cloud-amd64-unsigned",
            "linux-image-6.12.118+deb12-rt-amd64",
            "linux-image-6.12.119+deb12-amd64",
            "linux-image-6.18.1+deb14-cloud-amd64",
            "linux-image-6.12.99+deb12-cloud-amd64",
            "linux-image-cloud-amd64",
        ];
        let best = |names: &[&'static str]| best(names.iter().copied()).map(|package| package.name);
        assert_eq!(best(&names).unwrap(), "linux-image-6.12.117+deb12-cloud-amd64");
        assert_eq!(best(&names[..2]).unwrap(), "linux-image-6.1.0-50-cloud-amd64");
        assert_eq!(best(&names[4..7]).unwrap(), "linux-image-6.12.119+deb12-amd64");
        assert_eq!(best(&names[9..]), None);
    }

    #[test]
    fn key_is_package_and_version() {
        let deb = Path::new("/x/linux-image-6.12.1-cloud-amd64_6.12.1-1_amd64.deb");
        assert_eq!(key(deb), Some("linux-image-6.12.1-cloud-amd64_6.12.1-1"));
        assert_eq!(key(Path::new("/x/y.deb")), None);
    }
}
