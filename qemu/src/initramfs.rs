//! The guest's root file system: a cpio archive (newc) in anonymous memory.
//!
//! `/bin`, `/sbin`, `/lib` and `/lib64` are links into `/usr` whatever the host has, so that a library
//! found under either name on the host is found under both in the guest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::closure;
use crate::error::{Doing, VmError};

const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
/// Searched by every loader; libraries from elsewhere need `LD_LIBRARY_PATH`.
const LIBRARY_FOLDERS: [&str; 3] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"];
const FOLDERS: [&str; 12] = [
    "/dev",
    "/proc",
    "/sys",
    "/run",
    "/tmp",
    "/root",
    "/etc",
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/usr/lib64",
    "/var/tmp",
];
const ETC: [(&str, &str); 3] = [
    ("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("/etc/hosts", "127.0.0.1 localhost dmaring\n"),
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Folder,
    Host(PathBuf),
    Data(Vec<u8>),
    Link(PathBuf),
    /// Major and minor number of a character device.
    Device(u32, u32),
}

/// The archive being gathered: one entry a path, the last one added counts.
#[derive(Debug)]
pub(crate) struct Initramfs {
    entries: BTreeMap<PathBuf, Entry>,
    /// Where a host file, by its real path, already is.
    placed: BTreeMap<PathBuf, PathBuf>,
    library_folders: BTreeSet<PathBuf>,
}

impl Initramfs {
    /// An empty system with `init` as its `/init`.
    pub fn new(init: &Path) -> Result<Self, VmError> {
        let mut tree = Self { entries: BTreeMap::new(), placed: BTreeMap::new(), library_folders: BTreeSet::new() };
        for name in MERGED {
            tree.entries.insert(Path::new("/").join(name), Entry::Link(Path::new("usr").join(name)));
        }
        for folder in FOLDERS {
            tree.entries.insert(folder.into(), Entry::Folder);
        }
        // Rust's runtime wants standard descriptors before anything can be mounted.
        tree.entries.insert("/dev/console".into(), Entry::Device(5, 1));
        tree.entries.insert("/dev/null".into(), Entry::Device(1, 3));
        for (path, text) in ETC {
            tree.data(path, text.into());
        }
        tree.add(init, Path::new("/init"))?;
        Ok(tree)
    }

    /// Adds bytes as a file.
    pub fn data(&mut self, guest: impl AsRef<Path>, bytes: Vec<u8>) {
        self.put(&merged(guest.as_ref()), Entry::Data(bytes));
    }

    /// Adds a link unless something is there.
    pub fn link(&mut self, guest: &Path, target: &Path) {
        let guest = merged(guest);
        if !self.entries.contains_key(&guest) {
            self.put(&guest, Entry::Link(target.to_owned()));
        }
    }

    /// Adds a file of the host, keeping its mode, and what it needs to run.
    pub fn add(&mut self, host: &Path, guest: &Path) -> Result<(), VmError> {
        let refused = |reason: String| VmError::Add { path: host.to_owned(), reason };
        let real = host.canonicalize().map_err(|error| refused(error.to_string()))?;
        let data = real.metadata().map_err(|error| refused(error.to_string()))?;
        if !data.is_file() {
            return Err(refused("only regular files can be added".to_owned()));
        }
        if data.len() > u64::from(u32::MAX) {
            return Err(refused("an initramfs cannot hold files over 4 GiB".to_owned()));
        }
        let guest = merged(guest);
        match self.placed.get(&real) {
            Some(place) if *place == guest => return Ok(()),
            Some(place) => {
                let place = place.clone();
                self.put(&guest, Entry::Link(place));
                return Ok(());
            }
            None => {}
        }
        self.placed.insert(real.clone(), guest.clone());
        self.put(&guest, Entry::Host(real.clone()));
        let runnable = data.permissions().mode() & 0o111 != 0 || is_library(&real);
        for needed in if runnable { closure::needs(&real)? } else { Vec::new() } {
            self.add(&needed, &needed)?;
            let folder = merged(&needed).parent().map(Path::to_owned).unwrap_or_default();
            if is_library(&needed) && !LIBRARY_FOLDERS.iter().any(|known| folder == Path::new(known)) {
                self.library_folders.insert(folder);
            }
        }
        Ok(())
    }

    /// Value for `LD_LIBRARY_PATH`, empty where none is needed.
    pub fn library_path(&self) -> String {
        let folders: Vec<_> = self.library_folders.iter().map(|folder| folder.to_string_lossy()).collect();
        folders.join(":")
    }

    fn put(&mut self, guest: &Path, entry: Entry) {
        for folder in guest.ancestors().skip(1) {
            if folder != Path::new("/") {
                self.entries.entry(folder.to_owned()).or_insert(Entry::Folder);
            }
        }
        self.entries.insert(guest.to_owned(), entry);
    }

    /// Writes the archive to anonymous memory.
    pub fn pack(&self) -> Result<File, VmError> {
        let doing = || "packing the initramfs".to_owned();
        let memory = memfd_create(c"dmaring-initramfs", MFdFlags::MFD_CLOEXEC).doing(doing)?;
        let mut out = BufWriter::with_capacity(1 << 20, File::from(memory));
        for (index, (path, entry)) in self.entries.iter().enumerate() {
            let name = path.strip_prefix("/").unwrap_or(path).to_string_lossy();
            let header = cpio::NewcBuilder::new(&name).ino(index as u32 + 1);
            let doing = || format!("packing {}", path.display());
            write_entry(&mut out, header, entry).doing(doing)?;
        }
        cpio::newc::trailer(&mut out).doing(doing)?;
        let mut file = out.into_inner().map_err(io::IntoInnerError::into_error).doing(doing)?;
        file.rewind().doing(doing)?;
        Ok(file)
    }
}

fn write_entry(out: &mut impl Write, header: cpio::NewcBuilder, entry: &Entry) -> io::Result<()> {
    const LINK: u32 = 0o120_000;
    const FILE: u32 = 0o100_000;
    const FOLDER: u32 = 0o040_000;
    const CHARACTER: u32 = 0o020_000;
    match entry {
        Entry::Folder => header.mode(FOLDER | 0o755).write(out, 0).finish().map(drop),
        Entry::Device(major, minor) => {
            header.mode(CHARACTER | 0o666).rdev_major(*major).rdev_minor(*minor).write(out, 0).finish().map(drop)
        }
        Entry::Link(target) => {
            let bytes = target.as_os_str().as_encoded_bytes();
            write_bytes(out, header.mode(LINK | 0o777), bytes)
        }
        Entry::Data(bytes) => write_bytes(out, header.mode(FILE | 0o644), bytes),
        Entry::Host(path) => {
            let mut file = File::open(path)?;
            let data = file.metadata()?;
            let size = u32::try_from(data.len()).map_err(io::Error::other)?;
            let mut writer = header.mode(FILE | data.permissions().mode() & 0o7777).write(out, size);
            if io::copy(&mut file, &mut writer)? != u64::from(size) {
                return Err(io::Error::other("the file changed while it was read"));
            }
            writer.finish().map(drop)
        }
    }
}

fn write_bytes(out: &mut impl Write, header: cpio::NewcBuilder, bytes: &[u8]) -> io::Result<()> {
    let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut writer = header.write(out, size);
    writer.write_all(bytes)?;
    writer.finish().map(drop)
}

fn is_library(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so"))
}

/// The path without the links that [`MERGED`] puts into the guest.
pub(crate) fn merged(path: &Path) -> PathBuf {
    let mut parts = path.strip_prefix("/").unwrap_or(path).components();
    let whole = parts.as_path().to_owned();
    match parts.next() {
        Some(first)
            if !parts.as_path().as_os_str().is_empty() && MERGED.iter().any(|name| first.as_os_str() == *name) =>
        {
            Path::new("/usr").join(whole)
        }
        _ => Path::new("/").join(whole),
    }
}

/// Size of a packed archive.
pub(crate) fn size(archive: &File) -> Result<u64, VmError> {
    archive.metadata().map(|data| data.len()).doing(|| "measuring the initramfs".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(archive: File) -> Vec<String> {
        let mut rest: Box<dyn io::Read> = Box::new(io::BufReader::new(archive));
        let mut names = Vec::new();
        loop {
            let reader = cpio::NewcReader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                return names;
            }
            names.push(reader.entry().name().to_owned());
            rest = reader.finish().unwrap();
        }
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let mut tree = Initramfs::new(&std::env::current_exe().unwrap()).unwrap();
        tree.data("/a/b/c", b"x".to_vec());
        let names = names(tree.pack().unwrap());
        let at = |name: &str| names.iter().position(|other| other == name).unwrap_or_else(|| panic!("no {name}"));
        assert!(at("a") < at("a/b") && at("a/b") < at("a/b/c"));
        assert!(at("dev") < at("dev/console"));
        at("init");
        at("lib64");
    }

    #[test]
    fn a_file_added_twice_is_packed_once() {
        let own = std::env::current_exe().unwrap();
        let mut tree = Initramfs::new(&own).unwrap();
        tree.add(&own, Path::new("/bin/again")).unwrap();
        assert_eq!(tree.entries[Path::new("/usr/bin/again")], Entry::Link("/init".into()));
    }

    #[test]
    fn paths_are_merged_into_usr() {
        assert_eq!(merged(Path::new("/lib/x/libc.so")), Path::new("/usr/lib/x/libc.so"));
        assert_eq!(merged(Path::new("/library/x")), Path::new("/library/x"));
        assert_eq!(merged(Path::new("/bin")), Path::new("/bin"));
    }

    #[test]
    fn missing_files_and_folders_are_refused() {
        let mut tree = Initramfs::new(&std::env::current_exe().unwrap()).unwrap();
        for path in ["/nonexistent", "/proc"] {
            assert!(matches!(tree.add(Path::new(path), Path::new("/x")), Err(VmError::Add { .. })));
        }
    }
}
