//! The io_uring ring interface on hardware DMA queues.
