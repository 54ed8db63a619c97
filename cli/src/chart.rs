//! A comparison as a picture: one bar a row, in SVG.
//!
//! Counted rows show instructions per I/O, those of the program and those of the kernel one after the
//! other; timed rows show I/Os per second.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{PathElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, RGBColor, TextStyle, WHITE};
use tempfile::NamedTempFile;

use crate::count::operations::OperationRun;
use crate::report::{Report, Run};

const WIDTH: i32 = 1000;
const MARGIN: i32 = 20;
/// Width of a character of a label, about.
const LETTER: i32 = 8;
/// Longest label; longer ones lose their begin.
const LABEL_CHARS: usize = 60;
/// Right edge of the longest bar; its figure stands behind it.
const BARS_END: i32 = 780;
const ROW: i32 = 24;
/// Heights of letters with all that goes with them, which is a quarter more than the `font-size` in SVG.
const TITLE_SIZE: i32 = 24;
const TEXT_SIZE: i32 = 16;
const LINE: i32 = 18;
/// Characters of a line of the head, about.
const LINE_CHARS: usize = 120;
const TICKS: f64 = 4.0;

const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GREY: RGBColor = RGBColor(0xcc, 0xcc, 0xcc);
const USER: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
const KERNEL: RGBColor = RGBColor(0xe0, 0x8a, 0x2c);

/// Where a picture goes: a file that appears when the picture is whole.
#[derive(Debug)]
pub struct SvgSink {
    path: PathBuf,
    file: NamedTempFile,
}

/// What a picture shows.
struct Bars {
    title: &'static str,
    /// Of the parts of a bar; empty where there is one part.
    legend: &'static [(&'static str, RGBColor)],
    rows: Vec<Bar>,
}

