//! Which cases run where, and the guests they run in.

use std::time::Duration;

use dmaring::CompletionMode;
use dmaring_dma::pci::PciAddress;
use dmaring_dma::sysfs::{BindOptions, Sysfs};
use dmaring_qemu::{Controller, Namespace, Storage, Vm};

use super::run::DEVICE_BYTES;
use crate::case::{Bench, Case, Stop, fail};
use crate::{cases, devices, differential};

/// Much more than any machine takes: it ends a guest that hangs.
const LIMIT: Duration = Duration::from_secs(1200);

/// A guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Machine {
    /// Two controllers: one for dmaring, one for the kernel.
    Pair,
    /// As `Pair`, for those who wait by interrupt: one guest for all takes too long.
    Other,
    /// A controller for each thing that controllers differ in.
    Zoo,
    /// No IOMMU.
    Bare,
}

/// A backend and the cases that run on it.
#[derive(Clone, Debug)]
pub(super) struct Suite {
    pub(super) backend: &'static str,
    /// Where it runs; `None` is this machine.
    pub(super) machine: Option<Machine>,
    lists: &'static [&'static [Case]],
}

impl Suite {
    pub(super) fn cases(&self) -> impl Iterator<Item = Case> {
        self.lists.iter().flat_map(|list| list.iter().copied())
    }
}

/// All backends.
pub(super) fn suites() -> Vec<Suite> {
    let on = |backend, machine, lists| Suite { backend, machine, lists };
    vec![
        on("kernel_loop", None, cases::COMMON),
        on("model_stepped", None, cases::COMMON_AND_DEVICE),
        on("model_stepped_interrupt", None, cases::COMMON_AND_DEVICE),
        on("model_threaded", None, cases::COMMON_AND_DEVICE),
        on("model_threaded_interrupt", None, cases::COMMON_AND_DEVICE),
        on("model_threaded_adaptive", None, cases::COMMON_AND_DEVICE),
        on("model_shadow_doorbells", None, cases::COMMON_AND_DEVICE),
        on("model_against_kernel", None, differential::ON_MODEL),
        on("guest_kernel", Some(Machine::Pair), cases::COMMON),
        on("pci_poll", Some(Machine::Pair), cases::COMMON_AND_DEVICE),
        on("pci_interrupt", Some(Machine::Other), cases::COMMON_AND_DEVICE),
        on("pci_adaptive", Some(Machine::Other), cases::WAITING),
        on("pci_against_kernel", Some(Machine::Pair), differential::ALL),
        on("pci", Some(Machine::Zoo), devices::ZOO),
        on("no_iommu", Some(Machine::Bare), devices::BARE),
    ]
}

impl Machine {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Other => "other",
            Self::Zoo => "zoo",
            Self::Bare => "bare",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Pair, Self::Other, Self::Zoo, Self::Bare].into_iter().find(|machine| machine.name() == name)
    }

    /// The guest, without the files that go into it.
    pub(super) fn vm(self) -> Result<Vm, String> {
        let plain = || Controller::new(vec![Namespace::new(Storage::Mem { size_bytes: DEVICE_BYTES })]);
        let vm = Vm::new().time_limit(Some(LIMIT));
        Ok(match self {
            Self::Pair | Self::Other => vm.controller(plain()).controller(plain()),
            Self::Zoo => devices::zoo::vm(vm)?,
            Self::Bare => vm.iommu(false).controller(plain()),
        })
    }

    /// Makes the guest ready for its cases; runs in it.
    pub(super) fn set_up(self) -> Result<(), Stop> {
        match self {
            Self::Pair | Self::Other => bind(0),
            Self::Zoo | Self::Bare => Ok(()),
        }
    }

    /// What the cases of `backend` run on; asked in the guest.
    pub(super) fn bench(self, backend: &str) -> Result<Bench, Stop> {
        let first = format!("pci:{}", Vm::controller_address(0));
        let bench = |backend, name, mode| Ok(Bench { backend, name, model: None, mode });
        match backend {
            "pci_poll" => bench("pci_poll", first, CompletionMode::Poll),
            "pci_against_kernel" => bench("pci_against_kernel", first, CompletionMode::Poll),
            "pci_interrupt" => bench("pci_interrupt", first, CompletionMode::Interrupt),
            "pci_adaptive" => bench("pci_adaptive", first, CompletionMode::Adaptive),
            "guest_kernel" => bench("guest_kernel", block_device(1)?, CompletionMode::Interrupt),
            "pci" => bench("pci", first, CompletionMode::Poll),
            "no_iommu" => bench("no_iommu", first, CompletionMode::Poll),
            other => fail(format!("no backend {other}")),
        }
    }
}

fn address(index: usize) -> Result<PciAddress, Stop> {
    Ok(Vm::controller_address(index).parse()?)
}

fn bind(index: usize) -> Result<(), Stop> {
    Sysfs::new().bind(address(index)?, BindOptions::default())?;
    Ok(())
}

fn block_device(index: usize) -> Result<String, Stop> {
    let function = Sysfs::new().function(address(index)?)?;
    match function.block_devices.first() {
        Some(device) => Ok(format!("/dev/{}", device.name)),
        None => fail(format!("controller {index} has no block device")),
    }
}
