//! Memory that the ring's devices reach in place: buffers of the ring's pool, and registered ones.

#![expect(unsafe_code)] // passes the promise of `register_buffers` on

use dmaring_dma::DmaBuf;

use super::Engine;
use super::buffers::Buffers;
use crate::error::Error;
use crate::nvme::IoQueue;

impl Engine {
    /// A buffer of the pool, which grows when it must.
    pub(crate) fn alloc(&mut self, len: usize) -> Result<DmaBuf, Error> {
        self.check_ours()?;
        if !self.is_busy() {
            self.pool.reclaim();
        }
        if let Some(buffer) = self.pool.try_alloc(len) {
            return Ok(buffer);
        }
        if self.pool.stats().parked > 0 {
            self.quiesce();
            self.pool.reclaim();
            if let Some(buffer) = self.pool.try_alloc(len) {
                return Ok(buffer);
            }
        }
        let region = self.pool.grow(len)?;
        for queue in &mut self.queues {
            if let Err(error) = queue.add_pool_region(region.clone()) {
                self.pool.ungrow();
                return Err(error);
            }
        }
        let buffer = self.pool.try_alloc(len);
        buffer.ok_or(Error::Unsupported { call: "alloc", what: "no buffer of that length is possible" })
    }

    /// Gives a new queue pair everything that the others reach.
    pub(super) fn give_memory(&self, queue: &mut IoQueue) -> Result<(), Error> {
        for region in self.pool.regions() {
            queue.add_pool_region(region)?;
        }
        if !self.buffers.is_empty() {
            // SAFETY: the buffers are registered, so the promise of `register_buffers` holds.
            let (fixed, mappings) = unsafe { self.buffers.map(queue.owner().space()) }?;
            queue.set_fixed(fixed, mappings);
        }
        Ok(())
    }

    /// Registers buffers with every queue pair, or with none.
    ///
    /// # Safety
    /// The memory stays mapped in this process until it is unregistered or the ring is dropped.
    pub(crate) unsafe fn register_buffers(&mut self, iovecs: &[libc::iovec]) -> Result<(), Error> {
        self.check_ours()?;
        let refuse = |errno| Error::Os { call: "register_buffers", reason: std::io::Error::from_raw_os_error(errno) };
        if !self.buffers.is_empty() {
            return Err(refuse(libc::EBUSY));
        }
        let buffers = Buffers::check(iovecs).map_err(refuse)?;
        let mut mapped = Vec::with_capacity(self.queues.len());
        for queue in &self.queues {
            // SAFETY: the caller's promise.
            mapped.push(unsafe { buffers.map(queue.owner().space()) }?);
        }
        self.quiesce();
        for (queue, (fixed, mappings)) in self.queues.iter_mut().zip(mapped) {
            queue.set_fixed(fixed, mappings);
        }
        self.buffers = buffers;
        Ok(())
    }

    /// Takes the registered buffers away, once nothing is in flight.
    pub(crate) fn unregister_buffers(&mut self) -> Result<(), Error> {
        self.check_ours()?;
        if self.buffers.is_empty() {
            let reason = std::io::Error::from_raw_os_error(libc::ENXIO);
            return Err(Error::Os { call: "unregister_buffers", reason });
        }
        self.quiesce();
        for queue in &mut self.queues {
            queue.set_fixed(Vec::new(), Vec::new());
        }
        self.buffers = Buffers::default();
        Ok(())
    }
}
