//! The volatile write cache, for power cuts.
//!
//! Writes go to the storage at once, so that reads see them; what a power cut would take away is kept as
//! an undo log: the blocks as they were when they last were safe. Flush, Force Unit Access, a shutdown and
//! switching the cache off make blocks safe, and forget what they were.
//!
//! The log is kept only where it is asked for (`ModelConfig::power_cuts`), since it costs a read before
//! every write. It is bounded: as a cache that is full, it writes everything back and begins anew.

use std::collections::BTreeMap;
use std::io;

use super::config::ModelNamespace;
use super::storage::Storage;
use crate::spec::status::Status;

/// Most bytes that are not safe, of all namespaces.
const MOST_BYTES: u64 = 64 << 20;

#[derive(Debug)]
pub(super) struct Cache {
    /// There is one, and it is switched on (feature 06h).
    enabled: bool,
    /// For each namespace, by offset in bytes, the blocks that are not safe as they were before. `None`: power
    /// cuts take nothing away.
    undo: Option<Vec<BTreeMap<u64, Box<[u8]>>>>,
    bytes: u64,
}

impl Cache {
    pub(super) fn new(enabled: bool, power_cuts: bool, namespaces: usize) -> Self {
        Self { enabled, undo: power_cuts.then(|| vec![BTreeMap::new(); namespaces]), bytes: 0 }
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Switches it on or off; before it goes off, everything is made safe.
    pub(super) fn enable(&mut self, yes: bool, namespaces: &[ModelNamespace]) -> Result<(), Status> {
        if !yes {
            self.flush_all(namespaces).map_err(|_| Status::INTERNAL_ERROR)?;
        }
        self.enabled = yes;
        Ok(())
    }

    /// Changes `len` bytes at `offset` of namespace number `index` (from 0) by `change`, so that they are
    /// safe when `durable` says so or there is no cache.
    pub(super) fn change(
        &mut self,
        index: usize,
        namespace: &ModelNamespace,
        (offset, len): (u64, u64),
        durable: bool,
        change: impl FnOnce(&Storage) -> io::Result<()>,
    ) -> io::Result<()> {
        let storage = &namespace.storage;
        let durable = durable || !self.enabled;
        if !durable && self.undo.is_some() {
            self.remember(index, namespace, offset, len)?;
        }
        change(storage)?;
        if !durable {
            return Ok(());
        }
        storage.flush()?;
        if let Some(undo) = self.undo.as_mut().and_then(|undo| undo.get_mut(index)) {
            let inside: Vec<u64> = undo.range(offset..offset + len).map(|(at, _)| *at).collect();
            for at in inside {
                self.bytes -= undo.remove(&at).map_or(0, |block| block.len() as u64);
            }
        }
        Ok(())
    }

    fn remember(&mut self, index: usize, namespace: &ModelNamespace, offset: u64, len: u64) -> io::Result<()> {
        let block_bytes = 1u64 << namespace.block_shift;
        // A change that would not fit, such as zeroes over everything, keeps nothing, and is safe at once.
        if len > MOST_BYTES {
            return self.flush(index, namespace);
        }
        let Some(undo) = self.undo.as_mut().and_then(|undo| undo.get_mut(index)) else { return Ok(()) };
        for at in (offset..offset + len).step_by(block_bytes as usize) {
            if let std::collections::btree_map::Entry::Vacant(slot) = undo.entry(at) {
                let mut block = vec![0; block_bytes as usize].into_boxed_slice();
                namespace.storage.read(at, &mut block)?;
                slot.insert(block);
                self.bytes += block_bytes;
            }
        }
        if self.bytes > MOST_BYTES {
            // Full: it writes back what it has. What is about to be written counts as written back too.
            self.flush(index, namespace)?;
        }
        Ok(())
    }

    /// Makes one namespace safe.
    pub(super) fn flush(&mut self, index: usize, namespace: &ModelNamespace) -> io::Result<()> {
        namespace.storage.flush()?;
        if let Some(undo) = self.undo.as_mut().and_then(|undo| undo.get_mut(index)) {
            self.bytes -= undo.values().map(|block| block.len() as u64).sum::<u64>();
            undo.clear();
        }
        Ok(())
    }

    /// Makes everything safe.
    pub(super) fn flush_all(&mut self, namespaces: &[ModelNamespace]) -> io::Result<()> {
        namespaces.iter().enumerate().try_for_each(|(index, namespace)| self.flush(index, namespace))
    }

    /// Takes away everything that is not safe; the cache is as it was at first.
    pub(super) fn lose(&mut self, namespaces: &[ModelNamespace], enabled: bool) -> io::Result<()> {
        for (undo, namespace) in self.undo.iter_mut().flatten().zip(namespaces) {
            for (at, block) in std::mem::take(undo) {
                namespace.storage.write(at, &block)?;
            }
        }
        self.bytes = 0;
        self.enabled = enabled;
        Ok(())
    }

    /// Namespace number `index` ends at `len` bytes now.
    pub(super) fn cut(&mut self, index: usize, len: u64) {
        if let Some(undo) = self.undo.as_mut().and_then(|undo| undo.get_mut(index)) {
            let gone = undo.split_off(&len);
            self.bytes -= gone.values().map(|block| block.len() as u64).sum::<u64>();
        }
    }
}
