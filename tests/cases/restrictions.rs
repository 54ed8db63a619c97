//! What a ring may do (`REGISTER_RESTRICTIONS`).

use io_uring::squeue::{Entry, Flags};
use io_uring::{opcode, types};

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::buffer_ring::submit_one;
use crate::support::calls::{
    REGISTER_ENABLE_RINGS, REGISTER_PROBE, REGISTER_RESTRICTIONS, UNMAPPED, UNREGISTER_EVENTFD, register,
    register_bytes, restriction,
};
use crate::support::raw::edit;
use crate::support::rig::{FILE, Rig, read};

pub(super) const ALL: &[Case] = cases![
    restrictions_want_a_disabled_ring,
    restrictions_are_checked_when_they_are_registered,
    restrictions_with_an_error_leave_none,
    restrictions_hold_when_the_ring_is_enabled,
    operations_that_are_not_allowed_are_refused,
    flags_that_are_not_allowed_are_refused,
    flags_that_are_required_are_asked_for,
    of_allowed_flags_the_last_word_counts,
    other_errors_come_before_and_after_restrictions,
    a_restricted_entry_ends_its_batch_and_chain,
    no_restrictions_restrict_everything,
];

const R_DISABLED: u32 = 1 << 6;
/// `enum io_uring_register_restriction_op`.
const REGISTER_OP: u16 = 0;
const SQE_OP: u16 = 1;
const SQE_FLAGS_ALLOWED: u16 = 2;
const SQE_FLAGS_REQUIRED: u16 = 3;
const NOP: u8 = 0;
const READ: u8 = 22;
const EINVAL: i32 = -libc::EINVAL;
const EACCES: i32 = -libc::EACCES;

fn disabled(bench: &Bench) -> Result<Rig, Stop> {
    bench.open(bench.builder(8).setup_flags(R_DISABLED))
}

fn restrict(rig: &Rig, restrictions: &[(u16, u8)]) -> i32 {
    let bytes: Vec<_> = restrictions.iter().flat_map(|(kind, value)| restriction(*kind, *value)).collect();
    let bytes = if bytes.is_empty() { vec![0] } else { bytes };
    register_bytes(&rig.ring, REGISTER_RESTRICTIONS, &bytes, restrictions.len() as u32)
}

fn enable(rig: &Rig) -> i32 {
    register(&rig.ring, REGISTER_ENABLE_RINGS, 0, 0)
}

fn restricted(bench: &Bench, restrictions: &[(u16, u8)]) -> Result<Rig, Stop> {
    let rig = disabled(bench)?;
    assert_eq!(restrict(&rig, restrictions), 0);
    assert_eq!(enable(&rig), 0);
    Ok(rig)
}

fn nop() -> Entry {
    opcode::Nop::new().build()
}

fn result(rig: &mut Rig, entry: Entry) -> Result<i32, Stop> {
    Ok(submit_one(rig, &entry)?.0)
}

fn restrictions_want_a_disabled_ring(bench: &Bench) -> Outcome {
    let rig = bench.rig(4)?;
    assert_eq!(restrict(&rig, &[(SQE_OP, NOP)]), -libc::EBADFD);
    assert_eq!(register(&rig.ring, REGISTER_RESTRICTIONS, UNMAPPED, 1000), -libc::EBADFD, "before it is read");
    let rig = disabled(bench)?;
    assert_eq!(enable(&rig), 0);
    assert_eq!(restrict(&rig, &[(SQE_OP, NOP)]), -libc::EBADFD, "once it is enabled");
    Ok(())
}

fn restrictions_are_checked_when_they_are_registered(bench: &Bench) -> Outcome {
    let rig = disabled(bench)?;
    let ask = |address, count| register(&rig.ring, REGISTER_RESTRICTIONS, address, count);
    assert_eq!([ask(0, 0), ask(0, 1), ask(UNMAPPED, 1000)], [EINVAL; 3]);
    assert_eq!(ask(UNMAPPED, 1), -libc::EFAULT);
    for kind in [4, 5, u16::MAX] {
        assert_eq!(restrict(&rig, &[(kind, 0)]), EINVAL, "kind {kind}");
    }
    for (kind, value) in [(REGISTER_OP, 100), (REGISTER_OP, 255), (SQE_OP, 100), (SQE_OP, 255)] {
        assert_eq!(restrict(&rig, &[(kind, value)]), EINVAL, "kind {kind} of {value}");
    }
    // Flags may be any, and what is reserved does not count.
    let mut odd = restriction(SQE_FLAGS_ALLOWED, 0xff);
    odd[3..].fill(0xff);
    assert_eq!(register_bytes(&rig.ring, REGISTER_RESTRICTIONS, &odd, 1), 0);
    assert_eq!(restrict(&rig, &[(SQE_OP, NOP)]), -libc::EBUSY, "a second time");
    assert_eq!([ask(0, 0), ask(UNMAPPED, 1)], [-libc::EBUSY; 2]);
    Ok(())
}

