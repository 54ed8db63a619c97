//! What cannot be opened, and how the error helps.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;

use dmaring::{Device, Ring};

use super::helper::{self, Running};
use super::zoo::{self, ABSENT, KERNEL, OTHER, PLAIN, SECOND, SIBLINGS};
use crate::case::{Bench, Case, Outcome, Stop, cases, fail};

pub(super) const ALL: &[Case] = cases![
    an_absent_function_is_refused,
    a_function_of_the_kernels_driver_is_refused,
    a_fallback_happens_only_when_asked_for,
    a_function_that_is_not_nvme_is_refused,
    a_group_that_another_process_has_is_busy,
    a_user_without_the_right_is_refused,
    a_group_with_a_sibling_on_the_kernels_driver_is_not_viable,
    names_that_cannot_be_are_refused,
    impossible_numbers_of_entries_touch_nothing,
];

/// The error of opening a name, which must say all of `parts`, in one line.
fn refused(name: &str, parts: &[&str]) -> Result<dmaring::Error, Stop> {
    match Ring::builder(8).open(name) {
        Ok(_) => fail(format!("{name} was opened")),
        Err(error) => {
            let text = error.to_string();
            for part in parts {
                assert!(text.contains(part), "`{part}` is not in: {text}");
            }
            assert!(!text.contains('\n'), "{text}");
            Ok(error)
        }
    }
}

fn an_absent_function_is_refused(_: &Bench) -> Outcome {
    refused(&format!("pci:{ABSENT}"), &[ABSENT, "no PCI function"])?;
    let Err(error) = Device::open(&format!("pci:{ABSENT}")) else { return fail("it was opened") };
    assert!(error.to_string().contains(ABSENT), "{error}");
    Ok(())
}

fn a_function_of_the_kernels_driver_is_refused(_: &Bench) -> Outcome {
    let address = zoo::address(KERNEL).to_string();
    refused(&zoo::name(KERNEL, 1), &[&address, "nvme", "vfio-pci", "bind"])?;
    Ok(())
}

fn a_fallback_happens_only_when_asked_for(_: &Bench) -> Outcome {
    let name = zoo::name(KERNEL, 1);
    let builder = Ring::builder(8).completion(dmaring::CompletionMode::Interrupt);
    let ring = builder.clone().fallback(true).open(&name)?;
    assert_eq!(ring.backend(), dmaring::Backend::Kernel);
    let reason = ring.fallback_reason().map(ToString::to_string).unwrap_or_default();
    assert!(reason.contains("vfio-pci"), "{reason}");
    let mut rig = crate::support::rig::Rig::new(ring);
    rig.put(1, 0, 8192)?;
    rig.expect(1, 0, 8192)?;
    // Bound to vfio-pci, there is nothing to fall back from; absent, nothing to fall back to.
    zoo::bind(PLAIN)?;
    let ring = builder.clone().fallback(true).open(&zoo::name(PLAIN, 1))?;
    assert_eq!(ring.backend(), dmaring::Backend::Nvme);
    assert!(ring.fallback_reason().is_none());
    assert!(builder.fallback(true).open(&format!("pci:{ABSENT}")).is_err());
    Ok(())
}

fn a_function_that_is_not_nvme_is_refused(_: &Bench) -> Outcome {
    refused(&format!("pci:{OTHER}"), &[OTHER])?;
    let sysfs = |file: &str| format!("/sys/bus/pci/devices/{OTHER}/{file}");
    std::fs::write(sysfs("driver_override"), "vfio-pci")?;
    std::fs::write("/sys/bus/pci/drivers_probe", OTHER)?;
    refused(&format!("pci:{OTHER}"), &[OTHER, "not an NVMe controller", "class"])?;
    std::fs::write(sysfs("driver/unbind"), OTHER)?;
    std::fs::write(sysfs("driver_override"), "\n")?;
    Ok(())
}

fn a_group_that_another_process_has_is_busy(_: &Bench) -> Outcome {
    zoo::bind(SECOND)?;
    let mut holder = Running(helper::command("hold", &[&zoo::name(SECOND, 1)]).spawn()?);
    let mut said = String::new();
    if let Some(out) = holder.0.stdout.take() {
        BufReader::new(out).read_line(&mut said)?;
    }
    assert_eq!(said, "held\n");
    let pid = holder.0.id().to_string();
    let error = refused(&zoo::name(SECOND, 1), &[&pid, "in use", &zoo::address(SECOND).to_string()])?;
    assert_eq!(error.errno(), libc::EBUSY);
    let unbound = dmaring_dma::sysfs::Sysfs::new().unbind(zoo::address(SECOND));
    let text = unbound.expect_err("unbound while it is held").to_string();
    assert!(text.contains(&pid), "{text}");
    drop(holder);
    zoo::rig(SECOND, 8)?.put(1, 0, 4096)?;
    Ok(())
}

fn a_user_without_the_right_is_refused(_: &Bench) -> Outcome {
    zoo::bind(SECOND)?;
    let mut child = helper::command("open", &[&zoo::name(SECOND, 1)]).uid(65534).gid(65534).spawn()?;
    let mut said = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut said)?;
    }
    child.wait()?;
    assert!(said.starts_with("error: ") && said.contains("/dev/vfio/") && said.contains("root"), "{said}");
    Ok(())
}

fn a_group_with_a_sibling_on_the_kernels_driver_is_not_viable(_: &Bench) -> Outcome {
    let sysfs = dmaring_dma::sysfs::Sysfs::new();
    sysfs.bind(SIBLINGS[0].parse()?, dmaring_dma::sysfs::BindOptions::default())?;
    refused(&format!("pci:{}", SIBLINGS[0]), &["not viable", SIBLINGS[1], "nvme", "unbind"])?;
    sysfs.unbind(SIBLINGS[0].parse()?)?;
    Ok(())
}

fn names_that_cannot_be_are_refused(_: &Bench) -> Outcome {
    for name in ["", "pci:", "pci:zz", "pci:0000:00:04.0/0", "pci:0000:00:04.9", "pci:0000:00:04.0/4294967295"] {
        let error = refused(name, &["pci:0000:00:04.0"])?;
        assert_eq!(error.errno(), libc::EINVAL);
    }
    refused("/nonexistent/file", &["/nonexistent/file"])?;
    refused("/dev", &["/dev", "neither"])?;
    refused("/dev/null", &["/dev/null", "neither"])?;
    Ok(())
}

fn impossible_numbers_of_entries_touch_nothing(_: &Bench) -> Outcome {
    for entries in [0, 40_000] {
        let Err(error) = Ring::builder(entries).open(&format!("pci:{ABSENT}")) else { return fail("it was opened") };
        assert!(error.to_string().contains(&entries.to_string()), "checked before the device is: {error}");
    }
    Ok(())
}
