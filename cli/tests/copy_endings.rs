//! `dmaring copy` where something is in the way, before it begins and under way.

#[expect(dead_code, reason = "some of it is for tests that boot guests")]
mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::copying::{Folder, LEN, Loop, fed, noise};
use support::{assert_status, text};

#[test]
fn streams_that_end_early_are_errors_with_the_count() {
    let folder = Folder::new();
    for (line, parts) in [
        (
            "- b --size 5000",
            &["ended after 3000 bytes", "--size asked for 5000", "--skip 3000 --seek 3000 --size 2000"][..],
        ),
        ("- - --size 5000", &["ended after 3000 bytes", "--skip 3000"]),
        ("- c --skip 4000", &["ended after 3000 bytes, before --skip 4000"]),
    ] {
        let output = fed(&folder, line, &[7; 3000]);
        assert_status(&output, 1);
        let stderr = text(&output.stderr);
        assert!(parts.iter().all(|part| stderr.contains(part)), "{line}: {stderr}");
    }
    assert_eq!(fs::read(folder.path("b")).unwrap(), [7; 3000]);
    assert!(!folder.path("c").exists(), "nothing was copied");
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_touched() {
    let folder = Folder::new();
    folder.with("a", &[1; 10_000]);
    folder.with("b", &[2; 10_000]);
    folder.with("empty", &[]);
    fs::hard_link(folder.path("a"), folder.path("hard")).unwrap();
    std::os::unix::fs::symlink("a", folder.path("soft")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path("dangling")).unwrap();
    fs::create_dir(folder.path("folder")).unwrap();
    for (line, parts) in [
        ("a a", &["the same bytes"][..]),
        ("a ./a", &["the same bytes"]),
        ("a hard", &["the same bytes"]),
        ("soft a", &["the same bytes"]),
        ("a a --skip 5000 --seek 100", &["the same bytes"]),
        ("a a --skip 5000 --seek 100 --size 100", &["would be cut at 100", "--notrunc"]),
        ("absent b", &["absent", "No such file"]),
        ("a absent/b", &["absent/b", "No such file"]),
        ("a folder", &["folder is a folder"]),
        ("folder b", &["folder is a folder"]),
        ("a dangling", &["link to nothing"]),
        ("a /dev/nvme99n1", &["there is no device /dev/nvme99n1"]),
        ("a 0000:00:04.0", &["pci:0000:00:04.0"]),
        ("a pci:zz", &["pci:zz"]),
        ("a pci:ffff:ff:1f.7", &["ffff:ff:1f.7"]),
        ("pci:ffff:ff:1f.7 b", &["ffff:ff:1f.7"]),
        ("a b --skip 10001", &["--skip 10001", "ends at 10000"]),
        ("a b --size 10001", &["--size 10001", "ends at 10000"]),
        ("a b --skip 9000 --size 2000", &["1000 bytes after --skip 9000"]),
        ("a b --seek 9223372036854775807", &["do not fit"]),
        ("a b --seek 9223372036854775808", &["--seek"]),
        ("a b --bs 2g", &["--bs 2147483648", "bytes of buffers"]),
        ("a b --bs 16383p", &["--bs"]),
        ("/dev/zero b --bs 1g --iodepth 2 --size 1", &["bytes of buffers"]),
        ("a model:4m --seek 5m", &["--seek 5242880", "ends at 4194304"]),
        ("a model:4m --sparse", &["--sparse goes with a file"]),
        ("a - --notrunc", &["--notrunc goes with a file"]),
        ("a - --seek 1", &["--seek 1", "stream"]),
        ("a - --verify", &["--verify", "stream"]),
        ("a model:4m/2", &["namespace 2"]),
    ] {
        folder.bad(line, parts);
        assert!(fs::read(folder.path("a")).unwrap() == [1; 10_000], "{line} has written");
        assert!(fs::read(folder.path("b")).unwrap() == [2; 10_000], "{line} has written");
    }
    for line in
        ["", "a", "a b --bs 0", "a b --iodepth 0", "a b --iodepth 5000", "a b --sparse --notrunc", "a b --size x"]
    {
        assert_status(&folder.copy(line), 2);
    }
    // A file that was made for a copy which cannot begin goes again.
    folder.bad("a new --bs 1g", &["bytes of buffers"]);
    assert!(!folder.path("new").exists());
    folder.good("a a --size 100 --seek 9000 --notrunc");
    folder.good("a a --size 100 --skip 50 --seek 5000");
    assert_eq!(fs::metadata(folder.path("a")).unwrap().len(), 5100);
    folder.good("empty b");
    assert_eq!(fs::metadata(folder.path("b")).unwrap().len(), 0);
}

#[test]
fn a_stream_out_of_the_file_it_goes_to_is_refused() {
    let folder = Folder::new();
    let path = folder.with("a", &[1; 10_000]);
    let append = OpenOptions::new().append(true).open(&path).unwrap();
    let output = folder.command("a -").stdout(append).output().unwrap();
    assert_status(&output, 1);
    assert!(text(&output.stderr).contains("the same bytes"), "{}", text(&output.stderr));
    let output = folder.command("- a").stdin(File::open(&path).unwrap()).output().unwrap();
    assert_status(&output, 1);
    assert_eq!(fs::read(&path).unwrap(), [1; 10_000]);
    let output = folder.command("- b").stdin(File::open(&path).unwrap()).output().unwrap();
    assert_status(&output, 0);
    assert_eq!(fs::read(folder.path("b")).unwrap(), [1; 10_000]);
}

/// A full file system of 4 MiB, in a mount namespace of its own.
#[test]
fn a_full_disk_says_how_much_is_there_and_how_to_go_on() {
    let folder = Folder::new();
    let data = noise(6 << 20);
    folder.with("a", &data);
    let own = env!("CARGO_BIN_EXE_dmaring");
    let script = format!(
        "mkdir disk && mount -t tmpfs -o size=4m none disk || exit 99
        {own} copy a disk/b --bs 64k; echo status $?
        stat -c 'size %s' disk/b; cp disk/b kept"
    );
    let output =
        Command::new("unshare").args(["-rm", "sh", "-c", &script]).current_dir(folder.0.path()).output().unwrap();
    if output.status.code() == Some(99) || text(&output.stderr).contains("unshare failed") {
        eprintln!("skipped: no mount namespace on this machine: {}", text(&output.stderr));
        return;
    }
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(stdout.contains("status 1"), "{stdout}{stderr}");
    assert!(stderr.contains("No space left on device") && stderr.contains("of disk/b"), "{stderr}");
    let kept = fs::read(folder.path("kept")).unwrap();
    assert!(!kept.is_empty() && data.starts_with(&kept), "{} bytes", kept.len());
    let sure = kept.len();
    assert!(stderr.contains(&format!("--skip {sure} --seek {sure}")), "{stderr}: {sure} are there");
    folder.good(&format!("a kept --skip {sure} --seek {sure} --verify"));
    assert!(fs::read(folder.path("kept")).unwrap() == data);
    folder.bad("a /dev/full", &["No space left on device", "writing to /dev/full"]);
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let folder = Folder::new();
    folder.with("a", &noise(LEN));
    for line in ["a -", "model:64m -", "/dev/zero -"] {
        let mut child = folder.command(line).spawn().unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0; 100]).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_status(&output, 128 + 13);
        assert_eq!(text(&output.stderr), "", "{line}");
    }
}

