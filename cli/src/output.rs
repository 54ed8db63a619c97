//! Standard output, whose reader may go away (`dmaring list | head -1`).

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

/// Writes `text` to standard output.
///
/// # Errors
/// Any but a closed pipe: that the reader has seen enough is no error.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}

/// Writes a line to standard error; if nobody reads it, so be it.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "dmaring: {text}");
}

/// Where JSON goes, opened before the work so that a mistake shows at once.
#[derive(Debug)]
pub enum JsonSink {
    /// Standard output.
    Stdout,
    /// A file.
    File {
        /// As given.
        path: PathBuf,
        /// Empty so far.
        file: File,
    },
}

impl JsonSink {
    /// `-` is standard output.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
        let path = path.to_owned();
        Ok(Self::File { path, file })
    }

    /// Whether text for people must stay away from standard output.
    pub fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout)
    }

    /// Writes the whole document.
    ///
    /// # Errors
    /// What the file system answered.
    pub fn write(self, value: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(value).context("making JSON")?;
        text.push('\n');
        match self {
            Self::Stdout => print(&text),
            Self::File { path, mut file } => {
                file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
            }
        }
    }
}

/// Writes JSON if it was asked for, and the text unless the JSON has taken its place.
///
/// # Errors
/// As [`JsonSink::write`] and [`print`].
pub fn publish(json: Option<JsonSink>, value: &impl Serialize, text: &str) -> anyhow::Result<()> {
    let silent = json.as_ref().is_some_and(JsonSink::is_stdout);
    if !silent {
        print(text)?;
    }
    json.map_or(Ok(()), |sink| sink.write(value))
}
