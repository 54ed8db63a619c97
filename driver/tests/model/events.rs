//! Asynchronous events and Abort.

use dmaring::model::{Action, Fault, Model, ModelConfig};
use dmaring::spec::command::{Command, admin, nvm};
use dmaring::spec::log::{CHANGED_NAMESPACES, ERROR_INFORMATION, SMART};
use dmaring::spec::regs::sq_tail_doorbell;
use dmaring::spec::status::Status;

use super::host::{ENTRIES, Host, outcome};

/// Answers of events: log page, information, type.
const HOT: u32 = 0x02_01_01;
const NAMESPACE: u32 = 0x04_00_02;
const INTERNAL: u32 = 0x01_04_00;
const DOORBELL: u32 = 0x01_01_00;

fn host(enabled: u32) -> Host {
    let mut host = Host::new(ModelConfig::ram(8 << 20).unwrap());
    host.admin(Command { cdw10: 0x0b, cdw11: enabled, ..Command::new(admin::SET_FEATURES) }).unwrap();
    let get = Command { cdw10: 0x0b, ..Command::new(admin::GET_FEATURES) };
    assert_eq!(host.admin(get), Ok(enabled));
    host
}

fn request() -> Command {
    Command::new(admin::ASYNC_EVENT_REQUEST)
}

fn heat(model: &Model) {
    model.set_temperature(400);
}

/// What was answered, by identifier.
fn taken(host: &mut Host, qid: u16) -> Vec<(u16, Result<u32, Status>)> {
    host.take(qid).iter().map(|done| (done.cid, outcome(done))).collect()
}

#[test]
fn requests_are_held_up_to_the_limit() {
    let mut host = host(0x1ff & !0xc0);
    let held: Vec<u16> = (0..4).map(|_| host.send(0, request())).collect();
    assert_eq!(taken(&mut host, 0), []);
    assert_eq!(host.admin(request()), Err(Status::EVENT_LIMIT_EXCEEDED));
    heat(&host.model);
    assert_eq!(taken(&mut host, 0), [(held[0], Ok(HOT))], "one event answers one request");
    let last = host.send(0, request());
    assert_eq!(taken(&mut host, 0), [], "there is room for another");
    // A reset forgets them all.
    host.enable();
    heat(&host.model);
    assert_eq!(taken(&mut host, 0), []);
    assert_eq!(host.admin(Command::abort(0, last)), Ok(1));
}

#[test]
fn an_event_is_masked_until_its_log_page_is_read() {
    let mut host = host(2);
    let first = host.send(0, request());
    heat(&host.model);
    assert_eq!(taken(&mut host, 0), [(first, Ok(HOT))]);
    let second = host.send(0, request());
    heat(&host.model);
    assert_eq!(taken(&mut host, 0), [], "masked");
    let retain = Command { cdw10: 127 << 16 | 1 << 15 | 2, ..Command::get_log_page(SMART, 0, 512, host.data.iova()) };
    host.admin(retain).unwrap();
    heat(&host.model);
    assert_eq!(taken(&mut host, 0), [], "the page was read, and the event retained");
    host.log(ERROR_INFORMATION, 0, 64).unwrap();
    heat(&host.model);
    assert_eq!(taken(&mut host, 0), [], "the page of another type");
    host.log(SMART, 0, 512).unwrap();
    assert_eq!(taken(&mut host, 0), [], "nothing new has happened");
    heat(&host.model);
    assert_eq!(taken(&mut host, 0), [(second, Ok(HOT))]);
}

#[test]
fn an_event_waits_for_a_request() {
    let mut host = host(2);
    heat(&host.model);
    heat(&host.model);
    assert_eq!(taken(&mut host, 0), []);
    let (first, _second) = (host.send(0, request()), host.send(0, request()));
    assert_eq!(taken(&mut host, 0), [(first, Ok(HOT))], "once, however often it happened");
}

#[test]
fn what_is_not_enabled_is_not_told() {
    let mut host = host(0);
    let held = host.send(0, request());
    heat(&host.model);
    host.model.resize(1, 4 << 20).unwrap();
    assert_eq!(taken(&mut host, 0), []);
    // Enabled now, the warning that is there is told.
    let set = Command { cdw10: 0x0b, cdw11: 2, ..Command::new(admin::SET_FEATURES) };
    let set = host.send(0, set);
    assert_eq!(taken(&mut host, 0), [(set, Ok(0)), (held, Ok(HOT))]);
    let reserved = Command { cdw10: 0x0b, cdw11: 1 << 20, ..Command::new(admin::SET_FEATURES) };
    assert_eq!(host.admin(reserved), Err(Status::INVALID_FIELD));
}

