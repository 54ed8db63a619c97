//! What is behind a namespace of the model.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Bytes by offset.
#[derive(Debug)]
pub struct Storage {
    len: u64,
    /// `None`: reads are zeroes, writes go nowhere.
    file: Option<File>,
    /// Somebody else may change the file's length.
    shared: bool,
}

impl Storage {
    /// Memory of this process, taken as it is written.
    ///
    /// # Errors
    /// `InvalidInput` when `len` is 0 or more than the machine has; what the kernel answers.
    pub fn ram(len: u64) -> io::Result<Self> {
        let available = memory_of_the_machine();
        if len == 0 || len > available {
            let what = format!("a model of {len} bytes is not possible: 1 byte to {available} (the machine's memory)");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let file = File::from(memfd_create(c"dmaring-model", MFdFlags::MFD_CLOEXEC)?);
        file.set_len(len)?;
        Ok(Self { len, file: Some(file), shared: false })
    }

    /// A file, of the length it has now. When it shrinks later, whatever lies beyond its new end is answered
    /// with a media error, and it is not made longer again.
    ///
    /// # Errors
    /// What opening it answers; `InvalidInput` when it is empty.
    pub fn file(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let len = file.metadata()?.len();
        if len == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty file holds no namespace"));
        }
        Ok(Self { len, file: Some(file), shared: true })
    }

    /// `len` bytes that read as zeroes and forget what is written.
    #[must_use]
    pub fn null(len: u64) -> Self {
        Self { len, file: None, shared: false }
    }

    /// Length in bytes.
    #[expect(clippy::len_without_is_empty)] // never empty
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Another length from now on.
    pub(super) fn resize(&mut self, len: u64) -> io::Result<()> {
        let refuse = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, what.to_owned()));
        match &self.file {
            _ if len == 0 => return refuse("a namespace cannot be empty"),
            Some(file) if self.shared && file.metadata()?.len() < len => {
                return refuse("the file is shorter than that");
            }
            Some(_) if self.shared => {}
            Some(_) if len > memory_of_the_machine() => return refuse("that is more than the machine's memory"),
            Some(file) => file.set_len(len)?,
            None => {}
        }
        self.len = len;
        Ok(())
    }

    /// Whether what is written can be read again.
    pub(super) fn keeps(&self) -> bool {
        self.file.is_some()
    }

    pub(super) fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        match &self.file {
            Some(file) => file.read_exact_at(data, offset),
            None => {
                data.fill(0);
                Ok(())
            }
        }
    }

    pub(super) fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        self.check_end(file, offset + data.len() as u64)?;
        file.write_all_at(data, offset)
    }

    /// Reads find the end by themselves; a write would move it.
    fn check_end(&self, file: &File, end: u64) -> io::Result<()> {
        if self.shared && file.metadata()?.len() < end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    pub(super) fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let (Ok(at), Ok(length)) = (i64::try_from(offset), i64::try_from(len)) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        self.check_end(file, offset + len)?;
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        if fallocate(file, flags, at, length).is_ok() {
            return Ok(());
        }
        // File systems without holes.
        let zeroes = [0; 64 << 10];
        let mut done = 0;
        while done < len {
            let step = (len - done).min(zeroes.len() as u64);
            file.write_all_at(&zeroes[..step as usize], offset + done)?;
            done += step;
        }
        Ok(())
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }
}

fn memory_of_the_machine() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_shrinks_fails_beyond_its_end_and_is_not_made_longer() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8192).unwrap();
        let storage = Storage::file(file.path()).unwrap();
        storage.write(4096, &[5; 4096]).unwrap();
        file.as_file().set_len(4096).unwrap();
        let mut data = [0; 512];
        assert!(storage.read(4096, &mut data).is_err());
        assert!(storage.write(4096, &data).is_err());
        assert!(storage.write(4000, &data).is_err());
        assert!(storage.zero(4096, 4096).is_err());
        assert!(storage.read(0, &mut data).is_ok());
        assert!(storage.write(0, &data).is_ok());
        assert_eq!((file.as_file().metadata().unwrap().len(), storage.len()), (4096, 8192));
    }

    #[test]
    fn memory_has_the_bounds_of_the_machine() {
        for len in [0, u64::MAX] {
            assert_eq!(Storage::ram(len).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
