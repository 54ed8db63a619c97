//! How a controller says it is: SMART and the latest errors.

use dmaring::Device;
use dmaring::spec::log::{ErrorEntry, SmartLog};
use serde::Serialize;

/// Errors shown in the table; JSON has all that the controller remembers.
const SHOWN: usize = 5;

/// What `info` shows of a controller's health.
#[derive(Debug, Serialize)]
pub struct HealthFacts {
    smart: Option<SmartFacts>,
    /// Why there is no SMART log.
    #[serde(skip_serializing_if = "Option::is_none")]
    smart_error: Option<String>,
    /// The latest first.
    errors: Option<Vec<ErrorFacts>>,
    /// Why there is no error log.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_log_error: Option<String>,
}

#[derive(Debug, Serialize)]
struct SmartFacts {
    critical_warnings: Vec<String>,
    /// Null where it is not reported.
    temperature_celsius: Option<i32>,
    available_spare_percent: u8,
    available_spare_threshold_percent: u8,
    percentage_used: u8,
    /// To the next 512,000.
    bytes_read: u128,
    /// To the next 512,000.
    bytes_written: u128,
    host_read_commands: u128,
    host_write_commands: u128,
    controller_busy_minutes: u128,
    power_cycles: u128,
    power_on_hours: u128,
    unsafe_shutdowns: u128,
    media_errors: u128,
    error_log_entries: u128,
}

#[derive(Debug, Serialize)]
struct ErrorFacts {
    number: u64,
    queue: u16,
    /// Null where the error belongs to no command.
    command: Option<u16>,
    status: String,
    block: u64,
    nsid: u32,
}

impl HealthFacts {
    pub fn of(device: &Device) -> Self {
        let (smart, smart_error) = split(device.smart());
        let (errors, error_log_error) = split(device.error_log());
        Self {
            smart: smart.as_ref().map(SmartFacts::of),
            smart_error,
            errors: errors.map(|entries| entries.iter().map(ErrorFacts::of).collect()),
            error_log_error,
        }
    }

    /// Rows of the table.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = match &self.smart {
            Some(smart) => smart.rows(),
            None => vec![("health", not_had(self.smart_error.as_deref()))],
        };
        match &self.errors {
            Some(errors) => rows.extend(errors.iter().take(SHOWN).map(|error| ("error", error.text()))),
            None => rows.push(("error log", not_had(self.error_log_error.as_deref()))),
        }
        rows
    }
}

fn not_had(why: Option<&str>) -> String {
    format!("cannot be had: {}", why.unwrap_or("unknown"))
}

fn split<T>(result: Result<T, dmaring::Error>) -> (Option<T>, Option<String>) {
    match result {
        Ok(value) => (Some(value), None),
        Err(error) => (None, Some(error.to_string())),
    }
}

/// Bytes to three digits, in the decimal units that disks are sold by.
fn amount(bytes: u128) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let step = (bytes.checked_ilog10().unwrap_or(0) as usize / 3).min(units.len() - 1);
    let digits = if step == 0 { 0 } else { 2 };
    format!("{:.digits$} {}", bytes as f64 / 1000f64.powi(step as i32), units[step])
}

impl SmartFacts {
    fn of(log: &SmartLog) -> Self {
        Self {
            critical_warnings: log.critical_warning.names().collect(),
            temperature_celsius: log.temperature_celsius(),
            available_spare_percent: log.available_spare_percent,
            available_spare_threshold_percent: log.available_spare_threshold_percent,
            percentage_used: log.percentage_used,
            bytes_read: log.bytes_read(),
            bytes_written: log.bytes_written(),
            host_read_commands: log.host_read_commands,
            host_write_commands: log.host_write_commands,
            controller_busy_minutes: log.controller_busy_minutes,
            power_cycles: log.power_cycles,
            power_on_hours: log.power_on_hours,
            unsafe_shutdowns: log.unsafe_shutdowns,
            media_errors: log.media_errors,
            error_log_entries: log.error_log_entries,
        }
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let temperature = self.temperature_celsius.map_or("not reported".to_owned(), |celsius| format!("{celsius} °C"));
        let warnings = self.critical_warnings.join(", ");
        vec![
            ("warnings", if warnings.is_empty() { "none".to_owned() } else { warnings }),
            ("temperature", temperature),
            (
                "spare",
                format!("{}%, at least {}%", self.available_spare_percent, self.available_spare_threshold_percent),
            ),
            ("life used", format!("{}%", self.percentage_used)),
            ("data read", amount(self.bytes_read)),
            ("data written", amount(self.bytes_written)),
            ("power", format!("{} hours, {} cycles", self.power_on_hours, self.power_cycles)),
            ("unsafe shutdowns", self.unsafe_shutdowns.to_string()),
            ("media errors", self.media_errors.to_string()),
            ("errors logged", self.error_log_entries.to_string()),
        ]
    }
}

impl ErrorFacts {
    fn of(entry: &ErrorEntry) -> Self {
        Self {
            number: entry.error_count,
            queue: entry.sq_id,
            command: (entry.cid != 0xffff).then_some(entry.cid),
            status: entry.status.to_string(),
            block: entry.lba,
            nsid: entry.nsid,
        }
    }

    fn text(&self) -> String {
        let Self { number, queue, status, block, nsid, .. } = self;
        match self.command {
            Some(command) => {
                format!("{number}: {status}; command {command} of queue {queue}, namespace {nsid}, block {block}")
            }
            None => format!("{number}: of queue {queue}, of no command"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_in_the_unit_that_suits_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (512_000, "512.00 kB"),
            (1_536_000, "1.54 MB"),
            (12_345_678_901_234, "12.35 TB"),
            (10u128.pow(24), "1000000.00 EB"),
        ] {
            assert_eq!(amount(bytes), text);
        }
        assert!(amount(u128::MAX).ends_with(" EB"));
    }

    #[test]
    fn what_was_refused_says_why() {
        let facts =
            HealthFacts { smart: None, smart_error: Some("x".into()), errors: None, error_log_error: Some("y".into()) };
        assert_eq!(
            facts.rows(),
            [("health", "cannot be had: x".to_owned()), ("error log", "cannot be had: y".to_owned())]
        );
    }

    #[test]
    fn the_latest_errors_are_shown() {
        let error = |number| ErrorFacts {
            number,
            queue: 1,
            command: (number != 2).then_some(7),
            status: "write fault".into(),
            block: 9,
            nsid: 1,
        };
        let errors = Some((1..=8).rev().map(error).collect());
        let facts = HealthFacts { smart: None, smart_error: None, errors, error_log_error: None };
        let rows = facts.rows();
        assert_eq!(rows.len(), 1 + SHOWN);
        assert_eq!(rows[1].1, "8: write fault; command 7 of queue 1, namespace 1, block 9");
        assert_eq!(error(2).text(), "2: of queue 1, of no command");
        assert!(serde_json::to_string(&facts).unwrap().contains("\"number\":2,\"queue\":1,\"command\":null"));
    }
}
