//! What an executable needs beside itself: its interpreter and shared libraries, by the word of the
//! interpreter itself (`ld.so --list`, which is what `ldd` asks), so that every search rule is heeded.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::VmError;
use crate::install::{find_in_path, tool};

const PT_INTERP: u32 = 3;
/// A path longer than this is not one.
const PATH_MAX: u64 = 4096;

/// Files on the host, by absolute path, without which `program` does not run in the guest.
pub(crate) fn needs(program: &Path) -> Result<Vec<PathBuf>, VmError> {
    let refused = |reason| VmError::Add { path: program.to_owned(), reason };
    let mut file = File::open(program).map_err(|error| refused(error.to_string()))?;
    let mut magic = [0; 4];
    match read_full(&mut file, &mut magic).map_err(|error| refused(error.to_string()))? {
        4 if magic == *b"\x7fELF" => {}
        2.. if magic.starts_with(b"#!") => return script(&mut file).map_err(refused),
        _ => return Ok(Vec::new()),
    }
    match interpreter(&mut file).map_err(|error| refused(error.to_string()))? {
        Some(interpreter) => libraries(program, &interpreter).map_err(refused),
        None => Ok(Vec::new()),
    }
}

/// Interpreter of a `#!` script (that of `env` too), with what it needs itself.
fn script(file: &mut File) -> Result<Vec<PathBuf>, String> {
    let mut line = vec![0; 256];
    file.seek(SeekFrom::Start(2)).map_err(|error| error.to_string())?;
    let len = read_full(file, &mut line).map_err(|error| error.to_string())?;
    let line = String::from_utf8_lossy(&line[..len]).into_owned();
    let mut words = line.lines().next().unwrap_or_default().split_whitespace();
    let mut found = Vec::new();
    if let Some(program) = words.next() {
        found.push(PathBuf::from(program));
        let by_name = words.next().filter(|_| program.ends_with("/env"));
        found.extend(by_name.and_then(find_in_path));
    }
    for program in found.clone() {
        found.extend(needs(&program).map_err(|error| error.to_string())?);
    }
    Ok(found)
}

/// The PT_INTERP of an x86-64 ELF file: `None` for a static one.
fn interpreter(file: &mut (impl Read + Seek)) -> io::Result<Option<PathBuf>> {
    let mut header = [0; 64];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut header)?;
    let u16_at = |bytes: &[u8], at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    if header[4..6] != [2, 1] || u16_at(&header, 18) != 62 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not an x86-64 executable"));
    }
    let (table, size, count) = (u64_at(&header, 32), u16_at(&header, 54), u16_at(&header, 56));
    for index in 0..u64::from(count) {
        let mut entry = [0; 56];
        file.seek(SeekFrom::Start(table.saturating_add(index * u64::from(size))))?;
        file.read_exact(&mut entry)?;
        let kind = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
        if kind != PT_INTERP {
            continue;
        }
        let mut path = Vec::new();
        file.seek(SeekFrom::Start(u64_at(&entry, 8)))?;
        file.take(u64_at(&entry, 32).min(PATH_MAX)).read_to_end(&mut path)?;
        path.truncate(path.iter().position(|byte| *byte == 0).unwrap_or(path.len()));
        return Ok(Some(PathBuf::from(std::ffi::OsStr::from_bytes(&path))));
    }
    Ok(None)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn libraries(program: &Path, interpreter: &Path) -> Result<Vec<PathBuf>, String> {
    let mut list = Command::new(interpreter);
    list.arg("--list").arg(program).env_remove("LD_PRELOAD");
    let mut found = parse_list(&String::from_utf8_lossy(&tool(&mut list)?.stdout))?;
    found.push(interpreter.to_owned());
    Ok(found)
}

/// Reads lines such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`.
fn parse_list(text: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        let target = match line.split_once(" => ") {
            Some((name, "not found")) => {
                return Err(format!("it needs {name}, which is not on this machine"));
            }
            Some((_, target)) => target,
            None => line,
        };
        // The vDSO has no path, "statically linked" no slash.
        if target.starts_with('/') {
            let path = target.rsplit_once(" (").map_or(target, |(path, _)| path);
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

fn read_full(file: &mut File, buf: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buf.len() {
        match file.read(&mut buf[len..])? {
            0 => break,
            more => len += more,
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_of_the_loader_is_understood() {
        let text = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(parse_list(text).unwrap(), expected.map(PathBuf::from));
        assert!(parse_list("\tlibx.so => not found\n").unwrap_err().contains("libx.so"));
        assert!(parse_list("\tstatically linked\n").unwrap().is_empty());
    }

    #[test]
    fn own_executable_needs_its_interpreter_and_libc() {
        let needs = needs(&std::env::current_exe().unwrap()).unwrap();
        assert!(needs.iter().all(|path| path.is_absolute() && path.exists()), "{needs:?}");
        if !needs.is_empty() {
            let named = |part: &str| needs.iter().any(|path| path.to_string_lossy().contains(part));
            assert!(named("libc.") && named("ld-"), "{needs:?}");
        }
    }

    #[test]
    fn script_brings_its_interpreter() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        io::Write::write_all(&mut file, b"#! /bin/sh -e\necho\n").unwrap();
        assert!(needs(file.path()).unwrap().contains(&PathBuf::from("/bin/sh")));
    }

    #[test]
    fn foreign_and_cut_files_are_refused_without_panic() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        io::Write::write_all(&mut file, b"\x7fELF\x02\x01").unwrap();
        assert!(matches!(needs(file.path()), Err(VmError::Add { .. })));
        let mut header = [0; 64];
        header[..6].copy_from_slice(b"\x7fELF\x01\x01");
        assert!(interpreter(&mut io::Cursor::new(header)).is_err());
        header[4] = 2;
        header[18] = 62;
        header[32..40].fill(0xff);
        header[56] = 1;
        assert!(interpreter(&mut io::Cursor::new(header)).is_err());
    }
}
