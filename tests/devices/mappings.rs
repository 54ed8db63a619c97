//! Mappings: limits, huge pages, and addresses that are used again.

use dmaring::DmaError;

use super::zoo::{self, PLAIN};
use crate::case::{Bench, Case, Outcome, Stop, cases, fail};
use crate::support::pattern;
use crate::support::raw::Memory;
use crate::support::rig::{read, read_fixed};

pub(super) const ALL: &[Case] = cases![
    more_mappings_than_the_kernel_allows_is_an_error_that_names_the_limit,
    buffers_side_by_side_take_one_mapping,
    huge_pages_are_used_when_there_are_any,
    an_address_that_is_mapped_anew_leads_to_the_new_memory,
    registered_buffers_of_many_lengths_at_one_address_are_told_apart,
];

const LIMIT: &str = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit";

/// Puts a setting of the kernel back when the case ends.
struct Setting(&'static str, String);

impl Setting {
    fn set(path: &'static str, value: &str) -> Result<Self, Stop> {
        let before = std::fs::read_to_string(path)?;
        std::fs::write(path, value)?;
        Ok(Self(path, before))
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0, self.1.trim());
    }
}

fn more_mappings_than_the_kernel_allows_is_an_error_that_names_the_limit(_: &Bench) -> Outcome {
    zoo::bind(PLAIN)?;
    let _limit = Setting::set(LIMIT, "100")?;
    let mut rig = zoo::rig(PLAIN, 8)?;
    let memory = rig.plain(400 * 4096);
    // Every other page, so that no two share a mapping.
    let parts: Vec<Memory> = (0..200).map(|i| memory.part(i * 8192, 4096)).collect();
    let error = rig.register(&parts.iter().collect::<Vec<_>>()).expect_err("200 mappings of 100");
    let text = error.to_string();
    assert!(text.contains("dma_entry_limit") && text.contains("fewer, larger"), "{text}");
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<dmaring::Error>());
    match inner {
        Some(dmaring::Error::Dma(DmaError::TooManyMappings)) => {}
        other => return fail(format!("{other:?}")),
    }
    rig.register(&parts[..20].iter().collect::<Vec<_>>())?;
    assert_eq!(rig.one(read_fixed(&parts[19], 19, 0))?, 4096, "what was mapped in vain was unmapped");
    Ok(())
}

fn buffers_side_by_side_take_one_mapping(_: &Bench) -> Outcome {
    zoo::bind(PLAIN)?;
    let _limit = Setting::set(LIMIT, "100")?;
    let mut rig = zoo::rig(PLAIN, 8)?;
    let memory = rig.plain(1000 * 512);
    let parts: Vec<Memory> = (0..1000).map(|i| memory.part(i * 512, 512)).collect();
    rig.register(&parts.iter().collect::<Vec<_>>())?;
    for index in [0, 500, 999] {
        assert_eq!(rig.one(read_fixed(&parts[index], index as u16, 0))?, 512);
    }
    Ok(())
}

fn free_huge_pages() -> Result<u64, Stop> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("HugePages_Free:"));
    Ok(line.unwrap_or("0").trim().parse()?)
}

fn huge_pages_are_used_when_there_are_any(_: &Bench) -> Outcome {
    let pages = Setting::set("/proc/sys/vm/nr_hugepages", "8")?;
    let before = free_huge_pages()?;
    if before < 4 {
        return crate::case::skip("the guest's memory has no room for huge pages");
    }
    let mut rig = zoo::rig(PLAIN, 8)?;
    let own = rig.alloc(4 << 20)?;
    let used = before - free_huge_pages()?;
    assert!(used >= 2, "{used} huge pages for a buffer of 4 MiB");
    rig.put(1, 0, 4 << 20)?;
    assert_eq!(rig.one(read(&own, 0))?, 4 << 20);
    pattern::check(1, 0, &own.read());
    drop((rig, own));
    assert_eq!(free_huge_pages()?, before, "they are given back");
    drop(pages);
    let mut rig = zoo::rig(PLAIN, 8)?;
    let own = rig.alloc(4 << 20)?;
    assert_eq!(rig.one(read(&own, 0))?, 4 << 20, "without any it works as well");
    Ok(())
}

fn an_address_that_is_mapped_anew_leads_to_the_new_memory(_: &Bench) -> Outcome {
    let mut rig = zoo::rig(PLAIN, 8)?;
    rig.put(9, 0, 1 << 20)?;
    let mut seen = std::collections::HashSet::new();
    let mut again = false;
    for round in 0..50 {
        let memory = Memory::plain(1 << 20);
        again |= !seen.insert(memory.address());
        rig.register(&[&memory])?;
        let part = memory.part((round % 7) * 512, 65536);
        assert_eq!(rig.one(read_fixed(&part, 0, 0))?, 65536);
        pattern::check(9, 0, &part.read());
        rig.ring.submitter().unregister_buffers()?;
        // No longer registered, it is bounced, not reached where it was.
        part.write(&vec![0; 65536]);
        let before = rig.ring.stats().bounced_bytes;
        assert_eq!(rig.one(read(&part, 0))?, 65536);
        pattern::check(9, 0, &part.read());
        assert_eq!(rig.ring.stats().bounced_bytes - before, 65536);
    }
    assert!(again, "the same address came twice");
    Ok(())
}

fn registered_buffers_of_many_lengths_at_one_address_are_told_apart(_: &Bench) -> Outcome {
    let mut rig = zoo::rig(PLAIN, 8)?;
    rig.put(2, 0, 1 << 20)?;
    let memory = rig.plain(1 << 20);
    let lens = [4096, 512, 1 << 20, 65536, 8192];
    let parts: Vec<Memory> = lens.iter().map(|len| memory.part(0, *len)).collect();
    rig.register(&parts.iter().collect::<Vec<_>>())?;
    for (index, len) in lens.into_iter().enumerate() {
        assert_eq!(rig.one(read_fixed(&parts[index], index as u16, 0))?, len as i32);
        if len < 1 << 20 {
            let beyond = memory.part(0, len + 512);
            assert_eq!(rig.one(read_fixed(&beyond, index as u16, 0))?, -libc::EFAULT, "buffer {index} of {len}");
        }
    }
    pattern::check(2, 0, &memory.read());
    Ok(())
}
