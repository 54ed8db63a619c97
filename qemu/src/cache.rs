//! Where things that take time to make are kept: `$XDG_CACHE_HOME/dmaring`, or `~/.cache/dmaring`.

use std::env;
use std::fs;
use std::path::PathBuf;

use crate::error::{Doing, VmError};

/// A folder of the cache, made now if there is none.
pub(crate) fn folder(name: &str) -> Result<PathBuf, VmError> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    let no_home = || VmError::Config("no place for a cache: set HOME or XDG_CACHE_HOME".to_owned());
    let folder = base.ok_or_else(no_home)?.join("dmaring").join(name);
    fs::create_dir_all(&folder).doing(|| format!("making {}", folder.display()))?;
    Ok(folder)
}
