//! What is said of a case that has run, and how it gets out of a guest.

use serde::{Deserialize, Serialize};

/// Marks a line of the runner in a guest.
const MARK: &str = "@case ";

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Status {
    Passed,
    Failed,
    Skipped,
}

/// The end of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    /// `case::backend`.
    pub(super) name: String,
    pub(super) status: Status,
    /// Why it failed or was skipped.
    pub(super) message: String,
    /// How long it took.
    pub(super) millis: u64,
}

impl Report {
    pub(super) fn failed(name: &str, message: impl Into<String>) -> Self {
        Self { name: name.to_owned(), status: Status::Failed, message: message.into(), millis: 0 }
    }

    /// The report as one line.
    pub(super) fn line(&self) -> String {
        format!("{MARK}{}", self.json())
    }

    /// The report in a line, if there is one.
    pub(super) fn parse(line: &str) -> Option<Self> {
        Self::from_json(line.strip_prefix(MARK)?)
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("strings serialize")
    }

    pub(super) fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_line_whatever_is_in_it() {
        let report = Report::failed("a::b", "first\nsecond \"quoted\"");
        let line = report.line();
        assert!(!line.contains('\n'));
        assert_eq!(Report::parse(&line), Some(report));
        assert_eq!(Report::parse("something else"), None);
    }
}
