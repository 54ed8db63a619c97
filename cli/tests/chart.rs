//! `dmaring compare --svg`: what the chart says, and when there is one.

#[expect(dead_code, reason = "some of it is for tests that boot guests")]
mod support;

use std::fs;

use serde_json::Value;
use support::svg::svg_texts;
use support::{assert_status, dmaring, text};
use tempfile::TempDir;

#[test]
fn every_row_is_drawn_with_its_figure() {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let svg = folder.path().join("a & b.svg");
    fs::write(&svg, "what was there before").unwrap();
    let words = ["compare", "model:1m", "model:null:1m", "--ios", "200", "--iodepth", "4", "--json", "-", "--svg"];
    let output = dmaring().args(words).arg(&svg).output().unwrap();
    assert_status(&output, 0);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let texts = svg_texts(&svg);
    let has = |wanted: &str| assert!(texts.iter().any(|text| text == wanted), "{wanted} is not in {texts:?}");
    has(&format!("host {}", report["host"].as_str().unwrap()));
    let command = texts.iter().find(|text| text.starts_with("dmaring compare model:1m model:null:1m"));
    assert!(command.is_some_and(|command| command.contains("--iodepth 4")), "{texts:?}");
    assert!(texts.iter().any(|text| text.contains(report["kernel"].as_str().unwrap())), "{texts:?}");
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4);
    let mark = if report["emulated"] == true { "~" } else { "" };
    for run in runs {
        let word = |name: &str| run[name].as_str().unwrap();
        has(&format!("{}, {} {}, depth 4", word("device"), word("backend"), word("completion")));
        has(&format!("{mark}{:.0}", run["iops"].as_f64().unwrap()));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn what_cannot_be_drawn_leaves_everything_as_it_was() {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let svg = folder.path().join("svg");
    fs::write(&svg, "before").unwrap();
    let compare = |device: &str, svg: &str| {
        let output = dmaring().args(["compare", device, "--ios", "10", "--svg", svg]).output().unwrap();
        assert_status(&output, 1);
        assert_eq!(text(&output.stdout), "", "it was found before anything was measured");
        text(&output.stderr)
    };
    let (path, folder_path) = (svg.to_str().unwrap(), folder.path().to_str().unwrap());
    assert!(compare("/nonexistent", path).contains("/nonexistent"));
    assert!(compare("model:1m", folder_path).contains("it is a folder"));
    assert!(compare("model:1m", "-").contains("takes a file"));
    assert!(compare("model:1m", "/nonexistent/svg").contains("cannot make /nonexistent/svg"));
    assert_eq!(fs::read(&svg).unwrap(), b"before");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}
