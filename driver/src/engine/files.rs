//! The ring's file table: what a descriptor or an index in an SQE names.

use std::os::fd::RawFd;
use std::sync::Arc;

use crate::nvme::{Namespace, Owner};

/// A namespace of a controller.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) owner: Arc<Owner>,
    pub(crate) namespace: Namespace,
    /// Index of the ring's queue pair on this controller, once it has one.
    pub(crate) queue: Option<usize>,
}

/// Fixed files by index, and the descriptors that stand for a target.
#[derive(Debug, Default)]
pub(crate) struct Files {
    targets: Vec<Target>,
    /// Index into `targets` of each fixed file; `None` is a hole.
    fixed: Vec<Option<usize>>,
    descriptors: Vec<(RawFd, usize)>,
}

impl Files {
    /// Adds a target as the next fixed file. Answers the file's index.
    pub(crate) fn add(&mut self, target: Target) -> u32 {
        self.targets.push(target);
        self.fixed.push(Some(self.targets.len() - 1));
        self.fixed.len() as u32 - 1
    }

    /// Lets a descriptor stand for the target of fixed file `index`.
    pub(crate) fn name(&mut self, fd: RawFd, index: u32) {
        if let Some(target) = self.fixed(index) {
            self.descriptors.push((fd, target));
        }
    }

    pub(crate) fn fixed(&self, index: u32) -> Option<usize> {
        self.fixed.get(index as usize).copied().flatten()
    }

    pub(crate) fn descriptor(&self, fd: RawFd) -> Option<usize> {
        self.descriptors.iter().find(|(known, _)| *known == fd).map(|(_, target)| *target)
    }

    /// Replaces the fixed files by what `fds` stand for; -1 leaves a hole. `None` when one stands for
    /// nothing.
    pub(crate) fn replace_fixed(&mut self, fds: &[RawFd]) -> Option<()> {
        let find = |fd: &RawFd| if *fd == -1 { Some(None) } else { self.descriptor(*fd).map(Some) };
        self.fixed = fds.iter().map(find).collect::<Option<_>>()?;
        Some(())
    }

    pub(crate) fn has_fixed(&self) -> bool {
        !self.fixed.is_empty()
    }

    /// Takes all fixed files away; false when there were none.
    pub(crate) fn clear_fixed(&mut self) -> bool {
        !std::mem::take(&mut self.fixed).is_empty()
    }

    pub(crate) fn target(&self, target: usize) -> &Target {
        &self.targets[target]
    }

    pub(crate) fn set_queue(&mut self, owner: &Arc<Owner>, queue: usize) {
        for target in self.targets.iter_mut().filter(|t| Arc::ptr_eq(&t.owner, owner)) {
            target.queue = Some(queue);
        }
    }
}
