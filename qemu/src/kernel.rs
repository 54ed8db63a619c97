//! Which kernel the guest boots, and where its modules are.

use std::fs;
use std::path::{Path, PathBuf};

use crate::debian;
use crate::error::{Doing, VmError};

/// Where the guest's kernel comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum KernelSource {
    /// Debian's cloud kernel, 6.12 if there is one, fetched by apt and cached.
    #[default]
    Debian,
    /// The kernel this machine runs, from `/boot`.
    Host,
    /// A kernel image (bzImage).
    Image {
        /// The image.
        path: PathBuf,
        /// Folder of its modules; `/lib/modules/VERSION` by default.
        modules: Option<PathBuf>,
    },
}

/// A kernel on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The image (bzImage).
    pub image: PathBuf,
    /// Folder with `kernel/` and `modules.builtin`; need not exist if all is built in.
    pub modules: PathBuf,
    /// As `uname -r` says in the guest.
    pub version: String,
}

impl KernelSource {
    /// Finds the kernel, fetching it first where the cache has none.
    ///
    /// # Errors
    /// [`VmError::Kernel`] if there is none and none can be had, or if the file is no kernel image.
    pub fn locate(&self) -> Result<Kernel, VmError> {
        match self {
            Self::Debian => debian::cached_or_fetched(),
            Self::Host => {
                let release = fs::read_to_string("/proc/sys/kernel/osrelease")
                    .doing(|| "/proc/sys/kernel/osrelease".to_owned())?;
                let release = release.trim();
                Kernel::from_image(Path::new("/boot").join(format!("vmlinuz-{release}")), None)?.with_modules()
            }
            Self::Image { path, modules } => Kernel::from_image(path.clone(), modules.clone())?.with_modules(),
        }
    }
}

impl Kernel {
    /// Reads the version out of a kernel image; `modules` defaults to `/lib/modules/VERSION`.
    pub(crate) fn from_image(image: PathBuf, modules: Option<PathBuf>) -> Result<Self, VmError> {
        let refused = |reason: String| VmError::Kernel {
            reason: format!("{}: {reason}", image.display()),
            remedy: "take Debian's (the default) or another image",
        };
        let bytes = fs::read(&image).map_err(|error| refused(error.to_string()))?;
        let version = image_version(&bytes).ok_or_else(|| refused("it is no x86 kernel image".to_owned()))?;
        let modules = modules.unwrap_or_else(|| Path::new("/lib/modules").join(&version));
        Ok(Self { image, modules, version })
    }
}

impl Kernel {
    /// Says so where there are no modules: the kernel may have all built in, or the guest will lack VFIO.
    fn with_modules(self) -> Result<Self, VmError> {
        if !self.modules.is_dir() {
            eprintln!("dmaring: no kernel modules in {}: the guest has what is built in", self.modules.display());
        }
        Ok(self)
    }
}

/// The version in the setup header of a bzImage (kernel Documentation/arch/x86/boot.rst).
fn image_version(bytes: &[u8]) -> Option<String> {
    const MAGIC: usize = 0x202;
    const VERSION_POINTER: usize = 0x20e;
    if bytes.get(MAGIC..MAGIC + 4)? != b"HdrS" {
        return None;
    }
    let pointer = u16::from_le_bytes(*bytes.get(VERSION_POINTER..)?.first_chunk()?);
    let text = bytes.get(usize::from(pointer) + 0x200..)?;
    let end = text.iter().take(256).position(|byte| matches!(byte, 0 | b' '))?;
    String::from_utf8(text[..end].to_vec()).ok().filter(|version| !version.is_empty() && !version.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_read_from_the_setup_header() {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
        image[0x300..0x310].copy_from_slice(b"6.12.1-cloud (x\0");
        assert_eq!(image_version(&image).as_deref(), Some("6.12.1-cloud"));
        assert_eq!(image_version(&image[..0x20e]), None);
        image[0x20f] = 0xff;
        assert_eq!(image_version(&image), None);
        assert_eq!(image_version(b"\x7fELF"), None);
    }
}
