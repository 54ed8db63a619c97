//! Counting instructions and MMIO accesses in a guest: what QEMU counted, beside what the guest measured.

mod interrupts;
pub mod operations;
pub mod rows;

use anyhow::bail;
use comfy_table::{CellAlignment, Table};
use dmaring_qemu::Section;

use self::operations::OperationRun;
use crate::report::{Counted, Report, Run};
use crate::table;

/// The sections of a run, for people.
pub fn sections(sections: &[Section]) -> String {
    if sections.is_empty() {
        return "dmaring: nothing was counted: the command has run no marked section\n".to_owned();
    }
    let mut table = table::new(&[
        "section",
        "user",
        "kernel",
        "empty polls",
        "their user",
        "their kernel",
        "NVMe MMIO",
        "other MMIO",
    ]);
    for section in sections {
        let all: u64 = section.mmio.iter().map(|accesses| accesses.reads + accesses.writes).sum();
        let nvme = section.nvme_accesses();
        let numbers = [
            section.index,
            section.user,
            section.kernel,
            section.empty_polls,
            section.empty_user,
            section.empty_kernel,
            nvme,
            all - nvme,
        ];
        table.add_row(numbers.map(|number| number.to_string()));
    }
    align(&mut table, 0);
    format!("{table}\n")
}

/// Gives each run what was counted meanwhile: they come in the same order, one section each.
///
/// # Errors
/// They do not fit together.
pub fn merge(report: &mut Report, sections: &[Section]) -> anyhow::Result<()> {
    let (jobs, counted) = (report.runs.len() + report.operations.len(), sections.len());
    if jobs != counted {
        bail!("the guest has run {jobs} jobs, and QEMU has counted {counted}: one of them is mistaken");
    }
    let (of_runs, of_operations) = sections.split_at(report.runs.len());
    for (run, section) in report.runs.iter_mut().zip(of_runs) {
        let interrupts = run.interrupts_per_io * run.ios as f64;
        run.counted = Some(Counted::new(section.clone(), run.ios, interrupts.round() as u64));
    }
    for (operation, section) in report.operations.iter_mut().zip(of_operations) {
        operation.set_counted(section);
    }
    Ok(())
}

/// The report, for people.
pub fn render(report: &Report) -> String {
    let mut text = table::head(report);
    if let Some(run) = report.runs.first() {
        text += &format!("job     {} blocks, {} I/Os a row, one thread\n", table::size(run.bs), run.ios);
    }
    text += "counted guest instructions per I/O, empty polls apart; polling, the kernel's are timer ticks\n";
    text += &format!("{}\n", counts(&report.runs));
    if !report.operations.is_empty() {
        text += "operations of the engine, per pair or read; nvme polls, the kernel has interrupts\n";
        text += &format!("{}\n", operation_counts(&report.operations));
    }
    for note in &report.notes {
        text += &format!("{note}\n");
    }
    text
}

fn counts(runs: &[Run]) -> Table {
    let header = ["backend", "completion", "job", "depth", "user", "kernel", "sum", "MMIO", "syscalls", "I/Os/IRQ"];
    let mut table = table::new(&header);
    for run in runs {
        let Some(counted) = &run.counted else { continue };
        let (user, kernel) = (counted.user_instructions_per_io, counted.kernel_instructions_per_io);
        table.add_row([
            run.backend.clone(),
            run.completion.clone(),
            if run.plain { format!("{}, plain", run.rw) } else { run.rw.clone() },
            run.iodepth.to_string(),
            format!("{user:.1}"),
            format!("{kernel:.1}"),
            format!("{:.1}", user + kernel),
            format!("{:.3}", counted.mmio_per_io),
            format!("{:.3}", run.syscalls_per_io),
            counted.completions_per_interrupt.map_or_else(|| "-".to_owned(), |ios| format!("{ios:.2}")),
        ]);
    }
    align(&mut table, 3);
    table
}

fn operation_counts(runs: &[OperationRun]) -> Table {
    let header = ["backend", "operation", "at once", "per", "user", "kernel", "sum", "MMIO", "syscalls"];
    let mut table = table::new(&header);
    for run in runs {
        let Some(each) = &run.counted else { continue };
        let (user, kernel) = (each.user_instructions, each.kernel_instructions);
        table.add_row([
            run.backend.clone(),
            run.operation.clone(),
            run.at_once.to_string(),
            run.per.clone(),
            format!("{user:.1}"),
            format!("{kernel:.1}"),
            format!("{:.1}", user + kernel),
            format!("{:.3}", each.mmio),
            format!("{:.3}", run.syscalls),
        ]);
    }
    align(&mut table, 2);
    table
}

/// Numbers stand at the right, from column `first` on.
fn align(table: &mut Table, first: usize) {
    for column in table.column_iter_mut().skip(first) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;

    #[test]
    fn a_section_too_few_is_no_report() {
        let mut report = Report::new(Machine::this(), String::new());
        assert!(merge(&mut report, &[]).is_ok());
        let error = merge(&mut report, &[Section::default()]).unwrap_err().to_string();
        assert!(error.contains("0 jobs") && error.contains("counted 1"), "{error}");
    }

    #[test]
    fn operations_have_the_sections_behind_those_of_the_runs() {
        let mut report = Report::new(Machine::this(), String::new());
        let operation = |name: &str| {
            let json = serde_json::json!({
                "device": "x", "backend": "nvme", "completion": "poll", "operation": name, "per": "pair",
                "at_once": 16, "bs": 4096, "count": 100, "errors": 0, "syscalls": 0.25,
            });
            serde_json::from_value::<OperationRun>(json).unwrap()
        };
        assert!(!render(&report).contains("operations"), "{}", render(&report));
        report.operations = vec![operation("first"), operation("second")];
        let section = |user| Section { user, kernel: 50, ..Section::default() };
        assert!(merge(&mut report, &[section(1)]).is_err());
        merge(&mut report, &[section(1000), section(2000)]).unwrap();
        let text = render(&report);
        for row in ["nvme first 16 pair 10.0 0.5 10.5 0.000 0.250", "nvme second 16 pair 20.0 0.5 20.5 0.000 0.250"] {
            assert!(text.lines().any(|line| line.split_whitespace().eq(row.split(' '))), "{row} is not in {text}");
        }
        let again: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(render(&again), text);
    }

    #[test]
    fn sections_are_told_in_rows() {
        assert!(sections(&[]).contains("no marked section"));
        let text = sections(&[Section { index: 0, user: 12345, empty_user: 678, ..Section::default() }]);
        assert!(text.contains("12345") && text.contains("678"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    }
}
