//! Guests that hang, panic, starve or are interrupted: none may look like success or leave anything behind.

mod support;

use std::fs;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::{LIMIT, assert_status, dmaring, run, text};

#[test]
fn hung_guest_ends_at_its_limit_with_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let script = "echo out; echo last words >/dev/kmsg; sleep 1000";
    let mut run = dmaring();
    // Long enough for a boot on a machine with other things to do.
    run.args(["vm", "run", "--timeout", "60", "--add", "/bin/sleep", "--log"]).arg(&log);
    let output = run.args(["--", "sh", "-c", script]).output().unwrap();
    assert_status(&output, 1);
    assert_eq!(text(&output.stdout), "out\n");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("killed after 60 s") && stderr.contains(log.to_str().unwrap()), "{stderr}");
    assert!(stderr.contains("guest| ") && stderr.contains("last words"), "{stderr}");
    assert!(fs::read_to_string(&log).unwrap().contains("last words"));
}

#[test]
fn kernel_panic_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = dmaring();
    run.args(["vm", "run", "--timeout", LIMIT, "--", "sh", "-c", "echo c >/proc/sysrq-trigger; exit 0"]);
    let output = run.env("TMPDIR", folder.path()).output().unwrap();
    assert_status(&output, 1);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("kernel panicked: sysrq triggered crash"), "{stderr}");
    let kept: Vec<_> = fs::read_dir(&folder).unwrap().flatten().collect();
    assert_eq!(kept.len(), 1, "one log is kept");
    assert!(stderr.contains(kept[0].path().to_str().unwrap()), "{stderr}");
}

#[test]
fn panic_at_boot_is_an_error() {
    let output = run(&["--kernel-arg=rdinit=/nonexistent"], &["sh", "-c", "exit 0"]);
    assert_status(&output, 1);
    assert!(text(&output.stderr).contains("the guest's kernel panicked"), "{}", text(&output.stderr));
}

#[test]
fn running_out_of_memory_is_an_error() {
    let options = ["--memory", "512m", "--add", "/usr/bin/tail"];
    let output = run(&options, &["sh", "-c", "tail /dev/zero; exit 0"]);
    assert_status(&output, 1);
    assert!(text(&output.stderr).contains("out of memory"), "{}", text(&output.stderr));
}

#[test]
fn qemu_that_refuses_its_arguments_is_quoted() {
    let output = run(&["--qemu-arg=-nonsense"], &["sh"]);
    assert_status(&output, 1);
    assert!(text(&output.stderr).contains("-nonsense"), "{}", text(&output.stderr));
}

/// Children of a process.
fn children(parent: u32) -> Vec<u32> {
    let task = format!("/proc/{parent}/task");
    let threads = fs::read_dir(task).unwrap().flatten();
    let lists = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<_>>()).collect()
}

fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} took too long");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Starts a guest that does nothing, and waits until it does so; gives the process of QEMU too.
fn idle_guest(folder: &Path) -> (Child, u32) {
    // A test that runs in the background of a script has SIGINT ignored, and so would its children.
    let mut run = Command::new("env");
    run.arg("--default-signal=INT").arg(dmaring().get_program());
    run.args(["vm", "run", "--timeout", LIMIT, "--add", "/bin/sleep"]);
    run.args(["--", "sh", "-c", "echo ready; sleep 1000"]);
    let mut child = run.env("TMPDIR", folder).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let qemu = children(child.id());
    assert_eq!(qemu.len(), 1, "QEMU runs");
    (child, qemu[0])
}

#[test]
fn interrupt_and_kill_end_qemu_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // Ctrl-C goes to the whole group; a kill to one process only.
    for (signal, group) in [(2, true), (9, false), (15, false)] {
        let (mut child, qemu) = idle_guest(folder.path());
        let target = if group { format!("-{}", child.id()) } else { child.id().to_string() };
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {target}")]).status().unwrap();
        assert!(sent.success());
        let status = child.wait().unwrap();
        assert!(status.signal().is_some() || !status.success(), "{status}");
        wait_for("the end of QEMU", || {
            match fs::read_to_string(format!("/proc/{qemu}/stat")) {
                // A zombie is of no concern: whoever adopted it reaps it.
                Ok(stat) => stat.contains(") Z "),
                Err(_) => true,
            }
        });
        let left: Vec<_> = fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert!(left.is_empty(), "signal {signal} has left {left:?}");
    }
}

#[test]
fn wrong_options_are_refused_before_a_boot() {
    for (options, status, why) in [
        (&["--block-size", "1024"][..], 2, "512 or 4096"),
        (&["--size", "4x"], 2, "`x` is no unit"),
        (&["--size", "1000"], 1, "multiple of 512"),
        (&["--cpus", "0"], 1, "1 to 64"),
        (&["--add", "/nonexistent"], 1, "no file /nonexistent"),
        (&["--get", "x"], 2, "GUESTPATH:FILE"),
        (&["--timeout", "0"], 2, "seconds"),
        (&["--kernel", "/etc/passwd"], 1, "no x86 kernel image"),
        (&["--storage", "/nonexistent", "--namespaces", "2"], 1, "only one namespace"),
    ] {
        let mut run = dmaring();
        let output = run.args(["vm", "run"]).args(options).args(["--", "sh"]).output().unwrap();
        assert_status(&output, status);
        assert!(text(&output.stderr).contains(why), "{options:?}: {}", text(&output.stderr));
    }
}
