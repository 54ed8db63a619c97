//! Posting to a thread.

use std::sync::Arc;

use crate::error::Error;
use crate::page::Page;
use crate::signal::interrupt;
use crate::vector::Vector;

/// May post one vector to one receiver.
#[derive(Clone, Debug)]
pub struct Sender {
    page: Arc<Page>,
    vector: Vector,
}

impl Sender {
    pub(crate) fn new(page: Arc<Page>, vector: Vector) -> Self {
        Self { page, vector }
    }

    /// The vector that it posts.
    #[must_use]
    pub fn vector(&self) -> Vector {
        self.vector
    }

    /// Posts (SENDUIPI). Vectors that are pending already are not delivered twice.
    ///
    /// # Errors
    /// [`Error::Closed`] when the receiver is gone, with its thread or before it, or is another process's.
    pub fn post(&self) -> Result<(), Error> {
        let thread = self.page.thread().ok_or(Error::Closed)?;
        match self.page.upid().post(self.vector) {
            Some(notification) if !interrupt(thread, notification.vector) => Err(Error::Closed),
            _ => Ok(()),
        }
    }
}
