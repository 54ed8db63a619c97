//! The command on real controllers, in a guest: needs QEMU and a kernel (fetched where missing).

mod support;

use serde_json::Value;
use support::svg::svg_texts;
use support::{LIMIT, assert_status, dmaring, run, text};

#[test]
fn comparison_has_four_rows_in_every_round_and_good_data() {
    let folder = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let svg = folder.path().join("svg");
    for rw in ["randread", "randrw"] {
        let words = ["vm", "compare", "--timeout", LIMIT, "--rw", rw, "--ios", "2000", "--region", "2m", "--json", "-"];
        let output = dmaring().args(words).arg("--svg").arg(&svg).output().unwrap();
        assert_status(&output, 0);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(report["qemu"].as_str().unwrap().contains("tcg"), "{report}");
        assert_eq!(report["emulated"], true);
        assert!(report["command"].as_str().unwrap().starts_with("dmaring vm compare"));
        let runs = report["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 8);
        for run in runs {
            let (round, nvme) = (run["round"].as_u64().unwrap(), run["backend"] == "nvme");
            let device = match (nvme, round) {
                (true, 1) => "pci:0000:00:04.0",
                (true, _) => "pci:0000:00:05.0",
                (false, _) => "/dev/nvme",
            };
            assert!(run["device"].as_str().unwrap().starts_with(device), "{run}");
            assert_eq!((&run["ios"], &run["errors"]), (&2000.into(), &0.into()));
            assert_eq!(run["verified"]["wrong"], 0);
            assert!(run["verified"]["blocks"].as_u64().unwrap() >= 512);
            if nvme && run["completion"] == "poll" {
                assert_eq!(run["syscalls_per_io"], 0.0);
                assert_eq!(run["bytes_bounced_per_io"], 0.0);
            }
        }
        let summary = report["summary"].as_array().unwrap();
        let rows: Vec<_> = summary.iter().map(|row| (row["backend"].as_str(), row["completion"].as_str())).collect();
        let expected = [("nvme", "poll"), ("nvme", "interrupt"), ("kernel", "poll"), ("kernel", "interrupt")];
        assert_eq!(rows, expected.map(|(backend, completion)| (Some(backend), Some(completion))));
        let texts = svg_texts(&svg);
        assert!(texts.iter().any(|text| text.contains("emulated")), "{texts:?}");
        for row in summary {
            let label =
                format!("{}, {} {}, depth 32", word(row, "device"), word(row, "backend"), word(row, "completion"));
            let figure = format!("~{:.0}", row["iops"].as_f64().unwrap());
            assert!(texts.contains(&label) && texts.contains(&figure), "{label} {figure}: {texts:?}");
        }
    }
}

fn word<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap()
}

#[test]
fn a_controller_is_taken_used_and_given_back() {
    let script = "
        dmaring list
        dmaring bench pci:0000:00:04.0; echo unbound $?
        dmaring bind 0000:00:04.0
        dmaring bind 0000:00:04.0
        dmaring list
        dmaring info pci:0000:00:04.0
        dmaring info pci:0000:00:04.0/9 >/dev/null; echo absent info $?
        dmaring bench pci:0000:00:04.0/2 --rw randrw --verify --size 4m --bs 64k; echo verified $?
        dmaring bench pci:0000:00:04.0/9; echo absent $?
        dmaring bench pci:0000:00:04.0 --rw write --verify --size 1m --completion interrupt --numjobs 2; echo two $?
        dmaring bench pci:0000:00:04.0 --rw read --verify --size 1m --bs 16k --plain; echo plain $?
        dmaring bench pci:0000:00:04.0 --runtime 60 > /tmp/out & sleep 1; kill -INT $!; wait $!; echo interrupted $?
        dmaring bench pci:0000:00:04.0 --ios 100 > /tmp/out; echo again $?
        dmaring bench 0000:00:04.0; echo path $?
        dmaring unbind 0000:00:04.0
        for i in 1 2 3 4 5; do [ -e /dev/nvme0n1 ] || sleep 1; done
        dmaring bench /dev/nvme0n1 --rw read --verify --size 1m --ios 10; echo back $?
        dmaring bench pci:0000:00:04.0 --fallback --ios 10; echo fallback $?
        dmaring bench /dev/nvme0n1 --completion poll; echo poll $?
        ";
    let output = run(&["--namespaces", "2", "--add", "/bin/sleep"], &["bash", "-c", script]);
    assert_status(&output, 0);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    for line in [
        "unbound 1",
        "0000:00:04.0 is now on vfio-pci, taken from nvme",
        "0000:00:04.0 is on vfio-pci already",
        "queue pairs",
        // QEMU's controller is at 323 K.
        "temperature       50 °C",
        "warnings          none",
        "media errors      0",
        "absent info 1",
        "verified 0",
        "absent 1",
        "two 0",
        "plain 0",
        "interrupted 130",
        "again 0",
        "path 1",
        "0000:00:04.0 is back with nvme",
        "back 0",
        "on the kernel: pci:0000:00:04.0 could not be had",
        "fallback 0",
        "poll 1",
    ] {
        assert!(stdout.contains(line), "{line} is not in: {stdout}\n{stderr}");
    }
    for line in ["`dmaring bind 0000:00:04.0`", "no active namespace 9", "SIGINT", "nvme.poll_queues"] {
        assert!(stderr.contains(line), "{line} is not in: {stderr}");
    }
}
