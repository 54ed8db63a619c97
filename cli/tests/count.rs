//! Counting instructions in real guests: against programs whose counts are known, and the table's sense.
//! Needs QEMU with plugins, a kernel (both fetched where missing) and a C compiler.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use support::svg::svg_texts;
use support::{LIMIT, assert_status, dmaring, run, text};

/// Every section's instructions are known from its text.
const PROGRAM: &str = r#"
#include <sys/syscall.h>
#include <unistd.h>
#define MARK(id) __asm__ volatile(".byte 0x0f, 0x1f, 0x80, " #id ", 0x4b, 0x52, 0x4d" ::: "memory")
#define LOOP(body) __asm__ volatile("mov $1000, %%ecx\n0: " body "\ndec %%ecx\njnz 0b" ::: "ecx", "cc")
static char buffer[4096];
int main(void)
{
    buffer[0] = 1;
    MARK(101); LOOP(""); MARK(102);
    MARK(101); LOOP("nop"); MARK(102);
    MARK(101); LOOP("nop\nnop\nnop\nnop\nnop"); MARK(102);
    MARK(101);
    char *to = buffer;
    long length = sizeof buffer;
    __asm__ volatile("rep stosb\nnop" : "+D"(to), "+c"(length) : "a"(0) : "memory");
    MARK(102);
    MARK(101);
    LOOP("");
    for (int i = 0; i < 3; i++) {
        MARK(120); __asm__ volatile("nop\nnop"); MARK(121); __asm__ volatile("nop");
    }
    MARK(120); MARK(122); MARK(121);
    LOOP("");
    MARK(120);
    __asm__ volatile("nop");
    MARK(102);
    MARK(101);
    for (int i = 0; i < 100; i++)
        syscall(SYS_getppid);
    MARK(102);
    return 3;
}
"#;

/// A row of the sections that `vm run --count` prints.
#[derive(Debug)]
struct Section {
    user: u64,
    kernel: u64,
    empty_polls: u64,
    empty_user: u64,
    nvme: u64,
}

fn sections(output: &Output) -> Vec<Section> {
    let stderr = text(&output.stderr);
    let lines = stderr.lines().skip_while(|line| !line.trim_start().starts_with("section")).skip(1);
    let number = |word: &str| word.parse::<u64>().unwrap_or_else(|_| panic!("{word} in:\n{stderr}"));
    lines
        .map(|line| line.split_whitespace().map(number).collect::<Vec<_>>())
        .map(|row| Section { user: row[1], kernel: row[2], empty_polls: row[3], empty_user: row[4], nvme: row[6] })
        .collect()
}

#[test]
fn a_known_program_is_counted_to_the_instruction() {
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("known.c"), folder.path().join("known"));
    fs::write(&source, PROGRAM).unwrap();
    let built = Command::new("cc").arg("-O2").arg("-o").arg(&program).arg(&source).status().unwrap();
    assert!(built.success());
    let output = run(&["--count", "--controllers", "0"], &[program.to_str().unwrap()]);
    // The command's own status, as without counting.
    assert_status(&output, 3);
    let sections = sections(&output);
    let user: Vec<u64> = sections.iter().map(|section| section.user).collect();
    // One to set the counter; each round its NOPs and two to end it.
    assert_eq!(user[..3], [2001, 3001, 7001], "{sections:?}");
    let repeated = user[3];
    assert!((2..=8).contains(&repeated), "a repeated instruction counts once: {sections:?}");
    let polls = &sections[4];
    assert_eq!(polls.empty_polls, 3, "{sections:?}");
    // Two NOPs and one in each, and what the loop adds.
    assert!((9..=18).contains(&polls.empty_user), "{sections:?}");
    // The look that has found something counts, whatever follows it.
    assert!((4003..=4013).contains(&polls.user), "{sections:?}");
    let calls = &sections[5];
    assert!((100..=5000).contains(&calls.user), "{sections:?}");
    // A way into the kernel and back; ticks may come on top.
    assert!((2000..=2_000_000).contains(&calls.kernel), "{sections:?}");
    assert!(sections.iter().all(|section| section.nvme == 0), "{sections:?}");
}

