//! Cases that run on every backend, by theme.

mod advice;
mod batch;
mod bounds;
mod buffer_rings;
mod buffer_table;
mod buffers;
mod cancel;
mod cancel_chains;
mod clone;
mod commands;
mod deferred;
mod discard;
mod drain;
mod enter;
mod entries;
mod eventfds;
mod file_table;
mod file_updates;
mod files;
mod flags;
mod flush;
mod groups;
mod injections;
mod issuers;
mod link_errors;
mod link_timeouts;
mod links;
mod messages;
mod mixed;
mod modes;
mod nop;
mod overflow;
mod partial_buffers;
mod polled;
mod provided;
mod queue;
mod registered_rings;
mod registers;
mod resize;
mod restrictions;
mod ring_memory;
mod segments;
mod send_fd;
mod setup;
mod skip;
mod submit_all;
mod sync_cancel;
mod tags;
mod task_work;
mod threads;
mod timeout_counts;
mod timeout_errors;
mod timeout_updates;
mod timeouts;
mod transfers;
mod unsupported;
mod vectors;
mod wait_regions;
mod waits;
mod wake;
mod zeroes;

use crate::case::Case;

/// On devices: what the kernel does, and what only dmaring does or does not.
pub(crate) const COMMON_AND_DEVICE: &[&[Case]] = &[
    nop::ALL,
    transfers::ALL,
    segments::ALL,
    buffers::ALL,
    files::ALL,
    bounds::ALL,
    flags::ALL,
    flush::ALL,
    batch::ALL,
    overflow::ALL,
    queue::ALL,
    wake::ALL,
    modes::ALL,
    vectors::ALL,
    advice::ALL,
    zeroes::ALL,
    discard::ALL,
    entries::ALL,
    commands::ALL,
    links::ALL,
    link_errors::ALL,
    drain::ALL,
    skip::ALL,
    submit_all::ALL,
    timeouts::ALL,
    timeout_counts::ALL,
    task_work::ALL,
    timeout_errors::ALL,
    timeout_updates::ALL,
    link_timeouts::ALL,
    cancel::ALL,
    cancel_chains::ALL,
    sync_cancel::ALL,
    injections::ALL,
    messages::ALL,
    threads::ALL,
    send_fd::ALL,
    file_table::ALL,
    file_updates::ALL,
    buffer_table::ALL,
    clone::ALL,
    tags::ALL,
    buffer_rings::ALL,
    groups::ALL,
    partial_buffers::ALL,
    provided::ALL,
    mixed::ALL,
    polled::ALL,
    setup::ALL,
    ring_memory::ALL,
    deferred::ALL,
    enter::ALL,
    waits::ALL,
    wait_regions::ALL,
    eventfds::ALL,
    registers::ALL,
    restrictions::ALL,
    resize::ALL,
    issuers::ALL,
    registered_rings::ALL,
    // The last: `COMMON` leaves it out.
    unsupported::ALL,
];

/// On the kernel as well as on devices.
pub(crate) const COMMON: &[&[Case]] = match COMMON_AND_DEVICE.split_last() {
    Some((_device_only, common)) => common,
    None => &[],
};

/// On devices, what a third way of waiting may change.
pub(crate) const WAITING: &[&[Case]] = &[
    nop::ALL,
    transfers::ALL,
    flush::ALL,
    batch::ALL,
    overflow::ALL,
    queue::ALL,
    wake::ALL,
    modes::ALL,
    links::ALL,
    drain::ALL,
    timeouts::ALL,
    link_timeouts::ALL,
    messages::ALL,
    threads::ALL,
    waits::ALL,
];
