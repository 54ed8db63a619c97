//! What goes wrong, on purpose.

use crate::spec::command::Command;
use crate::spec::status::Status;
use zerocopy::IntoBytes;

/// What happens to a command instead of what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// It is answered with this status and not carried out.
    Fail(Status),
    /// It is neither carried out nor ever answered.
    Drop,
    /// It is carried out and answered twice.
    AnswerTwice,
    /// It is carried out; the answer names another command identifier.
    WrongId,
    /// It is carried out and answered without an interrupt.
    NoInterrupt,
    /// The controller reports a fatal status and stops.
    Fatal,
    /// The function leaves the bus: every register reads as all-ones.
    Gone,
}

/// A rule: which commands, how many to let pass, how many to hit, and what happens to those.
#[derive(Clone, Debug)]
pub struct Fault {
    admin: Option<bool>,
    mask: [u8; 64],
    value: [u8; 64],
    skip: u32,
    times: u32,
    action: Action,
}

impl Fault {
    /// Hits the first I/O command.
    #[must_use]
    pub fn new(action: Action) -> Self {
        Self { admin: Some(false), mask: [0; 64], value: [0; 64], skip: 0, times: 1, action }
    }

    /// Only commands with this opcode.
    #[must_use]
    pub fn opcode(mut self, opcode: u8) -> Self {
        self.mask[0] = 0xff;
        self.value[0] = opcode;
        self
    }

    /// Only commands that have the bits of `value` where `mask` has ones.
    #[must_use]
    pub fn matching(mut self, mask: &Command, value: &Command) -> Self {
        self.mask.copy_from_slice(mask.as_bytes());
        self.value.copy_from_slice(value.as_bytes());
        self
    }

    /// Admin commands instead of I/O commands.
    #[must_use]
    pub fn admin(mut self) -> Self {
        self.admin = Some(true);
        self
    }

    /// Lets so many matching commands pass first.
    #[must_use]
    pub fn skip(mut self, commands: u32) -> Self {
        self.skip = commands;
        self
    }

    /// Hits so many matching commands.
    #[must_use]
    pub fn times(mut self, commands: u32) -> Self {
        self.times = commands;
        self
    }

    /// What this rule does to a command. Counts it.
    pub(super) fn hit(&mut self, admin: bool, command: &Command) -> Option<Action> {
        let bytes = command.as_bytes().iter().zip(&self.mask).zip(&self.value);
        let matches = self.admin.is_none_or(|a| a == admin) && bytes.into_iter().all(|((b, m), v)| b & m == v & m);
        if !matches || self.times == 0 {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times -= 1;
        Some(self.action)
    }
}