#[test]
fn bench_polls_with_two_doorbells_an_io_and_no_kernel() {
    let script = "dmaring bind 0000:00:04.0 &&
        dmaring bench pci:0000:00:04.0 --iodepth 1 --ios 2000 --no-latency";
    let output = run(&["--count", "--storage", "null"], &["sh", "-c", script]);
    assert_status(&output, 0);
    let sections = sections(&output);
    assert_eq!(sections.len(), 1, "{sections:?}");
    let Section { user, kernel, nvme, .. } = sections[0];
    assert!((3990..=4010).contains(&nvme), "{sections:?}");
    assert!((100..=20_000).contains(&(user / 2000)), "{sections:?}");
    assert!(kernel / 2000 < 1000, "ticks only: {sections:?}");
}

#[test]
fn nothing_marked_is_said() {
    let output = run(&["--count", "--controllers", "0"], &["dmaring", "--version"]);
    assert_status(&output, 0);
    assert!(text(&output.stderr).contains("no marked section"), "{}", text(&output.stderr));
}

#[test]
fn the_table_has_every_row_and_its_figures_make_sense() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("json");
    let mut compare = dmaring();
    compare.args(["vm", "compare", "--count", "--ios", "640", "--timeout", "600", "--json"]).arg(&json);
    let svg = folder.path().join("svg");
    compare.arg("--svg").arg(&svg);
    let output = compare.output().unwrap();
    assert_status(&output, 0);
    let table = text(&output.stdout);
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let find = |backend: &str, completion: &str, rw: &str, depth: u64| {
        let rows = report["runs"].as_array().unwrap();
        let mut rows = rows.iter().filter(|row| {
            (&row["backend"], &row["completion"], &row["rw"], &row["iodepth"])
                == (&backend.into(), &completion.into(), &rw.into(), &depth.into())
                && row["plain"].is_null()
        });
        let row = rows.next().unwrap_or_else(|| panic!("no {backend} {completion} {rw} {depth} in:\n{table}"));
        assert!(rows.next().is_none());
        row.clone()
    };
    let figure = |row: &serde_json::Value, name: &str| {
        row[name].as_f64().unwrap_or_else(|| panic!("no {name} in {row}, of:\n{table}"))
    };
    for depth in [1, 4, 32, 128] {
        for backend in ["nvme", "kernel"] {
            let row = find(backend, "interrupt", "randread", depth);
            assert!(figure(&row, "completions_per_interrupt") > 0.0, "{row}");
            assert!(figure(&row, "kernel_instructions_per_io") > 1.0, "{row}");
        }
        let row = find("nvme", "poll", "randread", depth);
        assert!(figure(&row, "user_instructions_per_io") > 50.0, "{row}");
    }
    let alone = find("nvme", "poll", "randread", 1);
    assert!((figure(&alone, "mmio_per_io") - 2.0).abs() < 0.02, "{alone}");
    let deep = find("nvme", "poll", "randread", 32);
    assert!(figure(&deep, "mmio_per_io") < 1.0, "{deep}");
    assert!(figure(&deep, "user_instructions_per_io") < figure(&alone, "user_instructions_per_io"), "{deep}");
    let kernel = find("kernel", "interrupt", "randread", 1);
    assert!(figure(&kernel, "kernel_instructions_per_io") > 2000.0, "{kernel}");
    for (backend, completion) in [("nvme", "poll"), ("kernel", "interrupt")] {
        let nop = find(backend, completion, "nop", 32);
        assert_eq!(figure(&nop, "mmio_per_io"), 0.0, "{nop}");
    }
    let operations = report["operations"].as_array().unwrap();
    let operation = |backend: &str, name: &str, at_once: u64| {
        let mut rows = operations.iter().filter(|row| {
            (&row["backend"], &row["operation"], &row["at_once"]) == (&backend.into(), &name.into(), &at_once.into())
        });
        let row = rows.next().unwrap_or_else(|| panic!("no {backend} {name} {at_once} in:\n{table}"));
        assert!(rows.next().is_none());
        assert_eq!((&row["errors"], &row["count"]), (&0.into(), &640.into()), "{row}");
        row.clone()
    };
    for backend in ["nvme", "kernel"] {
        for at_once in [1, 16] {
            let (plain, linked) = ("two reads", "two reads, IO_LINK");
            let (plain, linked) = (operation(backend, plain, at_once), operation(backend, linked, at_once));
            assert!(figure(&linked, "user_instructions") > figure(&plain, "user_instructions"), "{linked}");
            // The device learns of the second read only when the first has ended.
            assert!(figure(&linked, "mmio") >= figure(&plain, "mmio"), "{linked}");
        }
        for (name, at_once) in [
            ("read, IO_DRAIN", 1),
            ("reads, one IO_DRAIN", 32),
            ("TIMEOUT, TIMEOUT_REMOVE", 1),
            ("read, BUFFER_SELECT", 1),
            ("read, BUFFER_SELECT", 32),
        ] {
            assert!(figure(&operation(backend, name, at_once), "user_instructions") > 30.0, "{name}");
        }
    }
    assert_eq!(operations.len(), 18, "each has been looked at");
    let texts = svg_texts(&svg);
    for row in operations {
        let word = |name: &str| row[name].as_str().unwrap();
        let (at_once, per) = (&row["at_once"], word("per"));
        let label = format!("{}, {}, {at_once} at once, per {per}", word("backend"), word("operation"));
        let (user, kernel) = (figure(row, "user_instructions"), figure(row, "kernel_instructions"));
        let value = format!("{:.1} ({user:.1} + {kernel:.1})", user + kernel);
        assert!(texts.contains(&label) && texts.contains(&value), "{label} {value}: {texts:?}");
    }
    for row in report["runs"].as_array().unwrap() {
        let word = |name: &str| row[name].as_str().unwrap();
        let plain = if row["plain"].is_null() { "" } else { ", plain" };
        let job = format!("{}{plain}, depth {}", word("rw"), row["iodepth"]);
        let label = format!("{} {}, {job}", word("backend"), word("completion"));
        let (user, kernel) = (figure(row, "user_instructions_per_io"), figure(row, "kernel_instructions_per_io"));
        let value = format!("{:.1} ({user:.1} + {kernel:.1})", user + kernel);
        assert!(texts.contains(&label) && texts.contains(&value), "{label} {value}: {texts:?}");
    }
    let wide = table.lines().skip(1).find(|line| line.chars().count() > 100);
    assert_eq!(wide, None, "the table fits 100 columns");
}

