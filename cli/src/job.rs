//! A job as the command line gives it, in fio's words, and as it is meant.

use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use dmaring::CompletionMode;

use dmaring::parse_size;

/// The most entries a submission ring can have (IORING_MAX_ENTRIES).
const MAX_DEPTH: i64 = 32_768;
/// Threads beyond this are a slip of the keyboard.
const MAX_JOBS: i64 = 1024;

/// What is done, where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub enum Rw {
    /// Sequential reads
    Read,
    /// Sequential writes
    Write,
    /// Random reads
    RandRead,
    /// Random writes
    RandWrite,
    /// Sequential reads and writes
    #[value(name = "rw", alias = "readwrite")]
    Mixed,
    /// Random reads and writes
    #[value(name = "randrw")]
    RandMixed,
    /// Entries that do nothing: what the ring itself costs
    Nop,
}

impl Rw {
    /// fio's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::RandRead => "randread",
            Self::RandWrite => "randwrite",
            Self::Mixed => "rw",
            Self::RandMixed => "randrw",
            Self::Nop => "nop",
        }
    }

    /// Whether the device is written to.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Read | Self::RandRead | Self::Nop)
    }

    /// Whether places are chosen at random.
    pub fn is_random(self) -> bool {
        matches!(self, Self::RandRead | Self::RandWrite | Self::RandMixed)
    }

    fn is_mixed(self) -> bool {
        matches!(self, Self::Mixed | Self::RandMixed)
    }
}

/// How completions are learnt of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Completion {
    /// By looking, without pause
    Poll,
    /// By interrupt, sleeping meanwhile
    Interrupt,
    /// By looking for about as long as it has lately taken, then sleeping
    Adaptive,
}

impl Completion {
    /// As reports name it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Interrupt => "interrupt",
            Self::Adaptive => "adaptive",
        }
    }

    /// As the library names it.
    pub fn mode(self) -> CompletionMode {
        match self {
            Self::Poll => CompletionMode::Poll,
            Self::Interrupt => CompletionMode::Interrupt,
            Self::Adaptive => CompletionMode::Adaptive,
        }
    }
}

/// The job, as it stands on the command line.
#[derive(Debug, Clone, Args)]
pub struct JobArgs {
    /// What to do: read, write, randread, randwrite, rw, randrw or nop
    #[arg(long, value_name = "KIND", default_value = "randread", hide_possible_values = true)]
    pub rw: Rw,
    /// Bytes of each I/O
    #[arg(long, value_name = "SIZE", default_value = "4k", value_parser = parse_length)]
    pub bs: u64,
    /// I/Os in flight in each job's ring
    #[arg(long, value_name = "N", default_value_t = 32,
          value_parser = clap::value_parser!(u32).range(1..=MAX_DEPTH))]
    pub iodepth: u32,
    /// How long to measure
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, conflicts_with = "ios")]
    pub runtime: Option<Duration>,
    /// Measure this many I/Os in each job, instead of some time
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub ios: Option<u64>,
    /// Threads, each with a ring and a part of the device of its own
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=MAX_JOBS))]
    pub numjobs: u32,
    /// Percentage of reads in rw and randrw [default: 50]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub rwmixread: Option<u8>,
    /// Seed of places and data
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Write through any volatile cache (RWF_DSYNC, which is FUA on the device)
    #[arg(long)]
    pub fua: bool,
    /// Ordinary memory, not registered with the ring: shows what bouncing costs
    #[arg(long)]
    pub plain: bool,
    /// Read no clock in the measured loop (with --ios): for counting instructions
    #[arg(long, requires = "ios")]
    pub no_latency: bool,
}

/// The part of the device that is used.
#[derive(Debug, Clone, Args)]
pub struct RegionArgs {
    /// Begin of the part of the device that is used
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = parse_size)]
    pub offset: u64,
    /// Length of that part, divided among the jobs [default: to the end]
    #[arg(long, value_name = "SIZE", value_parser = parse_length)]
    pub size: Option<u64>,
}

/// When a job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// After so many I/Os of each thread.
    Ios(u64),
    /// After some time.
    Time(Duration),
}

/// Where the data of I/Os is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// In memory of the ring that is registered with it.
    Registered,
    /// In memory of the ring that is not registered.
    Ring,
    /// In any memory of the program, aligned to pages.
    Ordinary,
}

/// A job that makes sense, before it is known what it runs on.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    pub rw: Rw,
    pub bs: u64,
    pub iodepth: u32,
    pub numjobs: u32,
    pub limit: Limit,
    /// Of a hundred I/Os so many are reads.
    pub read_percent: u8,
    pub seed: u64,
    pub fua: bool,
    pub data: Data,
    pub latency: bool,
}