struct Bar {
    label: String,
    parts: Vec<(f64, RGBColor)>,
    figure: String,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

impl SvgSink {
    /// Makes sure that the file can be made, without touching one that is there.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot make {}", path.display());
        if path == Path::new("-") {
            bail!("--svg takes a file; `-` is none");
        }
        if path.is_dir() {
            bail!("{}: it is a folder", cannot());
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut options = tempfile::Builder::new();
        // As any new file, less what the user's mask takes away.
        options.prefix(".dmaring-").suffix(".svg").permissions(Permissions::from_mode(0o666));
        let file = options.tempfile_in(folder).with_context(cannot)?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Draws the report; without a row there is no picture, and the file is not touched.
    ///
    /// # Errors
    /// What the file system answered.
    pub fn write(mut self, report: &Report) -> anyhow::Result<()> {
        let runs = if report.summary.is_empty() { &report.runs } else { &report.summary };
        if runs.is_empty() {
            return Ok(());
        }
        let cannot = || format!("cannot write {}", self.path.display());
        self.file.write_all(draw(report, runs)?.as_bytes()).with_context(cannot)?;
        self.file.persist(&self.path).map_err(|error| anyhow!(error.error)).with_context(cannot)?;
        Ok(())
    }
}

fn bars(report: &Report, runs: &[Run]) -> Bars {
    let counted = runs.iter().any(|run| run.counted.is_some());
    if counted {
        let title = "Guest instructions per I/O, empty polls apart (fewer is better)";
        let legend = &[("program", USER), ("kernel", KERNEL)];
        let operations = report.operations.iter().filter_map(operation_bar);
        return Bars { title, legend, rows: runs.iter().filter_map(counted_bar).chain(operations).collect() };
    }
    let title = match report.emulated {
        true => "I/Os per second, emulated: for comparing rows, not with hardware",
        false => "I/Os per second (more is better)",
    };
    Bars { title, legend: &[], rows: runs.iter().map(|run| timed_bar(run, report.emulated)).collect() }
}

fn counted_bar(run: &Run) -> Option<Bar> {
    let counted = run.counted.as_ref()?;
    let plain = if run.plain { ", plain" } else { "" };
    let label = format!("{} {}, {}{plain}, depth {}", run.backend, run.completion, run.rw, run.iodepth);
    Some(instructions(label, counted.user_instructions_per_io, counted.kernel_instructions_per_io))
}

fn operation_bar(run: &OperationRun) -> Option<Bar> {
    let each = run.counted.as_ref()?;
    let OperationRun { backend, operation, at_once, per, .. } = run;
    let label = format!("{backend}, {operation}, {at_once} at once, per {per}");
    Some(instructions(label, each.user_instructions, each.kernel_instructions))
}

fn instructions(label: String, user: f64, kernel: f64) -> Bar {
    let figure = format!("{:.1} ({user:.1} + {kernel:.1})", user + kernel);
    Bar { label, parts: vec![(user, USER), (kernel, KERNEL)], figure }
}

fn timed_bar(run: &Run, emulated: bool) -> Bar {
    let round = run.round.map_or_else(String::new, |round| format!(", round {round}"));
    let label = format!("{}, {} {}, depth {}{round}", run.device, run.backend, run.completion, run.iodepth);
    let label = match label.char_indices().rev().nth(LABEL_CHARS - 1) {
        Some((begin, _)) if begin > 0 => format!("…{}", &label[begin..]),
        _ => label,
    };
    let mark = if emulated { "~" } else { "" };
    let color = if run.backend == "kernel" { KERNEL } else { USER };
    Bar { label, parts: vec![(run.iops, color)], figure: format!("{mark}{:.0}", run.iops) }
}

/// The lines under the title.
fn head(report: &Report, runs: &[Run]) -> Vec<String> {
    let mut lines = wrap(&report.command);
    lines.push(format!("host {}", report.host));
    let qemu = report.qemu.as_ref().map_or_else(String::new, |qemu| format!(", qemu {qemu}"));
    lines.push(format!("kernel {}{qemu}", report.kernel));
    if let Some(run) = runs.first() {
        let jobs = if run.numjobs == 1 { String::new() } else { format!(", {} jobs", run.numjobs) };
        lines.push(format!("{}, {} blocks{jobs}", run.rw, crate::table::size(run.bs)));
    }
    lines
}

fn draw(report: &Report, runs: &[Run]) -> anyhow::Result<String> {
    let (bars, head) = (bars(report, runs), head(report, runs));
    let (rows, lines) = (bars.rows.len() as i32, head.len() as i32);
    let legend = LINE * i32::from(!bars.legend.is_empty());
    let top = MARGIN + 26 + lines * LINE + legend + 14;
    let height = top + rows * ROW + 2 * MARGIN;
    let longest = bars.rows.iter().map(|bar| bar.label.chars().count()).max().unwrap_or(0);
    // Labels stand before it.
    let left = 2 * MARGIN + longest as i32 * LETTER;
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH as u32, height as u32)).into_drawing_area();
        area.fill(&WHITE)?;
        write(&area, bars.title, (MARGIN, MARGIN), TITLE_SIZE, HPos::Left)?;
        for (line, number) in head.iter().zip(0..) {
            write(&area, line, (MARGIN, MARGIN + 26 + number * LINE), TEXT_SIZE, HPos::Left)?;
        }
        for ((name, color), number) in bars.legend.iter().zip(0..) {
            let (x, y) = (left + number * 100, MARGIN + 26 + lines * LINE + 4);
            area.draw(&Rectangle::new([(x, y - 5), (x + 10, y + 5)], color.filled()))?;
            write(&area, name, (x + 15, y), TEXT_SIZE, HPos::Left)?;
        }
        let most = bars.rows.iter().map(Bar::length).fold(0.0, f64::max);
        let (step, bottom) = (step(most), top + rows * ROW);
        let scale = f64::from(BARS_END - left) / most.max(step);
        let x = |value: f64| left + (value * scale) as i32;
        for tick in (0..).map(|number| f64::from(number) * step).take_while(|tick| *tick <= most.max(step)) {
            area.draw(&PathElement::new([(x(tick), top - 6), (x(tick), bottom)], GREY))?;
            write(&area, &format!("{tick}"), (x(tick), bottom + 10), TEXT_SIZE, HPos::Center)?;
        }
        for (bar, number) in bars.rows.iter().zip(0..) {
            bar.draw(&area, (left, top + number * ROW), &x)?;
        }
        area.present()?;
    }
    Ok(text)
}

impl Bar {
    fn length(&self) -> f64 {
        self.parts.iter().map(|part| part.0).sum()
    }

