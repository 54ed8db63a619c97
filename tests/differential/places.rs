//! What the two sides are.

use std::sync::Arc;

use dmaring::model::{Model, ModelConfig};
use dmaring::{CompletionMode, Device};
use dmaring_dma::sysfs::Sysfs;

use super::feature::Features;
use super::generate::Limits;
use super::side::Side;
use crate::case::{Bench, Stop, Version, fail};
use crate::support::loop_device::LoopDevice;

/// Bytes of loop devices and models.
pub(super) const BYTES: u64 = 64 << 20;

/// The names of both sides.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) device: String,
    pub(super) kernel: Option<String>,
}

impl Default for Place {
    fn default() -> Self {
        Self { device: "model:".into(), kernel: None }
    }
}

impl Place {
    /// The features in which both sides do the same. Dmaring is at the level of 6.18.
    pub(super) fn features(&self) -> Features {
        Features::at(Version::running())
    }

    /// What programs may be.
    pub(super) fn limits(&self, features: Features) -> Limits {
        Limits { features, memory_alignment: 512, nvme: self.device.starts_with("pci:") }
    }

    fn is_kernel(&self) -> bool {
        !self.device.starts_with("model:") && !self.device.starts_with("pci:")
    }
}

/// For what a case runs on: a model beside a loop device, a controller beside another.
pub(super) fn of_bench(bench: &Bench) -> Result<(Place, Side, Side, Option<LoopDevice>), Stop> {
    let device = if bench.model.is_some() { "model:".to_owned() } else { bench.name.clone() };
    let place = Place { device, kernel: None };
    let (kernel, disk) = kernel_side(&place)?;
    Ok((place, kernel, Side::new(bench.clone())?, disk))
}

/// The kernel's side. The loop device goes last.
pub(super) fn kernel_side(place: &Place) -> Result<(Side, Option<LoopDevice>), Stop> {
    if let Some(path) = &place.kernel {
        return Ok((on_kernel(path)?, None));
    }
    if let Some(address) = place.device.strip_prefix("pci:") {
        return Ok((on_kernel(&other_disk(address)?)?, None));
    }
    on_loop_device()
}

fn on_loop_device() -> Result<(Side, Option<LoopDevice>), Stop> {
    let disk = LoopDevice::new(BYTES, false).map_err(Stop::Skip)?;
    Ok((on_kernel(disk.path())?, Some(disk)))
}

fn on_kernel(path: &str) -> Result<Side, Stop> {
    let mode = CompletionMode::Interrupt;
    Side::new(Bench { backend: "kernel", name: path.to_owned(), model: None, mode })
}

/// The disk of a controller that the kernel's driver has.
fn other_disk(address: &str) -> Result<String, Stop> {
    let controllers = Sysfs::new().nvme_controllers()?;
    let others = controllers.iter().filter(|controller| controller.address.to_string() != address);
    match others.flat_map(|controller| &controller.block_devices).next() {
        Some(disk) => Ok(format!("/dev/{}", disk.name)),
        None => fail("no other controller has a disk: name the kernel's with --kernel"),
    }
}

/// What is compared with it.
pub(super) fn other_sides(place: &Place) -> Result<(Vec<Side>, Option<LoopDevice>), Stop> {
    match place.device.as_str() {
        "kernel" => {
            let (side, disk) = on_loop_device()?;
            Ok((vec![side], disk))
        }
        "model:" => {
            let os = |reason| dmaring::Error::Os { call: "memory of the model", reason };
            let config = ModelConfig::ram(BYTES).map_err(os)?;
            let stepped = Device::on(Arc::new(Model::stepped("model:", config)))?;
            let threaded = Device::open(&format!("model:{BYTES}"))?;
            let side = |device: Device, mode| {
                Side::new(Bench { backend: "model", name: device.name(), model: Some(device), mode })
            };
            Ok((vec![side(stepped, CompletionMode::Poll)?, side(threaded, CompletionMode::Interrupt)?], None))
        }
        name => {
            let mode = if place.is_kernel() { CompletionMode::Interrupt } else { CompletionMode::Poll };
            let bench = Bench { backend: "device", name: name.to_owned(), model: None, mode };
            Ok((vec![Side::new(bench)?], None))
        }
    }
}