#[test]
fn a_namespace_of_another_size_is_told_and_listed() {
    let mut host = host(1 << 8);
    let held = host.send(0, request());
    assert_eq!(host.io(nvm::READ, 16383, 1, 0), Ok(0));
    host.model.resize(1, 4 << 20).unwrap();
    assert_eq!(taken(&mut host, 0), [(held, Ok(NAMESPACE))]);
    assert_eq!(host.io(nvm::READ, 16383, 1, 0), Err(Status::LBA_OUT_OF_RANGE));
    assert_eq!(host.io(nvm::READ, 8191, 1, 0), Ok(0));
    let list = host.log(CHANGED_NAMESPACES, 0, 4096).unwrap();
    assert_eq!((list[..4].to_vec(), list[4..].iter().all(|byte| *byte == 0)), (vec![1, 0, 0, 0], true));
    assert_eq!(host.log(CHANGED_NAMESPACES, 0, 4096).unwrap(), vec![0; 4096], "listed once");
    for (nsid, bytes) in [(0, 4096), (2, 4096), (1, 0), (1, u64::MAX)] {
        assert!(host.model.resize(nsid, bytes).is_err(), "namespace {nsid}, {bytes} bytes");
    }
}

#[test]
fn errors_are_told_whether_or_not_anything_is_enabled() {
    let mut host = host(0);
    let held = host.send(0, request());
    host.model.fault(Fault::new(Action::Fail(Status::INTERNAL_ERROR)));
    assert_eq!(host.io(nvm::READ, 0, 1, 0), Err(Status::INTERNAL_ERROR));
    assert_eq!(taken(&mut host, 0), [(held, Ok(INTERNAL))]);
    host.log(ERROR_INFORMATION, 0, 64).unwrap();
    let held = host.send(0, request());
    host.ring(sq_tail_doorbell(1, 0), ENTRIES);
    assert_eq!(taken(&mut host, 0), [(held, Ok(DOORBELL))]);
    let log = host.log(ERROR_INFORMATION, 0, 64).unwrap();
    assert_eq!((log[8..10].to_vec(), log[10..12].to_vec()), (vec![1, 0], vec![0xff; 2]), "of queue 1, no command");
    host.send(0, request());
    assert_eq!(taken(&mut host, 0), [], "told once");
}

#[test]
fn abort_ends_a_request_that_is_held() {
    let mut host = host(0);
    let (first, second) = (host.send(0, request()), host.send(0, request()));
    assert_eq!(taken(&mut host, 0), []);
    let abort = host.send(0, Command::abort(0, second));
    assert_eq!(taken(&mut host, 0), [(second, Err(Status::ABORT_REQUESTED)), (abort, Ok(0))], "in this order");
    assert_eq!(host.admin(Command::abort(0, second)), Ok(1), "it is gone");
    assert_eq!(host.admin(Command::abort(1, first)), Ok(1), "it is of another queue");
    assert_eq!(host.admin(Command::abort(9, first)), Ok(1));
    assert_eq!(host.admin(Command::abort(0xffff, 0xffff)), Ok(1));
}

#[test]
fn abort_ends_a_command_that_is_never_answered() {
    let mut host = host(0);
    host.model.fault(Fault::new(Action::Drop));
    let lost = host.send(1, host.command(nvm::READ, 0, 1, 0));
    assert_eq!(taken(&mut host, 1), []);
    assert_eq!(host.admin(Command::abort(1, lost)), Ok(0));
    assert_eq!(taken(&mut host, 1), [(lost, Err(Status::ABORT_REQUESTED))]);
    assert_eq!(host.admin(Command::abort(1, lost)), Ok(1));
    let done = host.send(1, host.command(nvm::READ, 0, 1, 0));
    assert_eq!(taken(&mut host, 1), [(done, Ok(0))]);
    assert_eq!(host.admin(Command::abort(1, done)), Ok(1), "it has been answered");
}

#[test]
fn abort_leaves_a_command_whose_answer_has_no_room() {
    let mut host = host(0);
    host.model.fault(Fault::new(Action::Drop));
    let lost = host.send(1, host.command(nvm::READ, 0, 1, 0));
    host.model.step();
    // One entry of a completion queue stays empty.
    for _ in 0..ENTRIES - 1 {
        host.send(1, host.command(nvm::READ, 0, 1, 0));
        host.model.step();
    }
    assert_eq!(host.admin(Command::abort(1, lost)), Ok(1));
    assert_eq!(host.take(1).len() as u32, ENTRIES - 1);
    assert_eq!(host.admin(Command::abort(1, lost)), Ok(0));
    assert_eq!(taken(&mut host, 1), [(lost, Err(Status::ABORT_REQUESTED))]);
}