    fn draw(&self, area: &Area<'_>, (left, top): (i32, i32), x: &impl Fn(f64) -> i32) -> anyhow::Result<()> {
        let middle = top + ROW / 2 - 3;
        write(area, &self.label, (left - 10, middle), TEXT_SIZE, HPos::Right)?;
        let mut begin = 0.0;
        for (part, color) in &self.parts {
            let corners = [(x(begin), top), (x(begin + part), top + ROW - 6)];
            area.draw(&Rectangle::new(corners, color.filled()))?;
            begin += part;
        }
        write(area, &self.figure, (x(begin) + 6, middle), TEXT_SIZE, HPos::Left)
    }
}

fn write(area: &Area<'_>, text: &str, at: (i32, i32), size: i32, side: HPos) -> anyhow::Result<()> {
    let style = TextStyle::from(("sans-serif", size)).color(&INK).pos(Pos::new(side, VPos::Center));
    // XML has no place for other control characters.
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Ok(area.draw(&Text::new(text, at, style))?)
}

/// A round number of which about four make up `most`.
fn step(most: f64) -> f64 {
    let rough = (most / TICKS).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(rough.log10().floor()).max(1.0);
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    steps.into_iter().find(|step| *step >= rough).unwrap_or(steps[3])
}

fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let full = lines.last().is_some_and(|line| !line.is_empty() && line.len() + word.len() >= LINE_CHARS);
        if full {
            lines.push("  ".to_owned());
        }
        if let Some(line) = lines.last_mut() {
            *line += if line.trim().is_empty() { "" } else { " " };
            *line += word;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;

    fn report() -> Report {
        let mut report = Report::new(Machine::this(), "dmaring compare <a> & \"b\" \u{1} 'ä'".to_owned());
        report.host = "host <&>".to_owned();
        report.emulated = false;
        let run = |device: &str, backend: &str, iops: f64| {
            let json = serde_json::json!({
                "device": device, "backend": backend, "completion": "poll", "rw": "randread", "bs": 4096,
                "iodepth": 32, "numjobs": 1, "seconds": 1.0, "ios": 1, "reads": 1, "writes": 0, "errors": 0,
                "iops": iops, "bytes_per_second": 0.0, "lat_ns": null, "syscalls_per_io": 0.0,
                "bytes_bounced_per_io": 0.0, "cpu_ns_per_io": 0.0, "doorbells_per_io": 0.0,
                "interrupts_per_io": 0.0, "slices": [],
            });
            serde_json::from_value::<Run>(json).unwrap()
        };
        report.runs = vec![run("pci:<1>", "nvme", 83889.4), run("/dev/x", "kernel", 0.0)];
        report.runs.push(run(&"d".repeat(100), "nvme", 1.0));
        report
    }

    fn texts(svg: &str) -> Vec<String> {
        let document = roxmltree::Document::parse(svg).unwrap_or_else(|error| panic!("{error} in {svg}"));
        let texts = document.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "text")));
        texts.map(|node| node.text().unwrap_or_default().trim().to_owned()).collect()
    }

    #[test]
    fn every_row_has_its_label_and_its_figure() {
        let report = report();
        let svg = draw(&report, &report.runs).unwrap();
        let texts = texts(&svg);
        for wanted in [
            "I/Os per second (more is better)",
            "dmaring compare <a> & \"b\" 'ä'",
            "host host <&>",
            "randread, 4 KiB blocks",
            "pci:<1>, nvme poll, depth 32",
            "83889",
            "/dev/x, kernel poll, depth 32",
            "0",
            &format!("…{}, nvme poll, depth 32", "d".repeat(39)),
        ] {
            let found = texts.iter().any(|text| text.split_whitespace().eq(wanted.split_whitespace()));
            assert!(found, "{wanted} is not in {texts:?}");
        }
    }

    #[test]
    fn ticks_are_round_and_few() {
        for (most, expected) in [(0.0, 1.0), (1.0, 1.0), (4.0, 1.0), (83_889.0, 50_000.0), (14_087.7, 5000.0)] {
            assert_eq!(step(most), expected, "{most}");
        }
    }

    #[test]
    fn long_commands_are_wrapped() {
        let lines = wrap(&"word ".repeat(100));
        assert!(lines.len() > 3 && lines.iter().all(|line| line.len() <= LINE_CHARS), "{lines:?}");
        assert_eq!(wrap("a b"), ["a b"]);
    }
}
