//! `dmaring vm` end to end: boots real guests, so it needs QEMU and a kernel (fetched where missing).

mod support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use support::{LIMIT, assert_status, dmaring, run, text};

#[test]
fn output_is_separate_and_the_status_passed_through() {
    let output = run(&["--env", "WORD=b c"], &["sh", "-c", "echo \"out $WORD\"; echo err >&2; exit 3"]);
    assert_status(&output, 3);
    assert_eq!(text(&output.stdout), "out b c\n");
    assert_eq!(text(&output.stderr), "err\n");
}

#[test]
fn success_prints_nothing_of_its_own() {
    let output = run(&["--controllers", "0"], &["sh", "-c", "exit 0"]);
    assert_status(&output, 0);
    assert_eq!((text(&output.stdout), text(&output.stderr)), (String::new(), String::new()));
}

#[test]
fn death_by_signal_is_128_and_the_signal() {
    assert_status(&run(&[], &["sh", "-c", "kill -9 $$"]), 128 + 9);
}

#[test]
fn dmaring_is_in_the_guest() {
    let output = run(&[], &["dmaring", "--version"]);
    assert_status(&output, 0);
    assert!(text(&output.stdout).starts_with("dmaring "));
}

#[test]
fn controllers_have_addresses_groups_and_block_sizes() {
    let script = "set -e
        ls /dev/vfio/vfio /sys/class/nvme
        for n in 0 1; do
            cd /sys/bus/pci/devices/0000:00:0$((4 + n)).0
            echo address $n $(cat nvme/nvme$n/address) $(cat nvme/nvme$n/serial)
            echo group $n $(ls iommu_group/devices | grep -c :)
            echo disk $n $(cat /sys/block/nvme${n}n2/queue/logical_block_size /sys/block/nvme${n}n2/size)
        done";
    let options = ["--controllers", "2", "--namespaces", "2", "--block-size", "4096", "--size", "8m"];
    let programs = ["--add", "/bin/ls", "--add", "/bin/cat", "--add", "/bin/grep"];
    let output = run(&[&options[..], &programs].concat(), &["sh", "-c", script]);
    assert_status(&output, 0);
    let stdout = text(&output.stdout);
    for line in [
        "/dev/vfio/vfio",
        "nvme0",
        "nvme1",
        "address 0 0000:00:04.0 dmaring0",
        "address 1 0000:00:05.0 dmaring1",
        "group 0 1",
        "group 1 1",
        "disk 0 4096 16384",
        "disk 1 4096 16384",
    ] {
        assert!(stdout.lines().any(|other| other == line), "no `{line}` in:\n{stdout}");
    }
}

#[test]
fn without_iommu_there_are_no_groups() {
    let output = run(&["--no-iommu"], &["sh", "-c", "set -- /sys/kernel/iommu_groups/*; echo $#$1"]);
    assert_status(&output, 0);
    assert_eq!(text(&output.stdout), "1/sys/kernel/iommu_groups/*\n");
}

#[test]
fn files_go_in_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (here, back) = (folder.path().join("in"), folder.path().join("back"));
    // Neither of one frame nor of whole ones.
    let bytes: Vec<u8> = (0..3_000_001u32).map(|n| (n.wrapping_mul(7919) >> 8) as u8).collect();
    fs::write(&here, &bytes).unwrap();
    let add = format!("{}:/data/in", here.display());
    let get = format!("/tmp/out:{}", back.display());
    let output = run(
        &["--add", &add, "--add", "/bin/cat", "--get", &get],
        &["sh", "-c", "cat /data/in >/tmp/out; cat /data/in"],
    );
    assert_status(&output, 0);
    assert!(fs::read(&back).unwrap() == bytes, "the file differs");
    assert!(output.stdout == bytes, "the output differs");
}

#[test]
fn missing_file_to_bring_back_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let get = format!("/nonexistent:{}", folder.path().join("x").display());
    let output = run(&["--get", &get], &["sh", "-c", "exit 0"]);
    assert_status(&output, 1);
    assert!(text(&output.stderr).contains("/nonexistent"), "{}", text(&output.stderr));
}

#[test]
fn file_storage_keeps_what_the_guest_writes() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk, \"odd\"");
    let options = ["--storage", disk.to_str().unwrap(), "--size", "1m"];
    assert_status(&run(&options, &["sh", "-c", "echo hello >/dev/nvme0n1"]), 0);
    let kept = fs::read(&disk).unwrap();
    assert_eq!(kept.len(), 1 << 20);
    assert!(kept.starts_with(b"hello\n"));
}

#[test]
fn standard_input_reaches_the_command() {
    let mut run = dmaring();
    run.args(["vm", "run", "--timeout", LIMIT, "--", "cat"]);
    let mut child = run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let bytes = vec![b'x'; 300_000];
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_status(&output, 0);
    assert!(output.stdout == bytes);
}

#[test]
fn what_the_command_leaves_running_is_ended() {
    let output = run(&["--add", "/bin/sleep"], &["sh", "-c", "sleep 1000 & echo done"]);
    assert_status(&output, 0);
    assert_eq!(text(&output.stdout), "done\n");
}

#[test]
fn unknown_command_is_named() {
    let output = run(&[], &["no-such-command"]);
    assert_status(&output, 1);
    assert!(text(&output.stderr).contains("cannot run no-such-command"), "{}", text(&output.stderr));
}

#[test]
fn two_first_runs_at_once_fill_one_cache() {
    if !Path::new("/usr/bin/apt-get").exists() {
        eprintln!("skipped: no apt-get on this machine");
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let start = || {
        let mut run = dmaring();
        run.args(["vm", "run", "--timeout", LIMIT, "--", "dmaring", "--version"]);
        run.env("XDG_CACHE_HOME", cache.path());
        run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut fetched = 0;
    for child in [start(), start()] {
        let output = child.wait_with_output().unwrap();
        assert_status(&output, 0);
        fetched += usize::from(text(&output.stderr).contains("fetching"));
    }
    assert_eq!(fetched, 1);
    let entries = fs::read_dir(cache.path().join("dmaring/kernel")).unwrap().flatten();
    let names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    assert_eq!(names.len(), 2, "a kernel and the lock: {names:?}");
    // From now on no apt is needed.
    let qemu = Command::new("sh").args(["-c", "command -v qemu-system-x86_64"]).output().unwrap();
    let mut run = dmaring();
    run.args(["vm", "run", "--timeout", LIMIT, "--", "dmaring", "--version"]);
    run.env("XDG_CACHE_HOME", cache.path());
    run.env("DMARING_QEMU", text(&qemu.stdout).trim()).env("PATH", "/nonexistent");
    let output = run.output().unwrap();
    assert_status(&output, 0);
    assert_eq!(text(&output.stderr), "");
}
