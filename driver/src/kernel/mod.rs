//! The real io_uring behind the same ring, for any path.
//!
//! The program's entries go straight into the kernel's ring memory; nothing stands between. The calls
//! are made here rather than through the io-uring crate's `IoUring`, because that keeps its ring
//! pointers private and two views of one ring would each cache the indices.

mod path;
mod ring;
pub(crate) mod sys;

pub(crate) use path::KernelFile;
pub(crate) use ring::KernelRing;
