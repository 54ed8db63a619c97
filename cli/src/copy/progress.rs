//! How far a copy has come, on standard error.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output;
use crate::table::size;

/// Between two lines where there is no terminal.
const PERIOD: Duration = Duration::from_secs(1);

/// A bar on a terminal; elsewhere lines, if they were asked for, or nothing.
#[derive(Debug)]
pub struct Progress {
    verb: &'static str,
    total: Option<u64>,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Nothing,
    Bar(ProgressBar),
    Lines { begin: Instant, last: Instant },
}

impl Progress {
    /// `verb`: what is done to the bytes; `wanted`: also where there is no terminal.
    pub fn start(verb: &'static str, total: Option<u64>, wanted: bool) -> Self {
        let form = if io::stderr().is_terminal() {
            let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
            let template = match total {
                Some(_) => "{msg} {elapsed_precise} [{bar:40}] {bytes} of {total_bytes}, {binary_bytes_per_sec}",
                None => "{msg} {elapsed_precise} {bytes}, {binary_bytes_per_sec}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_message(verb);
            Form::Bar(bar)
        } else if wanted {
            let now = Instant::now();
            Form::Lines { begin: now, last: now }
        } else {
            Form::Nothing
        };
        Self { verb, total, form }
    }

    /// So many bytes are done.
    pub fn show(&mut self, bytes: u64) {
        match &mut self.form {
            Form::Nothing => {}
            Form::Bar(bar) => bar.set_position(bytes),
            Form::Lines { begin, last } => {
                if last.elapsed() >= PERIOD {
                    *last = Instant::now();
                    let line = line(self.verb, bytes, self.total, begin.elapsed());
                    output::note(&line);
                }
            }
        }
    }

    /// The last line; a bar goes away.
    pub fn finish(self, bytes: u64) {
        match self.form {
            Form::Nothing => {}
            Form::Bar(bar) => bar.finish_and_clear(),
            Form::Lines { begin, .. } => output::note(&line(self.verb, bytes, self.total, begin.elapsed())),
        }
    }
}

fn line(verb: &str, bytes: u64, total: Option<u64>, time: Duration) -> String {
    let of = total.map_or_else(String::new, |total| format!(" of {total}"));
    format!("{verb}: {bytes}{of} bytes, {}", rate(bytes, time))
}

/// Bytes a second, for people.
pub fn rate(bytes: u64, time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let rate = if seconds > 0.0 { bytes as f64 / seconds } else { 0.0 };
    format!("{:.1} MiB/s", rate / f64::from(1 << 20))
}

/// A number of bytes, and the same in a larger unit where there is one.
pub fn bytes(number: u64) -> String {
    let short = size(number);
    if short.ends_with(" B") { format!("{number} bytes") } else { format!("{number} bytes ({short})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_how_far_and_how_fast() {
        let second = Duration::from_secs(1);
        assert_eq!(line("copied", 1 << 20, Some(4 << 20), second), "copied: 1048576 of 4194304 bytes, 1.0 MiB/s");
        assert_eq!(line("verified", 7, None, Duration::ZERO), "verified: 7 bytes, 0.0 MiB/s");
        assert_eq!((bytes(1000), bytes(1 << 20)), ("1000 bytes".into(), "1048576 bytes (1 MiB)".into()));
    }
}
