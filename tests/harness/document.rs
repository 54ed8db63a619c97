//! What `docs/abi.md` says: that its cases exist, and that it leaves nothing out.

use dmaring::abi::op::{IORING_OP_LAST, Opcode};
use dmaring::abi::register::opcode::REGISTER_LAST;

use crate::cases::COMMON_AND_DEVICE;

const DOCUMENT: &str = include_str!("../../docs/abi.md");

/// Name of the column of cases.
const CASES: &str = "shown by";

/// A row of a table that has a column of cases, which is its last.
#[derive(Debug)]
struct Row {
    section: &'static str,
    /// The first cell.
    name: &'static str,
    /// The one before the last.
    treatment: &'static str,
    cases: &'static str,
}

fn rows() -> Vec<Row> {
    let (mut section, mut inside) = ("", false);
    let mut rows = Vec::new();
    for line in DOCUMENT.lines() {
        section = line.strip_prefix("## ").unwrap_or(section);
        let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else {
            // The line below the names of the columns has no spaces.
            inside &= line.starts_with("|---");
            continue;
        };
        let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
        let [name, .., treatment, cases] = cells[..] else {
            let [name, cases] = cells[..] else { panic!("a row of one cell: {line}") };
            if inside {
                rows.push(Row { section, name, treatment: name, cases });
            }
            inside |= cases == CASES;
            continue;
        };
        if inside {
            rows.push(Row { section, name, treatment, cases });
        }
        inside |= cases == CASES;
    }
    rows
}

/// What stands between backticks.
fn quoted(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.split('`').skip(1).step_by(2)
}

fn is_case(name: &str) -> bool {
    COMMON_AND_DEVICE.iter().flat_map(|list| list.iter()).any(|case| case.name == name)
}

#[test]
fn every_case_that_is_named_exists() {
    let rows = rows();
    let named: Vec<_> = rows.iter().flat_map(|row| quoted(row.cases).map(move |case| (row, case))).collect();
    assert!(
        rows.len() > 200 && named.len() > 400,
        "{} rows, {} names: the tables are not read",
        rows.len(),
        named.len()
    );
    for (row, case) in named {
        assert!(is_case(case), "{case} of {} in \"{}\" is no case", row.name, row.section);
    }
    // Those in the text, too: a name of several words.
    for line in DOCUMENT.lines().filter(|line| !line.starts_with('|')) {
        for name in
            quoted(line).filter(|name| name.matches('_').count() > 2 && !name.contains(|c: char| c.is_uppercase()))
        {
            assert!(is_case(name), "{name} is no case");
        }
    }
}

#[test]
fn every_row_names_a_case_or_says_why_there_is_none() {
    for row in rows() {
        let reason = row.cases.strip_prefix("none: ").is_some_and(|reason| !reason.is_empty());
        assert!(reason != quoted(row.cases).next().is_some(), "{row:?}");
        assert!(!reason || row.treatment.contains("not yet"), "without a case it is not done: {row:?}");
    }
}

fn numbers(section: &str) -> Vec<(u8, &'static str)> {
    let rows = rows().into_iter().filter(|row| row.section == section);
    rows.filter_map(|row| Some((row.name.parse().ok()?, row.treatment))).collect()
}

#[test]
fn operations_are_treated_as_the_document_says() {
    let operations = numbers("Operations");
    assert!(operations.iter().map(|row| row.0).eq(0..65), "each in its place: {operations:?}");
    for (number, treatment) in operations {
        let begins: &[&str] = match Opcode::from_number(number) {
            Opcode::Unknown(_) => &["refused: `EINVAL`"],
            Opcode::Other(_) => &["not yet: `EOPNOTSUPP`"],
            _ => &["device", "engine"],
        };
        assert!(begins.iter().any(|begin| treatment.starts_with(begin)), "operation {number}: {treatment}");
        assert_eq!(number >= IORING_OP_LAST, treatment.starts_with("refused"), "operation {number}");
    }
}

#[test]
fn register_calls_are_all_there() {
    let calls = numbers("Register calls");
    assert!(calls.iter().map(|row| row.0).eq(0..38), "each in its place: {calls:?}");
    for (number, treatment) in calls.into_iter().skip(REGISTER_LAST as usize) {
        assert!(treatment.starts_with("refused: `EINVAL`"), "call {number}: {treatment}");
    }
}