impl JobArgs {
    /// The words that say the same on another command line.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                words.extend([format!("--{name}"), value]);
            }
        };
        option("rw", Some(self.rw.word().to_owned()));
        option("bs", Some(self.bs.to_string()));
        option("iodepth", Some(self.iodepth.to_string()));
        option("runtime", self.runtime.map(|time| time.as_secs_f64().to_string()));
        option("ios", self.ios.map(|ios| ios.to_string()));
        option("numjobs", Some(self.numjobs.to_string()));
        option("rwmixread", self.rwmixread.map(|percent| percent.to_string()));
        option("seed", Some(self.seed.to_string()));
        let flags = [("--fua", self.fua), ("--plain", self.plain), ("--no-latency", self.no_latency)];
        words.extend(flags.into_iter().filter(|(_, set)| *set).map(|(flag, _)| flag.to_owned()));
        words
    }

    /// Refuses what contradicts itself.
    ///
    /// # Errors
    /// What, and what to write instead.
    pub fn resolve(&self, default_time: Duration) -> anyhow::Result<Job> {
        let rw = self.rw;
        if self.rwmixread.is_some() && !rw.is_mixed() {
            bail!("--rwmixread goes with --rw rw or randrw, not with {}", rw.word());
        }
        if self.fua && !rw.writes() {
            bail!("--fua goes with writes: --rw {} only reads", rw.word());
        }
        let read_percent = match rw {
            Rw::Read | Rw::RandRead | Rw::Nop => 100,
            Rw::Write | Rw::RandWrite => 0,
            Rw::Mixed | Rw::RandMixed => self.rwmixread.unwrap_or(50),
        };
        if self.bs > MAX_BLOCK {
            bail!("--bs {}: an I/O is of at most {MAX_BLOCK} bytes", self.bs);
        }
        let limit = match (self.ios, self.runtime) {
            (Some(ios), _) => Limit::Ios(ios),
            (None, time) => Limit::Time(time.unwrap_or(default_time)),
        };
        Ok(Job {
            rw,
            bs: self.bs,
            iodepth: self.iodepth,
            numjobs: self.numjobs,
            limit,
            read_percent,
            seed: self.seed,
            fua: self.fua,
            data: if self.plain { Data::Ordinary } else { Data::Registered },
            latency: !self.no_latency,
        })
    }
}

/// The kernel cuts an I/O at 2 GiB less a page (MAX_RW_COUNT); this is the next smaller power of two.
const MAX_BLOCK: u64 = 1 << 30;

/// As [`parse_size`], but zero is none.
pub fn parse_length(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        0 => Err("it is zero; write a number of bytes or one such as 4k, 512M or 1GiB".to_owned()),
        length => Ok(length),
    }
}

fn parse_count(text: &str) -> Result<u64, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| "write a whole number above zero".to_owned())
}

/// A time such as `2`, `0.5`, `500ms` or `2s`.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    let (number, scale) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * scale);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let in_reason = |time: &Duration| (Duration::from_millis(1)..=DAY * 365).contains(time);
    duration.filter(in_reason).ok_or_else(|| "write a number of seconds above zero, such as 2, 0.5 or 500ms".to_owned())
}

const DAY: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        job: JobArgs,
        #[command(flatten)]
        region: RegionArgs,
    }

    fn job(words: &str) -> Result<Job, String> {
        let words = std::iter::once("x").chain(words.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        let job = line.job.resolve(Duration::from_secs(5));
        job.map_err(|error| error.to_string())
    }

    #[test]
    fn words_are_those_of_fio() {
        for word in ["read", "write", "randread", "randwrite", "rw", "randrw", "nop"] {
            assert_eq!(job(&format!("--rw {word}")).unwrap().rw.word(), word);
        }
        assert_eq!(job("--rw readwrite").unwrap().rw, Rw::Mixed);
        assert_eq!(job("--bs 16k").unwrap().bs, 16384);
        assert_eq!(job("--rw rw --rwmixread 70").unwrap().read_percent, 70);
        assert_eq!(job("--ios 10").unwrap().limit, Limit::Ios(10));
        let half = Limit::Time(Duration::from_millis(500));
        assert_eq!(job("--runtime 0.5").unwrap().limit, half);
        assert_eq!(job("--runtime 500ms").unwrap().limit, half);
    }

    #[test]
    fn words_say_the_same_again() {
        let line = "--rw randrw --bs 8k --iodepth 3 --ios 9 --numjobs 2 --rwmixread 10 --seed 5 --fua --plain";
        let again = |line: &str| {
            let words = std::iter::once("x").chain(line.split_whitespace());
            Line::try_parse_from(words).unwrap().job.words().join(" ")
        };
        assert_eq!(again(line), line.replace("8k", "8192"));
        assert!(again("--runtime 250ms").contains("--runtime 0.25"));
    }

    #[test]
    fn nonsense_is_refused() {
        for (words, why) in [
            ("--iodepth 0", "0 is not in 1..=32768"),
            ("--iodepth 40000", "40000 is not in 1..=32768"),
            ("--bs 0", "zero"),
            ("--bs 4x", "unit"),
            ("--bs 99999999p", "64 bits"),
            ("--bs 2g", "at most"),
            ("--runtime 0", "above zero"),
            ("--runtime -1", "unexpected"),
            ("--runtime inf", "above zero"),
            ("--runtime NaN", "above zero"),
            ("--runtime 1e300", "above zero"),
            ("--ios 0", "above zero"),
            ("--ios 5 --runtime 5", "cannot be used with"),
            ("--rwmixread 5", "goes with"),
            ("--rw rw --rwmixread 101", "101 is not in"),
            ("--fua", "only reads"),
            ("--numjobs 0", "0 is not in"),
            ("--no-latency", "--ios"),
            ("--rw up", "invalid value"),
            ("--offset 1q", "unit"),
        ] {
            let error = job(words).unwrap_err();
            assert!(error.contains(why), "{words}: {error}");
        }
    }
}
