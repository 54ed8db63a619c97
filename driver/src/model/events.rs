//! Asynchronous events (section 5.2): requests that are held until there is something to say, and Abort
//! (section 5.1), which ends them and commands that a fault has left without an answer.
//!
//! 1. an event is raised, if the driver has enabled it and its type is not masked
//! 2. it completes a held request, or waits for one
//! 3. its type is masked until the log page that belongs to it is read without Retain Asynchronous Event

use std::collections::VecDeque;

use super::controller::Controller;
use super::queue::Answer;
use crate::spec::command::Command;
use crate::spec::status::Status;

/// Most requests held (AERL), 0's based.
pub(super) const AERL: u8 = 3;
/// Most Abort commands at once (ACL), 0's based. Each is carried out when it is read, so there never are more.
pub(super) const ACL: u8 = 3;
/// Namespace Attribute Notices, bit 8 of OAES and of the feature.
pub(super) const NAMESPACE_NOTICES: u32 = 1 << 8;
/// What the feature Asynchronous Event Configuration may enable: critical warnings and the notices.
pub(super) const ENABLES: u32 = NAMESPACE_NOTICES | 0x3f;

/// What happened (figures 146 to 150).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A doorbell was given an index that its queue does not have.
    InvalidDoorbell,
    /// An internal error that concerns some commands only.
    TransientError,
    /// The temperature is beyond a threshold.
    Temperature,
    /// A namespace has another size.
    NamespaceChanged,
}

impl Event {
    /// Type, information, and the log page that says more.
    fn parts(self) -> (u8, u8, u8) {
        match self {
            Self::InvalidDoorbell => (0, 1, 1),
            Self::TransientError => (0, 4, 1),
            Self::Temperature => (1, 1, 2),
            Self::NamespaceChanged => (2, 0, 4),
        }
    }

    fn log_page(self) -> u8 {
        self.parts().2
    }
}

/// Requests and events.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// Command identifiers of the requests held.
    held: VecDeque<u16>,
    /// At most one of each type.
    pending: VecDeque<Event>,
    /// Log pages that have to be read before their events come again.
    masked: Vec<u8>,
    /// The feature Asynchronous Event Configuration.
    pub(super) enabled: u32,
}

impl Events {
    /// Nothing comes of it while one of its type is waiting or has not been looked into.
    pub(super) fn raise(&mut self, event: Event) {
        let page = event.log_page();
        if !self.masked.contains(&page) && self.pending.iter().all(|other| other.log_page() != page) {
            self.pending.push_back(event);
        }
    }

    /// The log page has been read.
    pub(super) fn clear(&mut self, page: u8) {
        self.masked.retain(|masked| *masked != page);
        self.pending.retain(|event| event.log_page() != page);
    }
}

impl Controller {
    /// Asynchronous Event Request: it is answered when there is an event.
    pub(super) fn hold(&mut self, cid: u16) -> Result<(), Status> {
        if self.events.held.len() > AERL.into() {
            return Err(Status::EVENT_LIMIT_EXCEEDED);
        }
        self.events.held.push_back(cid);
        Ok(())
    }

    /// Answers held requests with the events that wait.
    pub(super) fn deliver(&mut self) {
        while !self.events.held.is_empty() && !self.events.pending.is_empty() && self.room(0) > 0 {
            let (Some(cid), Some(event)) = (self.events.held.pop_front(), self.events.pending.pop_front()) else {
                return;
            };
            let (kind, info, page) = event.parts();
            self.events.masked.push(page);
            let dw0 = u32::from(page) << 16 | u32::from(info) << 8 | u32::from(kind);
            self.answer_late(0, cid, Status::SUCCESS, dw0);
        }
    }

    /// Raises what the SMART log warns of and the driver wants to hear.
    pub(super) fn check_warnings(&mut self) {
        if u32::from(self.health.warnings()) & self.events.enabled != 0 {
            self.events.raise(Event::Temperature);
        }
    }

    /// Abort. Bit 0 of the answer: there was nothing that could be aborted.
    pub(super) fn abort(&mut self, command: &Command) -> u32 {
        let (qid, cid) = (command.cdw10 as u16, (command.cdw10 >> 16) as u16);
        let Some(cqid) = self.sqs.get(usize::from(qid)).and_then(Option::as_ref).map(|sq| sq.cq) else { return 1 };
        // The command's answer comes before this one's, which may need room as well.
        if self.room(cqid) < 1 + u32::from(cqid == 0) {
            return 1;
        }
        let held = self.events.held.iter().position(|held| qid == 0 && *held == cid);
        let found = held.and_then(|at| self.events.held.remove(at)).is_some() || self.stuck.remove(&(qid, cid));
        if !found {
            return 1;
        }
        self.answer_late(qid, cid, Status::ABORT_REQUESTED, 0);
        0
    }

    /// Answers a command of an earlier step.
    fn answer_late(&mut self, qid: u16, cid: u16, status: Status, dw0: u32) {
        let Some((sq_head, cqid)) = self.sqs[usize::from(qid)].as_ref().map(|sq| (sq.head as u16, sq.cq)) else {
            return;
        };
        self.answer(cqid, &Answer { sq: qid, sq_head, cid, status, dw0 }, true);
    }
}
