//! Which cases may be skipped, and which were.

use std::sync::{Mutex, PoisonError};

/// Lines of backend, case, reason; `*` stands for any text in the first two.
const LIST: &str = include_str!("../skips.txt");

static SKIPPED: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn lines() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    LIST.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (backend, rest) = line.trim().split_once(' ')?;
        let (case, reason) = rest.trim_start().split_once(' ')?;
        Some((backend, case, reason.trim()))
    })
}

/// Whether a trial may be skipped for a reason: a line of the list names it, and the reason starts as
/// the list says.
pub(super) fn allowed(name: &str, reason: &str) -> bool {
    let Some((case, backend)) = name.rsplit_once("::") else { return false };
    lines().any(|(b, c, why)| matches(b, backend) && matches(c, case) && reason.starts_with(why))
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end),
    }
}

/// Remembers a skipped trial for the end of the run.
pub(super) fn note(name: &str, reason: &str) {
    let line = format!("skipped: {name}: {reason}");
    SKIPPED.lock().unwrap_or_else(PoisonError::into_inner).push(line);
}

/// Prints what was skipped.
pub(super) fn print() {
    let mut skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
    skipped.sort();
    for line in skipped.iter() {
        super::run::say(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_the_list_names_a_case_and_a_reason() {
        for line in LIST.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            assert!(lines().any(|(backend, ..)| line.starts_with(backend)), "not three parts: {line}");
        }
        for (backend, case, _) in lines() {
            let known = super::super::machine::suites()
                .into_iter()
                .any(|suite| matches(backend, suite.backend) && suite.cases().any(|known| matches(case, known.name)));
            assert!(known, "the list names {case} on {backend}, which does not exist");
        }
    }

    #[test]
    fn patterns_match_from_both_ends() {
        assert!(matches("*", "pci"));
        assert!(matches("pci_*", "pci_poll"));
        assert!(!matches("pci_*", "pci"));
        assert!(matches("a*c", "abc"));
        assert!(!matches("ab*bc", "abc"));
    }
}
