//! How many interrupts of a controller have come, whoever handles them.

use std::fs;

/// Of all vectors, on all CPUs; nothing where the kernel does not say.
pub fn taken(address: &str) -> Option<u64> {
    sum(&fs::read_to_string("/proc/interrupts").ok()?, address)
}

/// ` 35:   0   123  IR-PCI-MSIX-0000:00:04.0   1-edge   nvme0q1`, below a line with the CPUs.
fn sum(text: &str, address: &str) -> Option<u64> {
    let cpus = text.lines().next()?.split_whitespace().count();
    let of_controller = text.lines().filter(|line| line.contains(address));
    let counts = of_controller.map(|line| {
        let counts = line.split_whitespace().skip(1).take(cpus);
        counts.filter_map(|count| count.parse::<u64>().ok()).sum::<u64>()
    });
    Some(counts.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "           CPU0       CPU1
  4:       1092          3  IR-IO-APIC   4-edge      ttyS0
 28:          5          1  IR-PCI-MSIX-0000:00:04.0   0-edge      vfio-msix[0](0000:00:04.0)
 29:          0          7  IR-PCI-MSIX-0000:00:05.0   0-edge      nvme1q0
 30:         20        100  IR-PCI-MSIX-0000:00:05.0   1-edge      nvme1q1
LOC:       9000       9000   Local timer interrupts
";

    #[test]
    fn all_vectors_on_all_cpus_are_added_up() {
        assert_eq!(sum(TEXT, "0000:00:05.0"), Some(127));
        assert_eq!(sum(TEXT, "0000:00:04.0"), Some(6));
        assert_eq!(sum(TEXT, "0000:00:06.0"), Some(0));
        assert_eq!(sum("", "0000:00:06.0"), None);
    }
}