fn restrictions_with_an_error_leave_none(bench: &Bench) -> Outcome {
    let mut rig = disabled(bench)?;
    assert_eq!(restrict(&rig, &[(SQE_OP, NOP), (9, 0)]), EINVAL);
    assert_eq!(restrict(&rig, &[(SQE_OP, READ), (REGISTER_OP, 255)]), EINVAL);
    assert_eq!(restrict(&rig, &[(SQE_OP, READ), (SQE_FLAGS_ALLOWED, 1)]), 0);
    assert_eq!(enable(&rig), 0);
    assert_eq!(result(&mut rig, nop())?, EACCES);
    let memory = rig.plain(512);
    assert_eq!(result(&mut rig, read(&memory, 0))?, 512);
    let mut rig = disabled(bench)?;
    assert_eq!(restrict(&rig, &[(SQE_OP, READ), (9, 0)]), EINVAL);
    assert_eq!(enable(&rig), 0);
    assert_eq!(result(&mut rig, nop())?, 0, "without any the ring is free");
    Ok(())
}

fn restrictions_hold_when_the_ring_is_enabled(bench: &Bench) -> Outcome {
    let allowed = [(REGISTER_OP, REGISTER_PROBE as u8), (REGISTER_OP, REGISTER_ENABLE_RINGS as u8)];
    let rig = disabled(bench)?;
    assert_eq!(restrict(&rig, &allowed), 0);
    let call = |opcode| register(&rig.ring, opcode, 0, 0);
    assert_eq!(call(UNREGISTER_EVENTFD), -libc::ENXIO, "until then nothing is restricted");
    assert_eq!(enable(&rig), 0);
    assert_eq!(call(UNREGISTER_EVENTFD), EACCES);
    assert_eq!([call(REGISTER_RESTRICTIONS), call(1)], [EACCES; 2]);
    assert_eq!(call(REGISTER_PROBE), EINVAL, "allowed, and told what is wrong");
    assert_eq!(enable(&rig), -libc::EBADFD, "allowed");
    assert_eq!(call(99), EINVAL, "what does not exist is not looked for");
    // Enabling needs no permission.
    let rig = restricted(bench, &[(SQE_OP, NOP)])?;
    assert_eq!(enable(&rig), EACCES);
    Ok(())
}

fn operations_that_are_not_allowed_are_refused(bench: &Bench) -> Outcome {
    let mut rig = restricted(bench, &[(SQE_OP, NOP), (SQE_OP, READ), (SQE_FLAGS_ALLOWED, 1)])?;
    let memory = rig.plain(512);
    assert_eq!(result(&mut rig, nop())?, 0);
    assert_eq!(result(&mut rig, read(&memory, 0))?, 512);
    assert_eq!(result(&mut rig, opcode::Fsync::new(FILE).build())?, EACCES);
    assert_eq!(result(&mut rig, opcode::Fsync::new(FILE).build().flags(Flags::SKIP_SUCCESS))?, EACCES);
    let nowhere = opcode::Write::new(types::Fd(-1), memory.ptr(), 512).build();
    assert_eq!(result(&mut rig, nowhere)?, EACCES, "before the file is looked for");
    assert_eq!(result(&mut rig, nop())?, 0);
    Ok(())
}

fn flags_that_are_not_allowed_are_refused(bench: &Bench) -> Outcome {
    let mut rig = restricted(bench, &[(SQE_OP, NOP), (SQE_OP, READ), (SQE_FLAGS_ALLOWED, Flags::FIXED_FILE.bits())])?;
    for flags in [Flags::ASYNC, Flags::IO_LINK, Flags::IO_HARDLINK, Flags::IO_DRAIN, Flags::SKIP_SUCCESS] {
        assert_eq!(result(&mut rig, nop().flags(flags))?, EACCES, "{flags:?}");
    }
    assert_eq!(result(&mut rig, nop().flags(Flags::FIXED_FILE))?, 0);
    let selecting = opcode::Read::new(FILE, std::ptr::null_mut(), 512).build().flags(Flags::BUFFER_SELECT);
    assert_eq!(result(&mut rig, selecting)?, EACCES);
    // Without a word on flags none are allowed, not even the one of fixed files.
    let mut rig = restricted(bench, &[(SQE_OP, NOP), (SQE_OP, READ)])?;
    let memory = rig.plain(512);
    assert_eq!(result(&mut rig, nop())?, 0);
    assert_eq!(result(&mut rig, read(&memory, 0))?, EACCES);
    Ok(())
}