#[test]
fn a_source_that_shrinks_is_an_error_with_the_count() {
    let folder = Folder::new();
    let path = folder.with("a", &noise(8 << 20));
    let mut child = folder.command("a - --bs 64k --iodepth 2").spawn().unwrap();
    // It waits for its reader now, at most a pipe and two blocks further.
    let mut first = [0; 1];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    File::options().write(true).open(&path).unwrap().set_len((2 << 20) + 100).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_status(&output, 1);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("a ended after 2097252 of 8388608 bytes"), "{stderr}");
    assert!(stderr.contains("--skip 2097152"), "{stderr}");
    assert_eq!(output.stdout.len() + 1, 2 << 20);
    // A hole is not read, and yet it must not be told as more than the file has.
    File::create(&path).unwrap().set_len(8 << 20).unwrap();
    let mut child = folder.command("a - --bs 64k --iodepth 2").spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_status(&output, 1);
    assert!(text(&output.stderr).contains("cut while it was read"), "{}", text(&output.stderr));
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn interrupted(folder: &Folder, line: &str) -> (Child, ChildStdin) {
    let mut child = folder.command(line).stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    (child, stdin)
}

#[test]
fn an_interrupt_ends_it_in_order_and_it_can_be_resumed() {
    let folder = Folder::new();
    let data = noise(1 << 20);
    // Waiting for input.
    let (child, mut stdin) = interrupted(&folder, "- b --bs 64k");
    stdin.write_all(&data[..(128 << 10) + 100]).unwrap();
    let there = || fs::metadata(folder.path("b")).is_ok_and(|data| data.len() >= 128 << 10);
    until("two blocks are written", there);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert_status(&output, 130);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("SIGINT") && stderr.contains("--skip 131072 --seek 131072"), "{stderr}");
    assert!(fs::read(folder.path("b")).unwrap() == data[..128 << 10]);
    assert_status(&fed(&folder, "- b --bs 64k --skip 131072 --seek 131072", &data), 0);
    assert!(fs::read(folder.path("b")).unwrap() == data);
    // Waiting for the reader.
    for line in ["b -", "model:1m -", "/dev/zero -"] {
        let mut child = folder.command(line).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 1]).unwrap();
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_status(&output, 143);
        let mut rest = Vec::new();
        stdout.read_to_end(&mut rest).unwrap();
        let sure = format!("--skip {}", rest.len() + 1);
        assert!(text(&output.stderr).contains(&sure), "{line}: {sure}: {}", text(&output.stderr));
    }
}

#[test]
fn a_block_device_in_use_or_with_something_on_it_is_refused() {
    let folder = Folder::new();
    folder.with("a", &[1; 10_000]);
    let image = folder.with("image", &vec![0; 4 << 20]);
    File::options().write(true).open(&image).unwrap().write_all_at(b"LUKS\xba\xbe", 0).unwrap();
    let Some(device) = Loop::new(&image) else { return };
    let disk = &device.0;
    folder.bad(&format!("a {disk}"), &["LUKS volume", "--force"]);
    // As a mount has it.
    let held = OpenOptions::new().read(true).custom_flags(libc_excl()).open(disk).unwrap();
    folder.bad(&format!("a {disk} --force"), &["in use, so nothing is written"]);
    drop(held);
    assert!(fs::read(&image).unwrap().starts_with(b"LUKS"));
    folder.good(&format!("a {disk} --force --verify"));
    assert!(fs::read(&image).unwrap().starts_with(&[1; 10_000]));
}

/// O_EXCL.
fn libc_excl() -> i32 {
    nix::fcntl::OFlag::O_EXCL.bits()
}
