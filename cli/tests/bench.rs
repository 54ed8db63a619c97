//! `dmaring bench` and `compare` on files, through the kernel's io_uring.

#[expect(dead_code, reason = "some of it is for tests that boot guests")]
mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::{assert_status, dmaring, text};
use tempfile::TempDir;

const SIZE: u64 = 4 << 20;

struct Disk {
    folder: TempDir,
    path: String,
}

/// A file with all its blocks, as reads of holes never reach a device.
fn disk() -> Disk {
    // Not in /tmp, which may be a tmpfs.
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("disk").to_str().unwrap().to_owned();
    fs::write(&path, vec![0; SIZE as usize]).unwrap();
    Disk { folder, path }
}

fn bench(disk: &Disk, words: &str) -> Output {
    dmaring().args(["bench", &disk.path]).args(words.split_whitespace()).output().unwrap()
}

fn json(output: &Output) -> Value {
    assert_status(output, 0);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stderr_of(output: &Output, status: i32) -> String {
    assert_status(output, status);
    let stderr = text(&output.stderr);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("dmaring: "), "{stderr}");
    stderr
}

#[test]
fn json_has_the_figures_of_the_run() {
    let report = json(&bench(&disk(), "--rw randread --bs 8k --iodepth 4 --ios 500 --json -"));
    for field in ["host", "kernel", "command"] {
        assert!(report[field].is_string(), "{field}: {report}");
    }
    assert!(report.get("qemu").is_some());
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 1);
    let run = &runs[0];
    let exact = [
        ("backend", Value::from("kernel")),
        ("completion", "interrupt".into()),
        ("rw", "randread".into()),
        ("bs", 8192.into()),
        ("iodepth", 4.into()),
        ("ios", 500.into()),
        ("errors", 0.into()),
        ("bytes_bounced_per_io", 0.0.into()),
    ];
    for (field, value) in exact {
        assert_eq!(run[field], value, "{field}");
    }
    for field in ["mean", "p50", "p99", "p999"] {
        assert!(run["lat_ns"][field].as_f64().unwrap() > 0.0, "{field}");
    }
    assert!(run["iops"].as_f64().unwrap() > 0.0);
    let system_calls = run["syscalls_per_io"].as_f64().unwrap();
    assert!((0.25..=1.1).contains(&system_calls), "{system_calls}");
}

#[test]
fn every_kind_of_job_runs_and_verifies() {
    for rw in ["write", "randwrite", "rw", "randrw"] {
        for more in ["", "--numjobs 3", "--plain", "--fua", "--ios 3000 --bs 16k"] {
            let report = json(&bench(&disk(), &format!("--rw {rw} --verify --json - {more}")));
            let run = &report["runs"][0];
            assert!(run["verified"]["blocks"].as_u64().unwrap() > 0, "{rw} {more}: {run}");
            assert_eq!((&run["verified"]["wrong"], &run["errors"]), (&0.into(), &0.into()));
        }
    }
    assert_eq!(json(&bench(&disk(), "--ios 100 --no-latency --json -"))["runs"][0]["lat_ns"], Value::Null);
}

#[test]
fn a_table_is_printed_and_json_goes_to_its_file() {
    let disk = disk();
    let file = disk.folder.path().join("figures");
    let output = bench(&disk, &format!("--ios 100 --json {}", file.display()));
    assert_status(&output, 0);
    let table = text(&output.stdout);
    assert!(table.contains("syscalls") && table.contains("kernel"), "{table}");
    assert_eq!(text(&output.stderr), "");
    let report: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert_eq!(report["runs"][0]["ios"], 100);
}

#[test]
fn changed_data_is_found_where_it_is() {
    let disk = disk();
    assert_status(&bench(&disk, "--rw randwrite --verify --seed 5"), 0);
    assert_status(&bench(&disk, "--rw read --verify --seed 5 --bs 64k"), 0);
    let file = File::options().read(true).write(true).open(&disk.path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1_000_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 1_000_000).unwrap();
    file.sync_all().unwrap();
    let stderr = stderr_of(&bench(&disk, "--rw read --verify --seed 5"), 1);
    assert!(stderr.contains("1 of 1024 blocks are wrong; the first at offset 1000000: byte"), "{stderr}");
    let stderr = stderr_of(&bench(&disk, "--rw read --verify --seed 6"), 1);
    assert!(stderr.contains("1024 of 1024 blocks are wrong; the first at offset 0: data of seed 5"), "{stderr}");
    let before = fs::read(&disk.path).unwrap();
    assert_status(&bench(&disk, "--rw randread --ios 1000"), 0);
    assert!(before == fs::read(&disk.path).unwrap(), "reading has changed the file");
}

#[test]
fn nothing_outside_the_region_is_written() {
    let disk = disk();
    let words = "--rw randwrite --verify --offset 1m --size 1m --numjobs 3";
    assert_status(&bench(&disk, words), 0);
    let data = fs::read(&disk.path).unwrap();
    assert_eq!(data.len() as u64, SIZE);
    let (before, rest) = data.split_at(1 << 20);
    let (region, after) = rest.split_at(1 << 20);
    assert!(before.iter().chain(after).all(|byte| *byte == 0));
    assert!(region.iter().any(|byte| *byte != 0));
}

