//! Mistakes: one clear line, the right exit status, nothing touched.

#[expect(dead_code, reason = "some of it is for tests that boot guests")]
mod support;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

use support::{assert_status, dmaring, text};
use tempfile::TempDir;

/// Runs `line`, in which `DISK` is an empty file of 1 MiB, and expects one line with all of `parts`.
#[track_caller]
fn refused(line: &str, status: i32, parts: &[&str]) {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = folder.path().join("disk");
    File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    let line = line.replace("DISK", disk.to_str().unwrap()).replace("FOLDER", folder.path().to_str().unwrap());
    let output = dmaring().args(line.split_whitespace()).output().unwrap();
    assert_status(&output, status);
    let stderr = text(&output.stderr);
    assert_eq!(stderr.lines().count(), 1, "{line}: {stderr}");
    assert!(stderr.starts_with("dmaring: "), "{line}: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{line}: {part} is not in: {stderr}");
    }
    assert_eq!(fs::read(&disk).unwrap(), vec![0; 1 << 20], "{line} has written");
    assert_eq!(text(&output.stdout), "", "{line}");
}

#[test]
fn mistakes_on_the_command_line_end_with_2() {
    for (line, parts) in [
        ("bench", &["<DEVICE>"][..]),
        ("bench DISK --bss 4k", &["--bss", "--bs"]),
        ("bench DISK --bs 0", &["zero"]),
        ("bench DISK --bs 4x", &["unit", "4k"]),
        ("bench DISK --bs 99999999999999999999", &["64 bits"]),
        ("bench DISK --size 99999999p", &["64 bits"]),
        ("bench DISK --iodepth 0", &["1..=32768"]),
        ("bench DISK --iodepth 40000", &["1..=32768"]),
        ("bench DISK --rw up", &["up"]),
        ("bench DISK --runtime 0", &["above zero"]),
        ("bench DISK --ios 1 --runtime 1", &["cannot be used with"]),
        ("bench DISK --completion hope", &["hope"]),
        ("bind nvme0", &["nvme0", "0000:00:04.0"]),
        ("bind 0000:00:99.0", &["more than 1f"]),
        ("unbind x", &["PCI address"]),
        ("compare", &["<DEVICE>"]),
        ("compare --swap 00:04.0,00:04.0", &["one controller"]),
        ("vm compare --rounds 0", &["1..=1000"]),
        ("wibble", &["wibble"]),
    ] {
        refused(line, 2, parts);
    }
}

#[test]
fn what_cannot_be_done_ends_with_1() {
    for (line, parts) in [
        ("bench /nonexistent", &["/nonexistent", "No such file"][..]),
        ("bench FOLDER", &["neither a regular file nor a block device"]),
        ("bench /dev/null", &["neither a regular file nor a block device"]),
        ("bench ffff:ff:1f.7", &["pci:ffff:ff:1f.7"]),
        ("bench pci:zz", &["pci:zz", "pci:0000:00:04.0"]),
        ("bench pci:0000:00:04.0/0", &["namespace"]),
        ("bench pci:ffff:ff:1f.7", &["ffff:ff:1f.7"]),
        ("info pci:ffff:ff:1f.7", &["ffff:ff:1f.7"]),
        ("info /nonexistent", &["No such file"]),
        ("bind ffff:ff:1f.7", &["no PCI function"]),
        ("unbind ffff:ff:1f.7", &["no PCI function"]),
        ("bench DISK --bs 1000", &["blocks of 512"]),
        ("bench DISK --bs 2g", &["at most"]),
        ("bench DISK --offset 100", &["--offset 100", "512"]),
        ("bench DISK --size 2m", &["ends at 1048576"]),
        ("bench DISK --offset 1m", &["beyond"]),
        ("bench DISK --rw write --offset 512k --size 1m", &["beyond"]),
        ("bench DISK --numjobs 1024", &["too few"]),
        ("bench DISK --iodepth 32768 --bs 1m", &["bytes of buffers"]),
        ("bench DISK --fua", &["only reads"]),
        ("bench DISK --rwmixread 5", &["goes with"]),
        ("bench DISK --ios 1 --json /nonexistent/x", &["/nonexistent/x"]),
        ("compare DISK /nonexistent", &["No such file"]),
        ("vm compare --controllers 3", &["two"]),
    ] {
        refused(line, 1, parts);
    }
}

#[test]
fn a_file_that_may_only_be_read_is_only_read() {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = folder.path().join("disk");
    File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    fs::set_permissions(&disk, fs::Permissions::from_mode(0o444)).unwrap();
    if File::options().write(true).open(&disk).is_ok() {
        // Root may write anyway; a program that runs may not be written by anybody.
        let own = env!("CARGO_BIN_EXE_dmaring");
        let output = dmaring().args(["bench", own, "--rw", "write", "--force", "--ios", "1"]).output().unwrap();
        assert_status(&output, 1);
        assert!(text(&output.stderr).contains("is read-only"), "{}", text(&output.stderr));
        return;
    }
    let output = dmaring().arg("bench").arg(&disk).args(["--rw", "write"]).output().unwrap();
    assert_status(&output, 1);
    assert!(text(&output.stderr).contains("is read-only"), "{}", text(&output.stderr));
}

#[test]
fn files_are_neither_made_nor_extended() {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let absent = folder.path().join("absent");
    let output = dmaring().arg("bench").arg(&absent).args(["--rw", "write", "--size", "1m"]).output().unwrap();
    assert_status(&output, 1);
    assert!(!absent.exists());
    let odd = folder.path().join("odd");
    File::create(&odd).unwrap().set_len(10_000).unwrap();
    let output = dmaring().arg("bench").arg(&odd).args(["--rw", "write", "--ios", "100"]).output().unwrap();
    assert_status(&output, 0);
    assert_eq!(fs::metadata(&odd).unwrap().len(), 10_000);
}
