//! What the driver has mapped for the model, and every access to it.

#![expect(unsafe_code)] // owns all accesses to memory that a driver mapped

use std::collections::BTreeMap;
use std::ptr::NonNull;

use dmaring_dma::{Direction, Iova};
use vm_memory::{Bytes, VolatileSlice};

#[derive(Clone, Copy, Debug)]
struct Window {
    address: NonNull<u8>,
    len: usize,
    writable: bool,
}

/// The model's IOMMU: I/O virtual addresses to memory of the process.
#[derive(Debug, Default)]
pub(super) struct Memory {
    windows: BTreeMap<u64, Window>,
    /// Bus mastering is off: nothing is reached.
    pub(super) cut_off: bool,
}

// SAFETY: the pointers are to memory that `Transport::map` promised to keep until `unmap`; accesses are
// volatile copies under the lock that also guards `unmap`.
unsafe impl Send for Memory {}

/// An access outside what is mapped, or a write to what is mapped for reading: a DMA fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DmaFault;

impl Memory {
    pub(super) fn map(&mut self, iova: Iova, address: NonNull<u8>, len: usize, direction: Direction) -> bool {
        let end = iova.get().saturating_add(len as u64);
        let before = self.windows.range(..end).next_back();
        if before.is_some_and(|(start, w)| start + w.len as u64 > iova.get()) {
            return false;
        }
        self.windows.insert(iova.get(), Window { address, len, writable: direction == Direction::Both });
        true
    }

    /// Takes back exactly what was mapped; otherwise the length that would have been.
    pub(super) fn unmap(&mut self, iova: Iova, len: usize) -> Result<(), u64> {
        match self.windows.get(&iova.get()) {
            Some(window) if window.len == len => {
                self.windows.remove(&iova.get());
                Ok(())
            }
            Some(window) => Err(window.len as u64),
            None => Err(0),
        }
    }

    pub(super) fn read(&self, iova: u64, data: &mut [u8]) -> Result<(), DmaFault> {
        let mut done = 0;
        while done < data.len() {
            let slice = self.slice(iova.checked_add(done as u64).ok_or(DmaFault)?, data.len() - done, false)?;
            slice.copy_to(&mut data[done..done + slice.len()]);
            done += slice.len();
        }
        Ok(())
    }

    pub(super) fn write(&self, iova: u64, data: &[u8]) -> Result<(), DmaFault> {
        let mut done = 0;
        while done < data.len() {
            let slice = self.slice(iova.checked_add(done as u64).ok_or(DmaFault)?, data.len() - done, true)?;
            slice.copy_from(&data[done..done + slice.len()]);
            done += slice.len();
        }
        Ok(())
    }

    /// A word that the driver watches, such as that of a completion with the phase tag: written last, so that a
    /// driver which sees it sees the rest.
    pub(super) fn publish(&self, iova: u64, word: u32) -> Result<(), DmaFault> {
        let slice = self.slice(iova, 4, true)?;
        slice.store(word.to_le(), 0, std::sync::atomic::Ordering::Release).map_err(|_| DmaFault)
    }

    /// A word that the driver changes meanwhile.
    pub(super) fn load(&self, iova: u64) -> Result<u32, DmaFault> {
        let slice = self.slice(iova, 4, false)?;
        // Acquire: the entries that the driver wrote before it are read after it.
        slice.load(0, std::sync::atomic::Ordering::Acquire).map(u32::from_le).map_err(|_| DmaFault)
    }

    /// As much of a range as one window holds.
    fn slice(&self, iova: u64, len: usize, write: bool) -> Result<VolatileSlice<'_>, DmaFault> {
        if self.cut_off {
            return Err(DmaFault);
        }
        let (start, window) = self.windows.range(..=iova).next_back().ok_or(DmaFault)?;
        let into = usize::try_from(iova - start).map_err(|_| DmaFault)?;
        if into >= window.len || (write && !window.writable) {
            return Err(DmaFault);
        }
        let len = len.min(window.len - into);
        // SAFETY: inside the window, which whoever mapped it keeps until `unmap`; that needs `&mut self`, so
        // the slice cannot outlive the window.
        Ok(unsafe { VolatileSlice::new(window.address.as_ptr().add(into), len) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_are_checked_against_what_is_mapped() {
        let mut backing = [0u8; 64];
        let address = NonNull::new(backing.as_mut_ptr()).unwrap();
        let mut memory = Memory::default();
        assert!(memory.map(Iova::new(0x1000), address, 32, Direction::Both));
        // SAFETY: the second half of the array.
        let second = unsafe { address.add(32) };
        assert!(memory.map(Iova::new(0x1020), second, 32, Direction::ToDevice));
        assert!(!memory.map(Iova::new(0x1010), address, 4, Direction::Both), "overlaps");
        assert_eq!(memory.write(0x1000, &[1; 32]), Ok(()));
        assert_eq!(memory.write(0x1010, &[1; 32]), Err(DmaFault), "reaches into read-only memory");
        let mut data = [0; 64];
        assert_eq!(memory.read(0x1000, &mut data), Ok(()), "across windows that touch");
        assert_eq!(memory.read(0x1001, &mut data), Err(DmaFault));
        assert_eq!(memory.read(u64::MAX, &mut data[..1]), Err(DmaFault));
        assert_eq!(memory.unmap(Iova::new(0x1000), 16), Err(32));
        assert_eq!(memory.unmap(Iova::new(0x1000), 32), Ok(()));
        assert_eq!(memory.unmap(Iova::new(0x1000), 32), Err(0));
    }
}
