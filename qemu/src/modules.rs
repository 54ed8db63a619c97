//! The kernel modules the guest needs, unpacked and in loading order.
//!
//! An unpacked package has no `modules.dep`, so the order comes from the modules themselves: `depends=`
//! and `softdep=pre:` in their `.modinfo` section.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Doing, VmError};
use crate::install::tool;

/// What the guest needs; those of another kernel configuration are built in or absent.
const WANTED: [&str; 9] =
    ["virtio_pci", "virtio_console", "nvme", "vfio", "vfio_iommu_type1", "vfio_pci", "loop", "crc32c_generic", "ext4"];

/// A module ready for the initramfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// All modules wanted, dependencies first. What the kernel has built in or does not have is left out.
pub(crate) fn collect(folder: &Path) -> Result<Vec<Module>, VmError> {
    let mut files = HashMap::new();
    index(&folder.join("kernel"), &mut files)?;
    let mut order = Order {
        load: |name: &str| files.get(name).map(|path| unpack(path)).transpose(),
        seen: HashSet::new(),
        sorted: Vec::new(),
    };
    for name in WANTED {
        order.visit(name)?;
    }
    Ok(order.sorted)
}

struct Order<F> {
    load: F,
    seen: HashSet<String>,
    sorted: Vec<Module>,
}

impl<F: Fn(&str) -> Result<Option<Vec<u8>>, VmError>> Order<F> {
    fn visit(&mut self, name: &str) -> Result<(), VmError> {
        if !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(bytes) = (self.load)(name)? else {
            return Ok(());
        };
        for needed in depends(&bytes) {
            self.visit(&needed)?;
        }
        self.sorted.push(Module { name: name.to_owned(), bytes });
        Ok(())
    }
}

/// Modules by canonical name (`_` for `-`).
fn index(folder: &Path, files: &mut HashMap<String, PathBuf>) -> Result<(), VmError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.doing(|| format!("reading {}", folder.display()))?,
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            index(&path, files)?;
        } else if let Some(name) = module_name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

fn module_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let stem = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"].iter().find_map(|end| name.strip_suffix(end))?;
    Some(stem.replace('-', "_"))
}

fn unpack(path: &Path) -> Result<Vec<u8>, VmError> {
    let damaged = |reason| VmError::Module { module: path.display().to_string(), reason };
    let with = |program| tool(Command::new(program).arg("-dc").arg(path)).map(|output| output.stdout).map_err(damaged);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => {
            let packed = fs::read(path).doing(|| format!("reading {}", path.display()))?;
            let mut bytes = Vec::new();
            let mut reader = lzma_rust2::XzReader::new(&packed[..], true);
            reader.read_to_end(&mut bytes).map_err(|error| damaged(error.to_string()))?;
            Ok(bytes)
        }
        Some("zst") => with("zstd"),
        Some("gz") => with("gzip"),
        _ => fs::read(path).doing(|| format!("reading {}", path.display())),
    }
}

/// What a module needs loaded before it.
fn depends(module: &[u8]) -> Vec<String> {
    let fields = module.split(|byte| *byte == 0).filter_map(|field| std::str::from_utf8(field).ok());
    let mut found = Vec::new();
    for field in fields {
        if let Some(names) = field.strip_prefix("depends=") {
            found.extend(names.split(','));
        } else if let Some(names) = field.strip_prefix("softdep=pre:") {
            found.extend(names.split_whitespace().take_while(|name| *name != "post:"));
        }
    }
    found.retain(|name| !name.is_empty());
    found.into_iter().map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(info: &str) -> Vec<u8> {
        [b"\x7fELF\xff\xfe\0license=GPL\0", info.as_bytes(), b"\0vermagic=6\0"].concat()
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let all = HashMap::from([
            ("vfio_pci", module("depends=vfio-pci-core,vfio")),
            ("vfio_pci_core", module("depends=vfio,irqbypass,vfio_pci")),
            ("vfio", module("depends=")),
            ("irqbypass", module("softdep=pre: first post: last")),
            ("first", module("x=y")),
            ("last", module("x=y")),
        ]);
        let load = |name: &str| Ok(all.get(name).cloned());
        let mut order = Order { load, seen: HashSet::new(), sorted: Vec::new() };
        for name in ["vfio", "missing", "vfio_pci"] {
            order.visit(name).unwrap();
        }
        let names: Vec<_> = order.sorted.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["vfio", "first", "irqbypass", "vfio_pci_core", "vfio_pci"]);
    }

    #[test]
    fn names_are_canonical() {
        assert_eq!(module_name(Path::new("/a/vfio-pci.ko.xz")).as_deref(), Some("vfio_pci"));
        assert_eq!(module_name(Path::new("/a/modules.order")), None);
    }

    #[test]
    fn damaged_module_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("kernel")).unwrap();
        fs::write(folder.path().join("kernel/vfio.ko.xz"), b"\xfd7zXZ\0garbage").unwrap();
        assert!(matches!(collect(folder.path()), Err(VmError::Module { .. })));
        assert!(collect(Path::new("/nonexistent")).unwrap().is_empty());
    }
}
