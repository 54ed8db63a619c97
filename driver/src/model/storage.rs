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
        Ok(Self { len, file: Some(file) })
    }

    /// A file, of the length it has now.
    ///
    /// # Errors
    /// What opening it answers; `InvalidInput` when it is empty.
    pub fn file(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let len = file.metadata()?.len();
        if len == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty file holds no namespace"));
        }
        Ok(Self { len, file: Some(file) })
    }

    /// `len` bytes that read as zeroes and forget what is written.
    #[must_use]
    pub fn null(len: u64) -> Self {
        Self { len, file: None }
    }

    /// Length in bytes.
    #[expect(clippy::len_without_is_empty)] // never empty
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
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
        self.file.as_ref().map_or(Ok(()), |file| file.write_all_at(data, offset))
    }

    pub(super) fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let (Ok(at), Ok(length)) = (i64::try_from(offset), i64::try_from(len)) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
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
