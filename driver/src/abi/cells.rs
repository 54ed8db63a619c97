//! Who reads and who writes which entry of a ring. Nothing is known of that but in models (`--cfg loom`), where
//! two who are not ordered by the indices are found out.

use super::params::Params;

#[cfg(not(all(test, loom)))]
mod watched {
    use super::Params;

    #[derive(Clone, Copy, Debug)]
    pub(in crate::abi) struct Cells;

    impl Cells {
        pub(in crate::abi) fn new(_params: &Params) -> Self {
            Self
        }
        #[inline(always)] // nothing
        pub(in crate::abi) fn read_sqes(self, _index: u32, _count: u32) {}
        #[inline(always)] // nothing
        pub(in crate::abi) fn write_sqe(self, _index: u32) {}
        #[inline(always)] // nothing
        pub(in crate::abi) fn read_cqe(self, _index: u32) {}
        #[inline(always)] // nothing
        pub(in crate::abi) fn write_cqes(self, _index: u32, _count: u32) {}
    }
}

#[cfg(all(test, loom))]
mod watched {
    use loom::cell::UnsafeCell;

    use super::Params;

    /// A cell for each entry of both rings, for as long as the process lives.
    #[derive(Clone, Copy, Debug)]
    pub(in crate::abi) struct Cells {
        sqes: &'static [UnsafeCell<()>],
        cqes: &'static [UnsafeCell<()>],
    }

    impl Cells {
        pub(in crate::abi) fn new(params: &Params) -> Self {
            let cells = |count: u32| &*Vec::leak((0..count).map(|_| UnsafeCell::new(())).collect());
            Self { sqes: cells(params.sq_entries), cqes: cells(params.cq_entries) }
        }
        /// The engine may read these from now on.
        pub(in crate::abi) fn read_sqes(self, index: u32, count: u32) {
            self.sqes[index as usize..][..count as usize].iter().for_each(|cell| cell.with(|_| ()));
        }
        pub(in crate::abi) fn write_sqe(self, index: u32) {
            self.sqes[index as usize].with_mut(|_| ());
        }
        pub(in crate::abi) fn read_cqe(self, index: u32) {
            self.cqes[index as usize].with(|_| ());
        }
        /// The engine may write these from now on.
        pub(in crate::abi) fn write_cqes(self, index: u32, count: u32) {
            self.cqes[index as usize..][..count as usize].iter().for_each(|cell| cell.with_mut(|_| ()));
        }
    }
}

pub(super) use watched::Cells;
