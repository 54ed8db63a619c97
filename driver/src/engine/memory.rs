//! Memory that the ring's devices reach in place: buffers of the ring's pool, and registered ones.

#![expect(unsafe_code)] // passes the promise of `register_buffers` on

use std::sync::Arc;

use dmaring_dma::DmaBuf;

use super::Engine;
use super::buffers::Buffers;
use super::mailbox::lock;
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
            self.drain_devices();
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

    /// Registers buffers with every queue pair, or with none, each with its tag (0 where there is none).
    ///
    /// # Safety
    /// The memory stays mapped in this process until it is unregistered or the ring is dropped.
    pub(crate) unsafe fn register_buffers(&mut self, iovecs: &[libc::iovec], tags: &[u64]) -> Result<(), Error> {
        self.check_ours()?;
        if !self.buffers.is_empty() {
            return Err(refused(libc::EBUSY));
        }
        let buffers = Buffers::check(iovecs, tags).map_err(refused)?;
        if !buffers.are_usable(&self.user) {
            return Err(refused(libc::EFAULT));
        }
        // SAFETY: the caller's promise.
        unsafe { self.use_buffers(buffers) }
    }

    /// Changes registered buffers one after the other (`__io_sqe_buffers_update`). Answers how many went well
    /// before the first that did not.
    ///
    /// # Safety
    /// As of [`register_buffers`](Self::register_buffers).
    pub(super) unsafe fn update_buffers(
        &mut self,
        offset: u32,
        iovecs: &[libc::iovec],
        tags: &[u64],
    ) -> Result<u32, Error> {
        let mut buffers = self.buffers.clone();
        let (done, gone, failed) = buffers.update(offset, iovecs, tags, &self.user);
        // SAFETY: the caller's promise.
        unsafe { self.use_buffers(buffers) }?;
        self.tell_tags(&gone);
        match failed {
            Some(errno) if done == 0 => Err(refused(errno)),
            _ => Ok(done),
        }
    }

    /// Maps buffers for every queue pair, or for none, in place of those that there are.
    ///
    /// # Safety
    /// As of [`register_buffers`](Self::register_buffers).
    pub(super) unsafe fn use_buffers(&mut self, buffers: Buffers) -> Result<(), Error> {
        let mut mapped = Vec::with_capacity(self.queues.len());
        for queue in &self.queues {
            // SAFETY: the caller's promise.
            mapped.push(unsafe { buffers.map(queue.owner().space()) }?);
        }
        self.drain_devices();
        for (queue, (fixed, mappings)) in self.queues.iter_mut().zip(mapped) {
            queue.set_fixed(fixed, mappings);
        }
        *lock(&self.mailbox.buffers) = Arc::new(buffers.clone());
        self.buffers = buffers;
        Ok(())
    }

    /// Takes the registered buffers away, once nothing is in flight.
    pub(crate) fn unregister_buffers(&mut self) -> Result<(), Error> {
        self.check_ours()?;
        if self.buffers.is_empty() {
            return Err(refused(libc::ENXIO));
        }
        self.drain_devices();
        for queue in &mut self.queues {
            queue.set_fixed(Vec::new(), Vec::new());
        }
        let gone = std::mem::take(&mut self.buffers);
        *lock(&self.mailbox.buffers) = Arc::default();
        // From the end of the table, as the kernel.
        let mut tags = gone.tags();
        tags.reverse();
        self.tell_tags(&tags);
        Ok(())
    }

    /// A resource has left its table: when nothing uses it any more, its tag is told.
    pub(super) fn retire(&mut self, tag: u64) {
        if tag != 0 {
            self.drain_devices();
            self.tell_tags(&[tag]);
        }
    }

    /// Tags of resources that nothing uses any more.
    pub(super) fn tell_tags(&mut self, tags: &[u64]) {
        tags.iter().filter(|tag| **tag != 0).for_each(|tag| self.cq.post(*tag, 0, 0));
    }
}

/// The kernel's answer to a bad argument.
pub(super) fn refused(errno: i32) -> Error {
    Error::Os { call: "io_uring_register", reason: std::io::Error::from_raw_os_error(errno) }
}