#[test]
fn counting_what_cannot_be_counted_is_refused() {
    for (args, why) in [
        (&["--count", "--rw", "randwrite"][..], "reads are counted"),
        (&["--count", "--iodepth", "3"], "cannot be used with"),
        (&["--count", "--runtime", "3"], "cannot be used with"),
    ] {
        let output = dmaring().args(["vm", "compare"]).args(args).output().unwrap();
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains(why), "{args:?}: {}", text(&output.stderr));
    }
}

/// A stand-in for QEMU that has only so much help to give.
fn fake_qemu(folder: &Path, help: &str) -> String {
    let path = folder.join("qemu");
    let script = format!(
        "#!/bin/sh
        case $1 in --help) echo '{help}';; --version) echo 'QEMU emulator version 7.2.0';; *) exit 9;; esac"
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A run that fails once the plugin is there, with a cache of its own.
fn start(qemu: &str, cache: &Path) -> Command {
    let mut run = dmaring();
    run.args(["vm", "run", "--count", "--timeout", LIMIT, "--kernel", "/etc/passwd", "--", "true"]);
    run.env("DMARING_QEMU", qemu).env("XDG_CACHE_HOME", cache).env_remove("CC");
    run.stdout(Stdio::piped()).stderr(Stdio::piped());
    run
}

#[test]
fn what_counting_needs_is_named_where_it_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let without = fake_qemu(folder.path(), "-nothing");
    let output = start(&without, folder.path()).output().unwrap();
    assert_status(&output, 1);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("without TCG plugins") && stderr.contains("--enable-plugins"), "{stderr}");

    let with = fake_qemu(folder.path(), "-plugin [file=]<file>");
    let output = start(&with, folder.path()).env("PATH", "/nonexistent").output().unwrap();
    assert_status(&output, 1);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("neither cc, gcc nor clang") && stderr.contains("apt-get install gcc"), "{stderr}");

    for (compiler, why) in [("/nonexistent/cc -m64", "CC names /nonexistent/cc"), ("false", "/false")] {
        let output = start(&with, folder.path()).env("CC", compiler).output().unwrap();
        assert_status(&output, 1);
        assert!(text(&output.stderr).contains(why), "{compiler}: {}", text(&output.stderr));
    }
    let plugins = fs::read_dir(folder.path().join("dmaring/plugin")).unwrap().count();
    assert_eq!(plugins, 0, "nothing is left of a library that could not be made");
}

