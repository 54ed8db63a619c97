//! The machine a measurement was made on.

use std::fs;

use nix::sys::utsname::uname;

/// What a report says of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its name, processor and number of CPUs.
    pub host: String,
    /// The kernel's release.
    pub kernel: String,
    /// The emulator's machine and accelerator, in a guest of QEMU.
    pub qemu: Option<String>,
    /// Whether instructions are emulated, so that times mean little.
    pub emulated: bool,
}

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        let (host, kernel) = match uname() {
            Ok(names) => {
                let text = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
                (text(names.nodename()), text(names.release()))
            }
            Err(_) => ("unknown".to_owned(), "unknown".to_owned()),
        };
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let processor = processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        let plural = if cpus == 1 { "" } else { "s" };
        let accelerator = accelerator();
        let qemu = qemu(accelerator);
        Self {
            host: format!("{host}, {processor}, {cpus} CPU{plural}"),
            kernel,
            emulated: accelerator == Some("tcg"),
            qemu,
        }
    }
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn qemu(accelerator: Option<&str>) -> Option<String> {
    let dmi = |name: &str| {
        let text = fs::read_to_string(format!("/sys/class/dmi/id/{name}")).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let is_qemu = dmi("sys_vendor").as_deref() == Some("QEMU");
    if !is_qemu && accelerator != Some("tcg") {
        return None;
    }
    let machine = dmi("product_version").or_else(|| dmi("product_name"));
    let machine = machine.unwrap_or_else(|| "QEMU".to_owned());
    Some(format!("{machine} ({})", accelerator.unwrap_or("unknown accelerator")))
}

/// The hypervisor's signature, CPUID leaf 0x40000000.
#[cfg(target_arch = "x86_64")]
fn accelerator() -> Option<&'static str> {
    use std::arch::x86_64::__cpuid;
    const HYPERVISOR: u32 = 1 << 31;
    if __cpuid(1).ecx & HYPERVISOR == 0 {
        return None;
    }
    let leaf = __cpuid(0x4000_0000);
    let words = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes);
    match words.as_flattened() {
        b"TCGTCGTCGTCG" => Some("tcg"),
        b"KVMKVMKVM\0\0\0" => Some("kvm"),
        _ => None,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn accelerator() -> Option<&'static str> {
    None
}
