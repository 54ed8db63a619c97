//! `dmaring copy` on real controllers, in a guest: needs QEMU and a kernel (fetched where missing).

mod support;

use std::fs;
use std::process::Output;

use support::{assert_status, run, text};
use tempfile::TempDir;

/// Of no whole number of blocks.
const LEN: usize = 5_000_001;

/// Runs a script in a guest with two controllers and the file /data/a.
fn guest(script: &str) -> (TempDir, Output) {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let a = folder.path().join("a");
    let bytes: Vec<u8> = (0..LEN as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(&a, bytes).unwrap();
    let add = format!("{}:/data/a", a.display());
    let options = ["--controllers", "2", "--size", "16m", "--add", &add];
    let programs = ["--add", "/bin/cat", "--add", "/usr/bin/cmp", "--add", "/bin/sleep"];
    let output = run(&[&options[..], &programs].concat(), &["bash", "-c", script]);
    (folder, output)
}

#[track_caller]
fn assert_lines(output: &Output, lines: &[&str]) {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    for line in lines {
        assert!(stdout.contains(line), "{line} is not in: {stdout}\n{stderr}");
    }
}

#[test]
fn files_and_pipes_go_through_controllers_unchanged() {
    let script = "
        one=pci:0000:00:04.0 two=pci:0000:00:05.0
        dmaring bind 0000:00:04.0 && dmaring bind 0000:00:05.0 || exit 1
        cd /tmp
        for how in poll interrupt adaptive; do
            more=\"--verify --completion $how\"
            dmaring copy /data/a $one $more --iodepth 4; echo $how in $?
            dmaring copy $one b --size 5000001 $more && cmp b /data/a; echo $how out $?
            dmaring copy $one $two $more --bs 64k; echo $how across $?
            dmaring copy $two b --size 5000001 --completion $how && cmp b /data/a; echo $how second $?
            cat /data/a | dmaring copy - $two --seek 1001 $more; echo $how pipe $?
            dmaring copy $two - --skip 1001 --size 5000001 --completion $how | cmp - /data/a; echo $how back $?
            dmaring copy $two $two --skip 1001 --seek 8m --size 5000001 $more; echo $how within $?
            dmaring copy $two - --skip 8m --size 5000001 | cmp - /data/a; echo $how moved $?
            dmaring copy $one - | dmaring copy - b --size 100 --bs 4k; echo $how closed ${PIPESTATUS[*]}
        done
        dmaring copy $one $one; echo itself $?
        coproc reader { exec dmaring copy $one -; }
        pid=$reader_PID; read -n 1 -u ${reader[0]}; kill -INT $pid; wait $pid; echo interrupted $?
        dmaring copy /data/a $one --verify; echo again $?
        dmaring copy /data/a $one --seek 12m; echo end $?
        ";
    let (_folder, output) = guest(script);
    assert_status(&output, 0);
    for how in ["poll", "interrupt", "adaptive"] {
        let steps =
            ["in 0", "out 0", "across 0", "second 0", "pipe 0", "back 0", "within 0", "moved 0", "closed 141 0"];
        let lines: Vec<String> = steps.iter().map(|step| format!("{how} {step}\n")).collect();
        assert_lines(&output, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    }
    assert_lines(&output, &["itself 1", "interrupted 130", "again 0", "end 1"]);
    let stderr = text(&output.stderr);
    for part in ["the same bytes", "ended early by SIGINT", "do not fit"] {
        assert!(stderr.contains(part), "{part} is not in: {stderr}");
    }
}

#[test]
fn a_controller_and_a_disk_of_the_kernel_share_a_copy() {
    let script = "
        one=pci:0000:00:04.0 disk=/dev/nvme1n1
        dmaring bind 0000:00:04.0 || exit 1
        cd /tmp
        dmaring copy /data/a $one; echo in $?
        for how in poll interrupt adaptive; do
            dmaring copy $one $disk --verify --completion $how; echo $how out $?
            dmaring copy $disk b --size 5000001 && cmp b /data/a; echo $how same $?
            dmaring copy $disk $one --seek 6m --size 5000001 --skip 512 --verify --completion $how; echo $how in $?
        done
        dmaring unbind 0000:00:04.0
        for i in 1 2 3 4 5 6 7 8 9; do [ -e /dev/nvme0n1 ] || sleep 1; done
        dmaring copy pci:0000:00:04.0 /dev/nvme0n1; echo two ways $?
        dmaring copy /dev/nvme0n1 pci:0000:00:04.0; echo other way $?
        dmaring copy /dev/nvme0n1 b --size 5000001; cmp b /data/a; echo kept $?
        ";
    let (_folder, output) = guest(script);
    assert_status(&output, 0);
    let lines = [
        "in 0",
        "poll out 0",
        "poll same 0",
        "poll in 0",
        "interrupt out 0",
        "interrupt same 0",
        "interrupt in 0",
        "adaptive out 0",
        "adaptive in 0",
    ];
    assert_lines(&output, &lines);
    assert_lines(&output, &["two ways 1", "other way 1", "kept 0"]);
    assert_eq!(text(&output.stderr).matches("the same bytes").count(), 2, "{}", text(&output.stderr));
}