#[test]
fn what_a_device_carries_is_kept() {
    let disk = disk();
    let file = File::options().write(true).open(&disk.path).unwrap();
    file.write_all_at(b"LUKS\xba\xbe", 0).unwrap();
    file.write_all_at(b"LABELONE", 512).unwrap();
    let stderr = stderr_of(&bench(&disk, "--rw randwrite --ios 10"), 1);
    for part in ["LUKS volume (at offset 0)", "LVM physical volume (at offset 512)", "--force", &disk.path] {
        assert!(stderr.contains(part), "{stderr}");
    }
    assert!(fs::read(&disk.path).unwrap().starts_with(b"LUKS"));
    assert_status(&bench(&disk, "--rw randread --ios 10"), 0);
    assert_status(&bench(&disk, "--rw randwrite --ios 10 --force"), 0);
    let compare = |words: &[&str]| dmaring().args(["compare", &disk.path, "--ios", "10"]).args(words).output().unwrap();
    file.write_all_at(b"LUKS\xba\xbe", 0).unwrap();
    stderr_of(&compare(&["--verify"]), 1);
    assert_status(&compare(&[]), 0);
}

#[test]
fn comparing_checks_the_data_and_says_what_was_left_out() {
    let (one, two) = (disk(), disk());
    let words = ["--completion", "interrupt", "--verify", "--ios", "400", "--json", "-"];
    let output = dmaring().args(["compare", &one.path, &two.path]).args(words).output().unwrap();
    let report = json(&output);
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    for run in runs {
        assert_eq!(run["ios"], 400);
        assert_eq!(run["slices"].as_array().unwrap().len(), 4);
        assert_eq!(run["verified"]["wrong"], 0);
        assert!(run["verified"]["blocks"].as_u64().unwrap() >= SIZE / 4096);
    }
}

#[test]
fn every_way_of_completion_that_is_named_has_one_row() {
    let words = "compare model:1m --ios 100 --json - --completion adaptive --completion poll --completion adaptive";
    let report = json(&dmaring().args(words.split_whitespace()).output().unwrap());
    let rows: Vec<&str> =
        report["runs"].as_array().unwrap().iter().map(|run| run["completion"].as_str().unwrap()).collect();
    assert_eq!(rows, ["adaptive", "poll"]);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let disk = disk();
    for words in [vec!["list"], vec!["info", &disk.path], vec!["bench", &disk.path, "--ios", "10"], vec!["--help"]] {
        let mut child = dmaring().args(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success() && stderr.is_empty(), "{words:?}: {status}: {stderr}");
    }
}

#[test]
fn the_first_interrupt_ends_it_in_order() {
    let disk = disk();
    let mut child = endless(&disk);
    signal(&child, Signal::SIGINT);
    let status = wait(&mut child);
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(status, Some(130), "{stderr}");
    assert!(stderr.contains("SIGINT"), "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["interrupted"], true);
    assert!(report["runs"][0]["ios"].as_u64().unwrap() > 0);
}

fn endless(disk: &Disk) -> Child {
    let words = ["--runtime", "600", "--json", "-"];
    let mut command = dmaring();
    command.args(["bench", &disk.path]).args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    // It measures once its ring is there.
    let fds = format!("/proc/{}/fd", child.id());
    let has_ring = || {
        let links = fs::read_dir(&fds).into_iter().flatten().flatten().map(|entry| entry.path());
        links.filter_map(|path| fs::read_link(path).ok()).any(|link| link == Path::new("anon_inode:[io_uring]"))
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !has_ring() {
        assert!(Instant::now() < deadline, "no ring was opened");
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(300));
    child
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

fn wait(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("it does not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn progress_stays_out_of_pipes() {
    let output = bench(&disk(), "--runtime 0.3");
    assert_status(&output, 0);
    assert_eq!(text(&output.stderr), "");
    std::io::stderr().flush().unwrap();
}

#[test]
fn a_model_is_verified_and_compared_as_any_device() {
    let run = |words: &str| dmaring().args(words.split_whitespace()).output().unwrap();
    let figures = json(&run("bench model:8MiB --rw randwrite --verify --ios 2000 --json -"));
    assert_eq!(figures["runs"][0]["backend"], "nvme", "{figures}");
    assert_status(&run("bench model:8MiB --completion interrupt --ios 500"), 0);
    assert_status(&run("bench model:null:1t --ios 500"), 0);
    assert_status(&run("compare model:8m model:null:8m --ios 500"), 0);
    let output = run("info model:8MiB");
    assert_status(&output, 0);
    assert!(text(&output.stdout).contains("dmaring model"), "{}", text(&output.stdout));
    for row in ["warnings          none", "temperature       30 °C", "spare             100%", "media errors      0"] {
        assert!(text(&output.stdout).contains(row), "{row}: {}", text(&output.stdout));
    }
    let health = &json(&run("info model:8MiB --json -"))["health"];
    assert_eq!((&health["smart"]["temperature_celsius"], &health["errors"]), (&30.into(), &serde_json::json!([])));
    for name in ["model:0", "model:", "model:9999t"] {
        let output = run(&format!("bench {name} --ios 1"));
        assert_status(&output, 1);
        assert!(text(&output.stderr).contains("model"), "{}", text(&output.stderr));
    }
}
