//! How long cases take, for whoever sets `DMARING_TESTS_TIMES`.

use std::sync::{Mutex, PoisonError};

static TIMES: Mutex<Vec<(u64, String)>> = Mutex::new(Vec::new());

/// How many are printed.
const MOST: usize = 30;

/// Remembers how long something took.
pub(super) fn note(name: &str, millis: u64) {
    TIMES.lock().unwrap_or_else(PoisonError::into_inner).push((millis, name.to_owned()));
}

/// Prints what took longest, if asked to.
pub(super) fn print() {
    if std::env::var_os("DMARING_TESTS_TIMES").is_none() {
        return;
    }
    let mut times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    times.sort_by(|a, b| b.cmp(a));
    for (millis, name) in times.iter().take(MOST) {
        super::run::say(&format!("{millis:>7} ms {name}"));
    }
}
