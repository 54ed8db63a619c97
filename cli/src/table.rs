//! Reports as people read them.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};

use crate::report::{Report, Run};

/// A table in the style of all of this command.
pub fn new(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table
}

/// What a report was made with, and on.
pub fn head(report: &Report) -> String {
    let mut text = format!("{}\nhost    {}\nkernel  {}\n", report.command, report.host, report.kernel);
    if let Some(qemu) = &report.qemu {
        text += &format!("qemu    {qemu}\n");
    }
    text
}

/// The whole report: counts first, as they mean something everywhere.
pub fn render(report: &Report) -> String {
    let mut text = head(report);
    let runs = if report.summary.is_empty() { &report.runs } else { &report.summary };
    if let Some(run) = runs.first() {
        text += &format!("job     {}\n", job(run));
    }
    if report.emulated {
        text += "times   emulated (marked ~): good for comparing the rows of one table, not with hardware\n";
    }
    text += &format!("{}\n", figures(runs, report.emulated));
    for note in &report.notes {
        text += &format!("{note}\n");
    }
    text
}

fn job(run: &Run) -> String {
    let jobs = match run.numjobs {
        1 => String::new(),
        jobs => format!(", {jobs} jobs"),
    };
    format!("{}, {} blocks, depth {}{jobs}", run.rw, size(run.bs), run.iodepth)
}

fn figures(runs: &[Run], emulated: bool) -> Table {
    let mark = if emulated { "~" } else { "" };
    let timed = |name: &str| format!("{mark}{name}");
    let mut table = new(&[]);
    table.set_header([
        "device".to_owned(),
        "backend".to_owned(),
        "completion".to_owned(),
        "I/Os".to_owned(),
        "errors".to_owned(),
        "syscalls/IO".to_owned(),
        "bounced B/IO".to_owned(),
        timed("CPU ns/IO"),
        timed("IOPS"),
        timed("mean"),
        timed("p50"),
        timed("p99"),
        timed("p99.9 µs"),
        "data".to_owned(),
    ]);
    for run in runs {
        let latency = |pick: fn(&crate::report::Latency) -> f64| {
            run.lat_ns.as_ref().map_or_else(|| "-".to_owned(), |all| micros(pick(all)))
        };
        table.add_row([
            run.device.clone(),
            run.backend.clone(),
            run.completion.clone(),
            run.ios.to_string(),
            run.errors.to_string(),
            format!("{:.4}", run.syscalls_per_io),
            format!("{:.0}", run.bytes_bounced_per_io),
            format!("{:.0}", run.cpu_ns_per_io),
            format!("{:.0}", run.iops),
            latency(|all| all.mean),
            latency(|all| all.p50 as f64),
            latency(|all| all.p99 as f64),
            latency(|all| all.p999 as f64),
            data(run),
        ]);
    }
    for column in table.column_iter_mut().skip(3).take(10) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn data(run: &Run) -> String {
    match &run.verified {
        None => "not checked".to_owned(),
        Some(checked) if checked.wrong > 0 => format!("{} blocks WRONG", checked.wrong),
        Some(checked) if checked.cut_short => format!("good ({} blocks, cut short)", checked.blocks),
        Some(_) => "good".to_owned(),
    }
}

fn micros(ns: f64) -> String {
    format!("{:.1}", ns / 1e3)
}

/// Bytes in the largest unit that divides them.
pub fn size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, shift)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    match unit {
        Some((name, shift)) => format!("{} {name}", bytes >> shift),
        None => format!("{bytes} B"),
    }
}

/// Names and values, one a line.
pub fn pairs(rows: &[(&str, String)]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    for (name, value) in rows {
        table.add_row([Cell::new(name), Cell::new(value)]);
    }
    format!("{}\n", table.trim_fmt())
}
