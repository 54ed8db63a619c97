//! `dmaring copy` between files, streams, models and loop devices.

#[expect(dead_code, reason = "some of it is for tests that boot guests")]
mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{assert_status, dmaring, text};
use tempfile::TempDir;

/// Of no whole number of anything.
const LEN: usize = 3_000_001;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        // Not in /tmp, which may be a tmpfs.
        Self(TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn with(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Runs `copy LINE` in the folder.
    fn copy(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = dmaring();
        command.arg("copy").args(line.split_whitespace()).current_dir(self.0.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    #[track_caller]
    fn good(&self, line: &str) -> Output {
        let output = self.copy(line);
        assert_status(&output, 0);
        output
    }

    /// One line with all of `parts`.
    #[track_caller]
    fn bad(&self, line: &str, parts: &[&str]) -> String {
        let output = self.copy(line);
        assert_status(&output, 1);
        let stderr = text(&output.stderr);
        assert_eq!(stderr.lines().count(), 1, "{line}: {stderr}");
        for part in parts.iter().chain(&["dmaring: "]) {
            assert!(stderr.contains(part), "{line}: {part} is not in: {stderr}");
        }
        stderr
    }
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Feeds all of `bytes`; a reader that goes away has had enough.
fn feed(child: &mut Child, bytes: Vec<u8>) -> thread::JoinHandle<()> {
    let mut stdin = child.stdin.take().unwrap();
    thread::spawn(move || drop(stdin.write_all(&bytes)))
}

fn fed(folder: &Folder, line: &str, bytes: &[u8]) -> Output {
    let mut child = folder.command(line).stdin(Stdio::piped()).spawn().unwrap();
    let feeder = feed(&mut child, bytes.to_vec());
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

#[test]
fn a_file_is_copied_at_any_offset_and_any_block_size() {
    let folder = Folder::new();
    let data = noise(LEN);
    folder.with("a", &data);
    for (skip, seek, bs, depth) in
        [(0, 0, 131_072, 16), (0, 0, 1, 2), (100, 777, 4096, 3), (4096, 512, 1_000_000, 1), (1, 0, 70_000, 64)]
    {
        folder.with("b", &[0xee; 5000]);
        let size = if bs == 1 { 50_000 } else { LEN - skip };
        let words = format!("--skip {skip} --seek {seek} --bs {bs} --iodepth {depth} --size {size} --verify");
        let output = folder.good(&format!("a b {words}"));
        assert!(text(&output.stderr).contains(&format!("{size} bytes")), "{}", text(&output.stderr));
        let found = fs::read(folder.path("b")).unwrap();
        assert_eq!(found.len(), seek + size, "{words}");
        assert!(found[..seek].iter().all(|byte| *byte == 0xee), "{words}: what was before --seek");
        assert!(found[seek..] == data[skip..skip + size], "{words}");
    }
    assert!(text(&folder.good("a new --seek 10").stdout).is_empty());
    assert_eq!(fs::read(folder.path("new")).unwrap()[..10], [0; 10]);
}

#[test]
fn a_file_is_cut_unless_it_shall_not_be() {
    let folder = Folder::new();
    folder.with("a", &[1; 100]);
    for (line, expected) in [("a b", 100), ("a b --seek 50", 150), ("a b --seek 50 --size 10", 60), ("a b --size 0", 0)]
    {
        folder.with("b", &[2; 10_000]);
        folder.good(line);
        assert_eq!(fs::metadata(folder.path("b")).unwrap().len(), expected, "{line}");
    }
    for len in [10_000, 8192, 8704] {
        folder.with("b", &vec![2; len]);
        folder.good("a b --seek 5000 --notrunc --verify");
        let found = fs::read(folder.path("b")).unwrap();
        let expected = [vec![2; 5000], vec![1; 100], vec![2; len - 5100]].concat();
        assert!(found == expected, "{len}");
        folder.good(&format!("a b --seek {} --notrunc --verify", len - 50));
        assert_eq!(fs::metadata(folder.path("b")).unwrap().len(), len as u64 + 50);
    }
}

#[test]
fn streams_are_copied_in_their_order() {
    let folder = Folder::new();
    let data = noise(LEN);
    folder.with("a", &data);
    for words in ["", "--bs 1000 --iodepth 1", "--bs 4k --iodepth 7"] {
        let output = folder.good(&format!("a - {words}"));
        assert!(output.stdout == data, "{words}");
        assert_status(&fed(&folder, &format!("- b --verify {words}"), &data), 0);
        assert!(fs::read(folder.path("b")).unwrap() == data, "{words}");
        let output = fed(&folder, &format!("- - --skip 1000 --size 100000 {words}"), &data);
        assert_status(&output, 0);
        assert!(output.stdout == data[1000..101_000], "{words}");
    }
    folder.good("a /dev/null");
    folder.good("/dev/zero b --size 10000");
    assert_eq!(fs::read(folder.path("b")).unwrap(), vec![0; 10_000]);
    folder.good("/proc/self/cmdline b");
    assert!(fs::read(folder.path("b")).unwrap().starts_with(env!("CARGO_BIN_EXE_dmaring").as_bytes()));
}

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
fn models_take_what_fits_and_verify_it() {
    let folder = Folder::new();
    let data = noise(LEN);
    folder.with("a", &data);
    for completion in ["poll", "interrupt", "adaptive"] {
        let more = format!("--verify --completion {completion}");
        folder.good(&format!("a model:4m {more}"));
        folder.good(&format!("a model:4m --seek 777 --skip 5 --bs 10000 {more}"));
        folder.good(&format!("model:4m model:8m --seek 4095 {more}"));
        folder.good(&format!("model:1m b --skip 1000 {more}"));
        assert_eq!(fs::read(folder.path("b")).unwrap(), vec![0; (1 << 20) - 1000]);
        assert_status(&fed(&folder, &format!("- model:4m --seek 100 {more}"), &data), 0);
        assert_status(&fed(&folder, &format!("- model:512k {more}"), &data[..512 << 10]), 0);
        assert_eq!(folder.good(&format!("model:1m - --completion {completion}")).stdout, vec![0; 1 << 20]);
    }
    folder.bad("a model:null:4m --verify", &["verification failed", "the first at offset 0: byte 0x00 where"]);
    let output = fed(&folder, "- model:null:4m --verify", &[1; 10_000]);
    assert_status(&output, 1);
    assert!(text(&output.stderr).contains("10000 of 10000 bytes of model:null:4m differ"), "{}", text(&output.stderr));
    folder.bad("a model:2m", &["3000001 bytes do not fit", "ends at 2097152"]);
    let output = fed(&folder, "- model:1m", &data);
    assert_status(&output, 1);
    assert!(text(&output.stderr).contains("is full: it took 1048576 bytes"), "{}", text(&output.stderr));
}

fn sparse_file(path: &Path) -> Vec<u8> {
    let file = File::create(path).unwrap();
    file.set_len(16 << 20).unwrap();
    for (offset, len) in [(0, 4096), (5 << 20, 100_000), ((9 << 20) + 100, 1)] {
        file.write_all_at(&noise(len), offset).unwrap();
    }
    fs::read(path).unwrap()
}

fn kept(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn holes_stay_holes_and_zeros_become_some() {
    let folder = Folder::new();
    let data = sparse_file(&folder.path("a"));
    folder.with("b", &[1; 100_000]);
    let output = folder.good("a b --verify");
    assert!(text(&output.stderr).contains("left out as holes"), "{}", text(&output.stderr));
    assert!(fs::read(folder.path("b")).unwrap() == data);
    assert!(kept(&folder.path("b")) <= 256 << 10, "{}", kept(&folder.path("b")));
    // Zeros that are stored.
    folder.with("full", &data);
    folder.good("full b");
    assert!(kept(&folder.path("b")) >= 16 << 20);
    for line in ["full b --sparse --verify --bs 4k", "full b --sparse --skip 4096 --seek 100 --bs 4k --verify"] {
        folder.good(line);
        assert!(kept(&folder.path("b")) <= 256 << 10, "{line}: {}", kept(&folder.path("b")));
    }
    assert!(fs::read(folder.path("b")).unwrap()[100..] == data[4096..]);
    assert_status(&fed(&folder, "- b --sparse --verify --bs 4k", &data), 0);
    assert!(fs::read(folder.path("b")).unwrap() == data && kept(&folder.path("b")) <= 256 << 10);
    // Offsets at which no block of one side is a block of the other.
    folder.good("a b --skip 1000 --seek 33 --verify");
    assert!(fs::read(folder.path("b")).unwrap()[33..] == data[1000..]);
    assert!(kept(&folder.path("b")) <= 256 << 10);
    assert!(folder.good("a -").stdout == data);
    // What was there before must not shine through.
    folder.with("b", &[1; 1 << 20]);
    folder.good("a b --size 1m --notrunc --verify");
    assert!(fs::read(folder.path("b")).unwrap() == data[..1 << 20]);
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
fn progress_is_told_where_it_is_wanted() {
    let folder = Folder::new();
    folder.with("a", &noise(LEN));
    let lines = text(&folder.good("a b --progress --verify").stderr);
    assert!(lines.contains("copied: 3000001 of 3000001 bytes") && lines.contains("verified: 3000001 of"), "{lines}");
    assert_eq!(text(&folder.good("a b").stderr).lines().count(), 1);
}

/// A loop device on a file; nothing without the right to make one.
struct Loop(String);

impl Loop {
    fn new(path: &Path) -> Option<Self> {
        let output = Command::new("losetup").args(["-f", "--show"]).arg(path).output();
        match output {
            Ok(output) if output.status.success() => Some(Self(text(&output.stdout).trim().to_owned())),
            other => {
                eprintln!("skipped: no loop device on this machine: {other:?}");
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

#[test]
fn block_devices_keep_what_the_copy_does_not_cover() {
    let folder = Folder::new();
    let data = sparse_file(&folder.path("a"));
    let image = folder.with("image", &vec![0xff; 20 << 20]);
    let Some(device) = Loop::new(&image) else { return };
    let disk = &device.0;
    folder.good(&format!("a {disk} --seek 1000 --size 10000001 --verify"));
    folder.good(&format!("{disk} back --verify"));
    let found = fs::read(folder.path("back")).unwrap();
    assert!(found[1000..10_001_001] == data[..10_000_001], "holes read back as zeros");
    assert!(found[..1000].iter().chain(&found[10_001_001..]).all(|byte| *byte == 0xff));
    assert_status(&fed(&folder, &format!("- {disk} --verify --seek 20971519"), b"x"), 0);
    assert!(folder.good(&format!("{disk} - --skip 20971518")).stdout == [0xff, b'x']);
    let output = fed(&folder, &format!("- {disk} --seek 20971500"), &[1; 100]);
    assert_status(&output, 1);
    assert!(text(&output.stderr).contains("is full: it took 20 bytes"), "{}", text(&output.stderr));
    folder.good(&format!("{disk} {disk} --size 1m --seek 10m --verify"));
    for (line, parts) in [
        (format!("{disk} {disk}"), &["the same bytes"][..]),
        (format!("{disk} {disk} --size 2m --seek 1m"), &["the same bytes"]),
        (format!("image {disk}"), &["the same bytes"]),
        (format!("{disk} image"), &["the same bytes"]),
        (format!("a {disk} --sparse"), &["--sparse"]),
        (format!("a {disk} --seek 10m"), &["do not fit"]),
    ] {
        folder.bad(&line, parts);
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
