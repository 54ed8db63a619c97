//! Completions as a shell uses them, and manual pages as man(1) reads them.

#[expect(dead_code, reason = "some of it is for tests that boot guests")]
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::{assert_status, dmaring, text};
use tempfile::TempDir;

fn script(shell: &str, folder: &Path) -> String {
    let output = dmaring().args(["completions", shell]).output().unwrap();
    assert_status(&output, 0);
    assert!(text(&output.stderr).is_empty());
    let path = folder.join(shell);
    fs::write(&path, &output.stdout).unwrap();
    path.to_str().unwrap().to_owned()
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Asks the script for what comes after `words`, the last of which is being typed.
const ASK: &str = r#"source "$1"; shift
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    spec=$(complete -p dmaring) function=${spec##*-F }
    ${function%% *} dmaring "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
    printf '%s\n' "${COMPREPLY[@]}""#;

fn offered(script: &str, words: &[&str]) -> Vec<String> {
    let output = Command::new("bash").args(["-c", ASK, "bash", script]).args(words).output().unwrap();
    assert_eq!(text(&output.stderr), "", "{words:?}");
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_subcommands_and_options() {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let script = script("bash", folder.path());
    assert_status(&Command::new("bash").args(["-n", &script]).output().unwrap(), 0);
    assert_eq!(offered(&script, &["dmaring", "comp"]), ["compare", "completions"]);
    assert_eq!(offered(&script, &["dmaring", "cop"]), ["copy"]);
    assert_eq!(offered(&script, &["dmaring", "copy", "--sk"]), ["--skip"]);
    assert_eq!(offered(&script, &["dmaring", "vm", "sh"]), ["shell"]);
    assert_eq!(offered(&script, &["dmaring", "count-r"]), [""]);
}

#[test]
fn other_shells_accept_their_scripts() {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = script(shell, folder.path());
        assert!(fs::read_to_string(&script).unwrap().contains("dmaring"));
        if !["zsh", "fish"].contains(&shell) {
            continue;
        }
        if !is_there(shell) {
            eprintln!("skipped: no {shell} on this machine");
            continue;
        }
        assert_status(&Command::new(shell).args(["-n", &script]).output().unwrap(), 0);
    }
    let output = dmaring().args(["completions", "sh"]).output().unwrap();
    assert_status(&output, 2);
    assert!(text(&output.stderr).contains("'sh'"), "{}", text(&output.stderr));
}

const PAGES: [&str; 15] = [
    "-bench",
    "-bind",
    "-compare",
    "-completions",
    "-copy",
    "-info",
    "-list",
    "-man",
    "-unbind",
    "-vm-compare",
    "-vm-fetch",
    "-vm-run",
    "-vm-shell",
    "-vm",
    "",
];

#[test]
fn pages_are_written_for_every_subcommand_and_are_sound() {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let pages = folder.path().join("share/man/man1");
    assert_status(&dmaring().arg("man").arg(&pages).output().unwrap(), 0);
    let entries = fs::read_dir(&pages).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, PAGES.map(|name| format!("dmaring{name}.1")));
    let printed = dmaring().arg("man").output().unwrap();
    assert_status(&printed, 0);
    assert!(printed.stdout == fs::read(pages.join("dmaring.1")).unwrap());
    let copy = fs::read_to_string(pages.join("dmaring-copy.1")).unwrap();
    assert!(copy.contains(".TH dmaring-copy 1") && copy.contains("seek"), "{copy}");
    for program in ["groff", "man"] {
        if !is_there(program) {
            eprintln!("skipped: no {program} on this machine");
            continue;
        }
        for name in &names {
            let words: &[&str] = match program {
                "groff" => &["-k", "-ww", "-z", "-man", "-Tutf8"],
                _ => &["--warnings", "-l"],
            };
            let mut check = Command::new(program);
            check.args(words).arg(pages.join(name)).env("LC_ALL", "C.UTF-8");
            let output = check.output().unwrap();
            assert_status(&output, 0);
            assert_eq!(text(&output.stderr), "", "{program} {name}");
        }
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let output = dmaring().arg("man").arg(file.join("man1")).output().unwrap();
    assert_status(&output, 1);
    assert!(text(&output.stderr).contains("cannot make"), "{}", text(&output.stderr));
}
