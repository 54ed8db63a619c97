//! Progress on a terminal; nothing anywhere else.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::job::Limit;

const PERIOD: Duration = Duration::from_millis(100);

/// A line on standard error that a thread keeps current until this is dropped.
pub struct Progress {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Nothing if standard error is no terminal.
    pub fn start(counters: Arc<[AtomicU64]>, limit: Limit) -> Option<Self> {
        if !io::stderr().is_terminal() {
            return None;
        }
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let show = move || show(&counters, limit, &ended);
        let thread = thread::Builder::new().name("progress".into()).spawn(show);
        // A measurement goes on without it.
        let thread = Some(thread.ok()?);
        Some(Self { end, thread })
    }
}

fn show(counters: &[AtomicU64], limit: Limit, end: &AtomicBool) {
    let length = match limit {
        Limit::Ios(ios) => ios.saturating_mul(counters.len() as u64),
        Limit::Time(time) => u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
    };
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} [{bar:40}] {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    let begin = Instant::now();
    let (mut before, mut looked) = (0, begin);
    while !end.load(Ordering::Relaxed) {
        thread::park_timeout(PERIOD);
        let done: u64 = counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum();
        let now = Instant::now();
        let rate = done.saturating_sub(before) as f64 / (now - looked).as_secs_f64();
        (before, looked) = (done, now);
        bar.set_message(format!("{done} I/Os, {rate:.0} a second"));
        bar.set_position(match limit {
            Limit::Ios(_) => done,
            Limit::Time(_) => u64::try_from((now - begin).as_millis()).unwrap_or(u64::MAX),
        });
    }
    bar.finish_and_clear();
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
