//! Interrupts of a VFIO device as event descriptors.

#![expect(unsafe_code)] // owns the variable-length argument of VFIO_DEVICE_SET_IRQS

use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Mutex;

use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_MSIX_IRQ_INDEX, vfio_irq_info, vfio_irq_set,
};

use super::ioctl;
use crate::DmaError;

/// The MSI-X vectors of a device.
#[derive(Debug)]
pub(super) struct Msix {
    count: u16,
    /// Whether the vectors have been allocated; done by the first call, for all at once.
    enabled: Mutex<bool>,
}

/// How many interrupts the device has at `index` (0 when they cannot be event descriptors).
pub(super) fn count(device: &File, index: u32) -> Result<u32, DmaError> {
    let mut info = vfio_irq_info { argsz: size_of::<vfio_irq_info>() as u32, flags: 0, index, count: 0 };
    // SAFETY: the structure outlives the call and has the size it says.
    unsafe { ioctl::device_get_irq_info(device.as_raw_fd(), &raw mut info) }
        .map_err(|e| DmaError::Vfio { call: "VFIO_DEVICE_GET_IRQ_INFO", reason: e.into() })?;
    Ok(if info.flags & VFIO_IRQ_INFO_EVENTFD != 0 { info.count } else { 0 })
}

/// Connects interrupts `start..` at `index`; a silent one is given as `None`.
pub(super) fn connect(
    device: &File,
    index: u32,
    start: u32,
    events: &[Option<BorrowedFd<'_>>],
) -> Result<(), DmaError> {
    let fds = events.iter().map(|e| e.as_ref().map_or(-1, AsRawFd::as_raw_fd));
    let argument = set_argument(VFIO_IRQ_SET_DATA_EVENTFD, index, start, fds);
    set(device, &argument).map_err(|reason| match reason.raw_os_error() {
        Some(libc::EPERM | libc::ENOSPC) => DmaError::InterruptRemapping { reason },
        _ => DmaError::Vfio { call: "VFIO_DEVICE_SET_IRQS", reason },
    })
}

/// Frees all vectors at `index`.
fn disable(device: &File, index: u32) -> io::Result<()> {
    set(device, &set_argument(VFIO_IRQ_SET_DATA_NONE, index, 0, std::iter::empty()))
}

/// `struct vfio_irq_set` followed by the descriptors; `argsz` and `count` must match exactly.
fn set_argument(data: u32, index: u32, start: u32, fds: impl ExactSizeIterator<Item = i32>) -> Vec<u32> {
    let header = offset_of!(vfio_irq_set, data);
    let count = fds.len();
    let argsz = (header + 4 * count) as u32;
    let mut words = vec![argsz, data | VFIO_IRQ_SET_ACTION_TRIGGER, index, start, count as u32];
    words.extend(fds.map(i32::cast_unsigned));
    words
}

fn set(device: &File, argument: &[u32]) -> io::Result<()> {
    // SAFETY: the argument has the length its first word says and outlives the call; the descriptors in
    // it are borrowed for the call, the kernel takes its own references.
    let answer = unsafe { ioctl::device_set_irqs(device.as_raw_fd(), argument.as_ptr().cast()) }?;
    all_or_none(answer)
}

/// A number is what the kernel could have given (`vfio_msi_enable`); it has given nothing then.
fn all_or_none(answer: i32) -> io::Result<()> {
    match answer {
        0 => Ok(()),
        some => Err(io::Error::other(format!("the kernel has only {some} interrupt vectors left for the device"))),
    }
}

impl Msix {
    pub(super) fn new(device: &File) -> Result<Self, DmaError> {
        let count = count(device, VFIO_PCI_MSIX_IRQ_INDEX)?;
        Ok(Self { count: u16::try_from(count).unwrap_or(u16::MAX), enabled: Mutex::new(false) })
    }

    pub(super) fn count(&self) -> u16 {
        self.count
    }

    pub(super) fn connect(&self, device: &File, start: u16, events: &[Option<BorrowedFd<'_>>]) -> Result<(), DmaError> {
        let mut enabled = self.enabled.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !*enabled {
            // Kernels that report NORESIZE cannot add vectors later: all are allocated now, silent.
            connect(device, VFIO_PCI_MSIX_IRQ_INDEX, 0, &vec![None; usize::from(self.count)])?;
            *enabled = true;
        }
        connect(device, VFIO_PCI_MSIX_IRQ_INDEX, u32::from(start), events)
    }

    /// Frees the vectors; the next `connect` allocates them again.
    pub(super) fn disable(&self, device: &File) {
        let mut enabled = self.enabled.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if std::mem::take(&mut *enabled)
            && let Err(error) = disable(device, VFIO_PCI_MSIX_IRQ_INDEX)
        {
            tracing::warn!(%error, "cannot free the interrupt vectors");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_vectors_than_asked_for_are_none() {
        assert!(all_or_none(0).is_ok());
        assert!(all_or_none(3).unwrap_err().to_string().contains("only 3"));
    }

    #[test]
    fn the_argument_has_its_exact_size_and_silent_vectors_are_minus_one() {
        let words = set_argument(VFIO_IRQ_SET_DATA_EVENTFD, 2, 3, [7, -1].into_iter());
        assert_eq!(words, [28, 4 | 32, 2, 3, 2, 7, u32::MAX]);
        assert_eq!(set_argument(VFIO_IRQ_SET_DATA_NONE, 2, 0, std::iter::empty()), [20, 1 | 32, 2, 0, 0]);
    }
}
