//! A machine without an IOMMU.

use dmaring::{Backend, CompletionMode, Ring};
use dmaring_dma::sysfs::{BindOptions, Sysfs};

use crate::case::{Bench, Case, Outcome, cases, fail};
use crate::support::rig::Rig;

pub(super) const ALL: &[Case] = cases![
    opening_without_an_iommu_says_so,
    binding_without_an_iommu_is_refused,
    the_kernel_serves_where_there_is_no_iommu,
];

fn opening_without_an_iommu_says_so(bench: &Bench) -> Outcome {
    let Err(error) = Ring::builder(8).open(&bench.name) else { return fail("it was opened") };
    let text = error.to_string();
    assert!(text.contains("IOMMU") && text.contains("intel_iommu=on"), "{text}");
    assert!(!text.contains('\n'), "{text}");
    Ok(())
}

fn binding_without_an_iommu_is_refused(bench: &Bench) -> Outcome {
    let address = bench.name.trim_start_matches("pci:").parse()?;
    let Err(error) = Sysfs::new().bind(address, BindOptions::default()) else { return fail("it was bound") };
    assert!(error.to_string().contains("IOMMU"), "{error}");
    let function = Sysfs::new().function(address)?;
    assert_eq!(function.driver.as_deref(), Some("nvme"), "nothing was touched");
    assert_eq!(function.driver_override, None);
    Ok(())
}

fn the_kernel_serves_where_there_is_no_iommu(bench: &Bench) -> Outcome {
    let builder = Ring::builder(8).completion(CompletionMode::Interrupt).fallback(true);
    let ring = builder.open(&bench.name)?;
    assert_eq!(ring.backend(), Backend::Kernel);
    let reason = ring.fallback_reason().map(ToString::to_string).unwrap_or_default();
    assert!(reason.contains("IOMMU"), "{reason}");
    let mut rig = Rig::new(ring);
    rig.put(1, 0, 65536)?;
    rig.expect(1, 0, 65536)?;
    Ok(())
}