fn flags_that_are_required_are_asked_for(bench: &Bench) -> Outcome {
    let (hard, fixed) = (Flags::IO_HARDLINK, Flags::FIXED_FILE);
    let required = (SQE_FLAGS_REQUIRED, hard.bits());
    for (allowed, with_fixed) in [(hard.bits() | fixed.bits(), 0), (fixed.bits(), 0), (0, EACCES)] {
        let mut rig = restricted(bench, &[(SQE_OP, NOP), required, (SQE_FLAGS_ALLOWED, allowed)])?;
        assert_eq!(result(&mut rig, nop())?, EACCES);
        assert_eq!(result(&mut rig, nop().flags(hard))?, 0, "what is required is allowed");
        assert_eq!(result(&mut rig, nop().flags(fixed))?, EACCES);
        assert_eq!(result(&mut rig, nop().flags(fixed | hard))?, with_fixed);
    }
    Ok(())
}

fn of_allowed_flags_the_last_word_counts(bench: &Bench) -> Outcome {
    let twice = [(SQE_OP, NOP), (SQE_FLAGS_ALLOWED, Flags::ASYNC.bits()), (SQE_FLAGS_ALLOWED, 1)];
    let mut rig = restricted(bench, &twice)?;
    assert_eq!(result(&mut rig, nop().flags(Flags::ASYNC))?, EACCES);
    assert_eq!(result(&mut rig, nop().flags(Flags::FIXED_FILE))?, 0);
    let twice = [(SQE_OP, NOP), (SQE_FLAGS_REQUIRED, Flags::ASYNC.bits()), (SQE_FLAGS_REQUIRED, 0)];
    let mut rig = restricted(bench, &twice)?;
    assert_eq!(result(&mut rig, nop())?, 0);
    assert_eq!(result(&mut rig, nop().flags(Flags::ASYNC))?, EACCES);
    Ok(())
}

fn other_errors_come_before_and_after_restrictions(bench: &Bench) -> Outcome {
    let mut rig = restricted(bench, &[(SQE_OP, NOP)])?;
    let fsync = || opcode::Fsync::new(types::Fd(-1)).build();
    assert_eq!(result(&mut rig, edit(nop(), |bytes| bytes[0] = 200))?, EINVAL, "unknown operations");
    assert_eq!(result(&mut rig, edit(nop(), |bytes| bytes[1] = 0x80))?, EINVAL, "unknown flags");
    let both = Flags::SKIP_SUCCESS | Flags::IO_DRAIN;
    assert_eq!(result(&mut rig, nop().flags(both))?, -libc::EOPNOTSUPP, "flags that do not go together");
    assert_eq!(result(&mut rig, fsync().flags(Flags::BUFFER_SELECT))?, -libc::EOPNOTSUPP, "nothing to select");
    assert_eq!(result(&mut rig, edit(fsync(), |bytes| bytes[2] = 9))?, EACCES, "before priorities");
    assert_eq!(result(&mut rig, fsync().personality(9))?, EACCES, "before personalities");
    assert_eq!(result(&mut rig, edit(nop(), |bytes| bytes[2] = 9))?, EINVAL);
    assert_eq!(result(&mut rig, nop().personality(9))?, EINVAL);
    Ok(())
}

fn a_restricted_entry_ends_its_batch_and_chain(bench: &Bench) -> Outcome {
    let mut rig = restricted(bench, &[(SQE_OP, NOP), (SQE_FLAGS_ALLOWED, Flags::IO_LINK.bits())])?;
    let refused = || opcode::Fsync::new(types::Fd(-1)).build();
    for entry in [nop().user_data(1), refused().user_data(2), nop().user_data(3)] {
        rig.push(&entry)?;
    }
    assert_eq!(rig.ring.submit()?, 2);
    assert_eq!(rig.ring.submit()?, 1);
    let done: Vec<_> = rig.wait(3)?.iter().map(|done| (done.user_data, done.res)).collect();
    assert_eq!(done, [(1, 0), (2, EACCES), (3, 0)]);
    let link = Flags::IO_LINK;
    for entry in [nop().flags(link).user_data(1), refused().flags(link).user_data(2), nop().user_data(3)] {
        rig.push(&entry)?;
    }
    rig.ring.submit()?;
    rig.ring.submit()?;
    let mut done: Vec<_> = rig.wait(3)?.iter().map(|done| (done.user_data, done.res)).collect();
    done.sort_unstable();
    assert_eq!(done, [(1, -libc::ECANCELED), (2, EACCES), (3, -libc::ECANCELED)]);
    Ok(())
}

fn no_restrictions_restrict_everything(bench: &Bench) -> Outcome {
    for restrictions in [&[][..], &[(REGISTER_OP, REGISTER_PROBE as u8)], &[(SQE_FLAGS_ALLOWED, 0xff)]] {
        let mut rig = restricted(bench, restrictions)?;
        assert_eq!(result(&mut rig, nop())?, EACCES, "{restrictions:?}");
        assert_eq!(register(&rig.ring, UNREGISTER_EVENTFD, 0, 0), EACCES);
        let may_probe = restrictions.iter().any(|(kind, _)| *kind == REGISTER_OP);
        assert_eq!(register(&rig.ring, REGISTER_PROBE, 0, 0), if may_probe { EINVAL } else { EACCES });
    }
    Ok(())
}
