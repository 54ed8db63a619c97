//! `dmaring info`: what a device is and what it can do.

use std::path::PathBuf;

use clap::Args;
use dmaring::{Device, DeviceName};
use serde::Serialize;

use crate::guard;
use crate::health::HealthFacts;
use crate::output::{self, JsonSink};
use crate::plan::Extent;
use crate::table::{pairs, size};
use crate::target::Target;

/// `dmaring info`.
#[derive(Debug, Args)]
pub struct InfoCommand {
    /// pci:ADDRESS, model:SIZE, or the path of a file or block device
    device: String,
    /// Write it as JSON; - is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
enum Info {
    Controller(Box<ControllerFacts>),
    Path(PathFacts),
}

#[derive(Debug, Serialize)]
struct ControllerFacts {
    device: String,
    model: String,
    serial: String,
    firmware: String,
    nvme_version: String,
    /// Null is no limit.
    max_transfer_bytes: Option<u64>,
    max_queue_entries: u32,
    queue_pairs: u16,
    vectors: u16,
    ready_timeout_ms: u64,
    volatile_write_cache: bool,
    namespaces: Vec<NamespaceFacts>,
    health: HealthFacts,
}

#[derive(Debug, Serialize)]
struct NamespaceFacts {
    nsid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_bytes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_only: Option<bool>,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    unusable: Option<String>,
}

#[derive(Debug, Serialize)]
struct PathFacts {
    device: String,
    size_bytes: u64,
    block_bytes: u32,
    read_only: bool,
}

impl InfoCommand {
    /// Opens the device, looks, and gives it back.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn run(&self) -> anyhow::Result<()> {
        let json = self.json.as_deref().map(JsonSink::open).transpose()?;
        let info = match self.device.parse::<DeviceName>()? {
            DeviceName::Pci { nsid, .. } | DeviceName::Model { nsid, .. } => {
                let device = Device::open(&self.device)?;
                // The whole controller is shown; a namespace that was asked for must be there.
                if nsid != 1 {
                    device.namespace(nsid)?;
                }
                Info::Controller(Box::new(ControllerFacts::of(&device)))
            }
            _ => Info::Path(guard::extent(&Target::open(&self.device, false)?)?.into()),
        };
        let text = match &info {
            Info::Controller(facts) => facts.text(),
            Info::Path(facts) => facts.text(),
        };
        output::publish(json, &info, &text)
    }
}

impl ControllerFacts {
    fn of(device: &Device) -> Self {
        let (info, identify) = (device.info(), &device.info().identify);
        let usable = device.namespaces().iter().map(|namespace| NamespaceFacts {
            nsid: namespace.nsid,
            size_bytes: Some(namespace.size_bytes()),
            block_bytes: Some(namespace.block_bytes()),
            read_only: Some(namespace.read_only),
            unusable: None,
        });
        let unusable = device.unusable().iter().map(|(nsid, why)| NamespaceFacts {
            nsid: *nsid,
            size_bytes: None,
            block_bytes: None,
            read_only: None,
            unusable: Some(why.clone()),
        });
        let mut namespaces: Vec<NamespaceFacts> = usable.chain(unusable).collect();
        namespaces.sort_by_key(|namespace| namespace.nsid);
        Self {
            device: device.name(),
            model: identify.model.clone(),
            serial: identify.serial.clone(),
            firmware: identify.firmware.clone(),
            nvme_version: info.version.to_string(),
            max_transfer_bytes: info.max_transfer_bytes,
            max_queue_entries: info.cap.max_queue_entries(),
            queue_pairs: info.queue_pairs,
            vectors: info.vectors,
            ready_timeout_ms: info.cap.timeout_ms(),
            volatile_write_cache: identify.has_volatile_write_cache(),
            namespaces,
            health: HealthFacts::of(device),
        }
    }

    fn text(&self) -> String {
        let yes_no = |yes| if yes { "yes" } else { "no" };
        let limit = self.max_transfer_bytes.map_or("no limit".to_owned(), size);
        let mut rows = vec![
            ("device", self.device.clone()),
            ("model", self.model.clone()),
            ("serial", self.serial.clone()),
            ("firmware", self.firmware.clone()),
            ("NVMe", self.nvme_version.clone()),
            ("longest command", limit),
            ("queue pairs", format!("{}, of up to {} entries", self.queue_pairs, self.max_queue_entries)),
            ("vectors", self.vectors.to_string()),
            ("ready within", format!("{} ms", self.ready_timeout_ms)),
            ("write cache", yes_no(self.volatile_write_cache).to_owned()),
        ];
        for namespace in &self.namespaces {
            rows.push(("namespace", namespace.text()));
        }
        if self.namespaces.is_empty() {
            rows.push(("namespace", "none is active".to_owned()));
        }
        rows.extend(self.health.rows());
        pairs(&rows)
    }
}

impl NamespaceFacts {
    fn text(&self) -> String {
        let (nsid, bytes, block) = (self.nsid, self.size_bytes, self.block_bytes);
        match (&self.unusable, bytes, block) {
            (None, Some(bytes), Some(block)) => {
                let only = if self.read_only == Some(true) { ", read-only" } else { "" };
                format!("{nsid}: {} in blocks of {block} bytes{only}", size(bytes))
            }
            (why, _, _) => format!("{nsid}: cannot be used: {}", why.as_deref().unwrap_or("unknown")),
        }
    }
}

impl From<Extent> for PathFacts {
    fn from(extent: Extent) -> Self {
        Self {
            device: extent.name,
            size_bytes: extent.size_bytes,
            block_bytes: extent.block_bytes,
            read_only: extent.read_only,
        }
    }
}

impl PathFacts {
    fn text(&self) -> String {
        pairs(&[
            ("device", self.device.clone()),
            ("size", format!("{} ({} bytes)", size(self.size_bytes), self.size_bytes)),
            ("blocks of", format!("{} bytes", self.block_bytes)),
            ("writable", if self.read_only { "no" } else { "yes" }.to_owned()),
            ("served by", "kernel io_uring".to_owned()),
        ])
    }
}