/// `path`: PATH, in which a QEMU stands first that is not used otherwise.
fn one_line(subcommand: &[&str], path: &str, cache: &Path) -> String {
    let mut command = dmaring();
    command.args(subcommand).args(["--count", "--timeout", LIMIT]);
    if subcommand[1] == "run" {
        command.args(["--", "true"]);
    }
    command.env("PATH", path).env("XDG_CACHE_HOME", cache).env_remove("DMARING_QEMU").env_remove("CC");
    let output = command.output().unwrap();
    assert_status(&output, 1);
    assert_eq!(text(&output.stdout), "");
    let stderr = text(&output.stderr);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("dmaring: instructions cannot be counted: "), "{stderr}");
    stderr
}

#[test]
fn a_machine_that_cannot_count_is_told_so_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let qemu = bin.join("qemu-system-x86_64");
    let be = |script: &str| {
        let version = "--version) echo 'QEMU emulator version 7.2.0';;";
        fs::write(&qemu, format!("#!/bin/sh\ncase $1 in {version} {script} esac\n")).unwrap();
        fs::set_permissions(&qemu, Permissions::from_mode(0o755)).unwrap();
    };
    let only = bin.to_str().unwrap().to_owned();
    let first = format!("{only}:{}", std::env::var("PATH").unwrap());
    for subcommand in [["vm", "run"], ["vm", "compare"]] {
        be("*) echo 'qemu: -plugin: invalid option' >&2; exit 1;;");
        // Its help does not work either, which is no QEMU.
        let mut command = dmaring();
        command.args(subcommand).args(["--count", "--timeout", LIMIT]);
        let output = command.args(if subcommand[1] == "run" { &["--", "true"][..] } else { &[] });
        let output = output.env("PATH", &first).env_remove("DMARING_QEMU").output().unwrap();
        assert_status(&output, 1);
        assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));

        be("--help) echo '-cpu model';; *) echo 'qemu: -plugin: invalid option' >&2; exit 1;;");
        let stderr = one_line(&subcommand, &first, folder.path());
        assert!(stderr.contains("without TCG plugins") && stderr.contains("--enable-plugins"), "{stderr}");

        be("--help) echo '-plugin [file=]<file>';; *) exit 1;;");
        let stderr = one_line(&subcommand, &only, folder.path());
        assert!(stderr.contains("neither cc, gcc nor clang is in PATH"), "{stderr}");
        assert!(stderr.contains("apt-get install gcc"), "{stderr}");
    }
    // One that has plugins and does not take this one, with the kernel of all tests.
    assert_status(&dmaring().args(["vm", "fetch"]).output().unwrap(), 0);
    be("--help) echo '-plugin [file=]<file>';; *) echo 'qemu: Could not load plugin x: no' >&2; exit 1;;");
    let stderr = one_line(&["vm", "run"], &first, &cache());
    assert!(stderr.contains("did not take the plugin") && stderr.contains("Could not load plugin x"), "{stderr}");
}

/// The user's own.
fn cache() -> PathBuf {
    let named = std::env::var_os("XDG_CACHE_HOME").filter(|named| !named.is_empty()).map(PathBuf::from);
    named.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"))
}

#[test]
fn two_first_runs_at_once_make_one_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let qemu = fake_qemu(folder.path(), "-plugin [file=]<file>");
    let children: Vec<_> = (0..4).map(|_| start(&qemu, folder.path()).spawn().unwrap()).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(text(&output.stderr).contains("no x86 kernel image"), "{}", text(&output.stderr));
    }
    let plugins = fs::read_dir(folder.path().join("dmaring/plugin")).unwrap();
    let names: Vec<_> = plugins.flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert!(matches!(&names[..], [one] if one.starts_with("count-api1-") && one.ends_with(".so")), "{names:?}");
    // From now on no compiler is needed.
    let output = start(&qemu, folder.path()).env("PATH", "/nonexistent").output().unwrap();
    assert!(text(&output.stderr).contains("no x86 kernel image"), "{}", text(&output.stderr));
}
