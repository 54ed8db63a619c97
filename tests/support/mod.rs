//! What cases are written with.

pub(crate) mod buffer_ring;
pub(crate) mod calls;
pub(crate) mod command;
pub(crate) mod control;
pub(crate) mod counting;
pub(crate) mod fields;
pub(crate) mod isolate;
pub(crate) mod loop_device;
pub(crate) mod mixed;
pub(crate) mod pattern;
pub(crate) mod raw;
pub(crate) mod rig;
pub(crate) mod sandbox;
pub(crate) mod script;
pub(crate) mod signals;
pub(crate) mod swap;
pub(crate) mod syscalls;
