//! What this machine has of user interrupts: asked of CPUID and of the module's device. Nothing is found out by
//! executing instructions (some of them are others where they are not known) or by numbers of system calls
//! (those of the series that was never merged are other calls now).

#![expect(unsafe_code)] // asks the module for its version

use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;

use crate::control::{DEVICE, INTERFACE, version};
use crate::error::Error;

/// What the machine has.
#[derive(Debug)]
pub struct Support {
    /// The processor has user interrupts: CPUID.(EAX=07H,ECX=0):EDX\[5\].
    pub processor: bool,
    /// The module is loaded, and what this process can do with it.
    pub module: Module,
}

/// The kernel module.
#[derive(Debug)]
pub enum Module {
    /// There is none.
    Absent,
    /// It is there, and speaks the interface of this crate.
    Usable,
    /// It is there, and speaks this version of the interface, which this crate does not.
    Other(i32),
    /// It is there, and cannot be asked.
    Unusable(Error),
}

impl Support {
    /// Finds out.
    #[must_use]
    pub fn detect() -> Self {
        Self { processor: processor(), module: module(DEVICE) }
    }

    /// Whether interrupts of the hardware can be had.
    #[must_use]
    pub fn hardware(&self) -> bool {
        self.processor && matches!(self.module, Module::Usable)
    }

    /// Why not, if they cannot, and what to do about it.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        if !self.processor {
            return Some("this processor has no user interrupts (CPUID.7.0:EDX bit 5 is clear)".into());
        }
        match &self.module {
            Module::Usable => None,
            Module::Absent => Some(format!("{DEVICE} is not there: load the module")),
            Module::Other(version) => Some(format!(
                "{DEVICE} speaks version {version}, and this program {INTERFACE}: load the module that belongs to it"
            )),
            Module::Unusable(error) => Some(error.to_string()),
        }
    }
}

fn processor() -> bool {
    const LEAF: u32 = 7;
    __cpuid(0).eax >= LEAF && __cpuid_count(LEAF, 0).edx & 1 << 5 != 0
}

fn module(path: &'static str) -> Module {
    let unusable = |reason| Module::Unusable(Error::Module { path, reason });
    let device = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(device) => device,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Module::Absent,
        Err(error) => return unusable(error),
    };
    // SAFETY: the call takes no argument, and its number is no other's.
    match unsafe { version(device.as_raw_fd()) } {
        Ok(INTERFACE) => Module::Usable,
        Ok(other) => Module::Other(other),
        Err(errno) => unusable(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_cpuinfo_is_what_is_found() {
        let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let flags = flags.lines().find(|line| line.starts_with("flags")).unwrap();
        // Kernels name only what they use; one that names it has seen the bit.
        assert!(!flags.split_whitespace().any(|flag| flag == "uintr") || processor());
    }

    #[test]
    fn a_device_that_is_none_of_the_modules_is_not_used() {
        assert!(matches!(module("/dev/no-such-device"), Module::Absent));
        let Module::Unusable(error) = module("/dev/null") else { panic!("it answers no version") };
        assert!(error.to_string().starts_with("/dev/null: "), "{error}");
        assert!(matches!(module("/proc"), Module::Unusable(_)));
    }

    #[test]
    fn who_has_no_hardware_is_told_why() {
        let support = |processor, module| Support { processor, module };
        assert_eq!(support(true, Module::Usable).obstacle(), None);
        for (support, word) in [
            (support(false, Module::Usable), "CPUID"),
            (support(true, Module::Absent), "load the module"),
            (support(true, Module::Other(9)), "version 9"),
        ] {
            assert!(!support.hardware());
            assert!(support.obstacle().unwrap().contains(word));
        }
        let here = Support::detect();
        assert_eq!(here.hardware(), here.obstacle().is_none());
    }
}
