//! The model by the documents, without the driver of this crate: log pages, asynchronous events, Abort, the
//! volatile write cache.

mod cache;
mod events;
mod host;
mod logs;
