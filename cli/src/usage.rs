//! Mistakes on the command line, in one line.

use std::process::ExitCode;

use clap::error::{Error, ErrorKind};

use crate::output;

/// Shows help where it was asked for, otherwise what is wrong; the exit status is 2 for a mistake.
pub fn report(error: &Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { 2 } else { 0 })
        }
        _ => {
            output::note(&one_line(&error.render().to_string()));
            ExitCode::from(2)
        }
    }
}

/// clap's message without usage and advice on help, its lines joined.
fn one_line(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let lines = text.lines().map(str::trim);
    let wanted = lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let mut joined = String::new();
    for line in wanted.filter(|line| !line.is_empty()) {
        if !joined.is_empty() {
            joined += if joined.ends_with(':') { " " } else { "; " };
        }
        joined += line;
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn what_matters_is_kept() {
        let text = "error: invalid value '0' for '--bs <SIZE>': it is zero\n\nFor more information, try '--help'.\n";
        assert_eq!(one_line(text), "invalid value '0' for '--bs <SIZE>': it is zero");
        let text = "error: the following required arguments were not provided:\n  <DEVICE>\n\nUsage: dmaring bench <DEVICE>\n\nFor more information, try '--help'.\n";
        assert_eq!(one_line(text), "the following required arguments were not provided: <DEVICE>");
        let text = "error: unexpected argument '--bss' found\n\n  tip: a similar argument exists: '--bs'\n\nUsage: x\n";
        assert_eq!(one_line(text), "unexpected argument '--bss' found; tip: a similar argument exists: '--bs'");
    }
}
