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

/// A place of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fixed {
    /// Index into the targets.
    target: usize,
    /// Comes as a completion when the file has left the table and nothing uses it any more; 0 for none.
    pub(super) tag: u64,
}

/// Fixed files by index, and the descriptors that stand for a target.
#[derive(Debug, Default)]
pub(crate) struct Files {
    targets: Vec<Target>,
    /// `None` is a hole.
    fixed: Vec<Option<Fixed>>,
    descriptors: Vec<(RawFd, usize)>,
    places: Places,
}

/// Which places of the table are taken, and where a free one is sought first (`io_file_bitmap_get`).
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    taken: Vec<bool>,
    hint: usize,
}

impl Places {
    pub(super) fn len(&self) -> usize {
        self.taken.len()
    }

    /// A free place: behind the last that was taken, or the last that was left.
    pub(super) fn free(&self) -> Option<u32> {
        let hint = self.hint.min(self.taken.len());
        let (before, behind) = self.taken.split_at(hint);
        let found = behind.iter().position(|taken| !taken).map(|at| hint + at);
        found.or_else(|| before.iter().position(|taken| !taken)).map(|place| place as u32)
    }

    pub(super) fn take(&mut self, place: u32) {
        self.taken[place as usize] = true;
        self.hint = place as usize + 1;
    }

    fn leave(&mut self, place: u32) {
        self.taken[place as usize] = false;
        self.hint = place as usize;
    }
}

impl Files {
    /// Adds a target as the next fixed file. Answers the file's index.
    pub(crate) fn add(&mut self, target: Target) -> u32 {
        self.targets.push(target);
        self.fixed.push(Some(Fixed { target: self.targets.len() - 1, tag: 0 }));
        self.places.taken.push(true);
        self.fixed.len() as u32 - 1
    }

    /// Lets a descriptor stand for the target of fixed file `index`.
    pub(crate) fn name(&mut self, fd: RawFd, index: u32) {
        if let Some(target) = self.fixed(index) {
            self.descriptors.push((fd, target));
        }
    }

    pub(crate) fn fixed(&self, index: u32) -> Option<usize> {
        self.fixed.get(index as usize).copied().flatten().map(|fixed| fixed.target)
    }

    pub(crate) fn descriptor(&self, fd: RawFd) -> Option<usize> {
        self.descriptors.iter().find(|(known, _)| *known == fd).map(|(_, target)| *target)
    }

    /// Replaces the table by what `fds` stand for, with their tags (0 where there are none); -1 leaves a hole.
    pub(super) fn replace_fixed(&mut self, fds: &[RawFd], tags: &[u64]) -> Result<(), i32> {
        let tag = |place: usize| tags.get(place).copied().unwrap_or(0);
        let find = |(place, fd): (usize, &RawFd)| match *fd {
            -1 if tag(place) != 0 => Err(libc::EINVAL),
            -1 => Ok(None),
            fd => {
                let target = self.descriptor(fd).ok_or(libc::EBADF)?;
                Ok(Some(Fixed { target, tag: tag(place) }))
            }
        };
        self.fixed = fds.iter().enumerate().map(find).collect::<Result<_, i32>>()?;
        self.places = Places { taken: self.fixed.iter().map(Option::is_some).collect(), hint: 0 };
        Ok(())
    }

    /// Puts a target, or nothing, into a place of the table. Answers what was there.
    pub(super) fn put(&mut self, place: u32, target: Option<(usize, u64)>) -> Option<Fixed> {
        let fixed = self.fixed.get_mut(place as usize)?;
        match target {
            Some(_) => self.places.take(place),
            None if fixed.is_some() => self.places.leave(place),
            None => {}
        }
        std::mem::replace(fixed, target.map(|(target, tag)| Fixed { target, tag }))
    }

    /// Takes up a target that is in no place yet.
    pub(super) fn keep(&mut self, target: Target) -> usize {
        self.targets.push(target);
        self.targets.len() - 1
    }

    /// Places of the table.
    pub(super) fn len(&self) -> usize {
        self.fixed.len()
    }

    /// Which places are taken.
    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    pub(crate) fn has_fixed(&self) -> bool {
        !self.fixed.is_empty()
    }

    /// Takes the table away. Answers what was in it.
    pub(super) fn clear_fixed(&mut self) -> Vec<Option<Fixed>> {
        self.places = Places::default();
        std::mem::take(&mut self.fixed)
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
