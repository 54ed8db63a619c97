//! What completions there may be.

use std::collections::HashMap;

use crate::support::rig::Done;

/// Errnos that an operation of a ring can end with in kernel 6.18, on a block device or before it gets there.
const ERRNOS: [i32; 34] = [
    libc::EPERM,
    libc::ENOENT,
    libc::EINTR,
    libc::EIO,
    libc::ENXIO,
    libc::E2BIG,
    libc::EBADF,
    libc::EAGAIN,
    libc::ENOMEM,
    libc::EACCES,
    libc::EFAULT,
    libc::EBUSY,
    libc::EEXIST,
    libc::ENODEV,
    libc::EINVAL,
    libc::ENFILE,
    libc::EMFILE,
    libc::ENOTTY,
    libc::ENOSPC,
    libc::ESPIPE,
    libc::ERANGE,
    libc::EBADE,
    libc::ENODATA,
    libc::ETIME,
    libc::ENOLINK,
    libc::EOVERFLOW,
    libc::EBADFD,
    libc::EREMOTEIO,
    libc::EILSEQ,
    libc::EOPNOTSUPP,
    libc::ENOBUFS,
    libc::EALREADY,
    libc::ECANCELED,
    libc::ETIMEDOUT,
];

/// Whether an errno is one of the kernel's for rings.
pub(super) fn is_errno(errno: i32) -> bool {
    ERRNOS.contains(&errno) || errno == libc::EOWNERDEAD
}

/// User data of the first entry of a round.
pub(super) const FIRST: u64 = 0xf00d_0000_0000;

/// What is known of the completions with one user data.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// At least so many, if everything was consumed.
    least: u32,
    /// At most so many.
    most: u32,
    /// The result may be anything.
    free: bool,
    seen: u32,
}

/// The entries of a round, by their user data.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    accounts: HashMap<u64, Account>,
    next: u64,
}

impl Ledger {
    /// User data that no entry has had.
    pub(super) fn fresh(&mut self) -> u64 {
        self.next += 1;
        FIRST + self.next - 1
    }

    /// An entry is in the ring: `least` to `most` completions more, of any result if it is `free`.
    pub(super) fn expect(&mut self, user_data: u64, least: u32, most: u32, free: bool) {
        let account = self.accounts.entry(user_data).or_default();
        account.least += least;
        account.most = account.most.saturating_add(most);
        account.free |= free;
    }

    /// Nothing has to come any more.
    pub(super) fn forgive_all(&mut self) {
        self.accounts.values_mut().for_each(|account| account.least = 0);
    }

    /// A completion has come.
    pub(super) fn see(&mut self, done: &Done) -> Result<(), String> {
        // Fills the last place of a ring of both lengths.
        if done.flags & dmaring::abi::op::IORING_CQE_F_SKIP != 0 && done.user_data == 0 {
            return Ok(());
        }
        let Some(account) = self.accounts.get_mut(&done.user_data) else {
            return Err(format!("a completion of an entry that was never made: {done:x?}"));
        };
        account.seen += 1;
        if account.seen > account.most {
            return Err(format!("one completion too many, {} were expected: {done:x?}", account.most));
        }
        if done.res < 0 && !account.free && !is_errno(-done.res) {
            return Err(format!("a result that the kernel does not give: {} of {done:x?}", done.res));
        }
        Ok(())
    }

    /// Everything has ended.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.accounts.iter().find(|(_, account)| account.seen < account.least) {
            Some((user_data, account)) => Err(format!("completions are missing: of {user_data:#x} {account:?}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(user_data: u64, res: i32) -> Done {
        Done { user_data, res, flags: 0, extra: [0; 2] }
    }

    #[test]
    fn strangers_surplus_and_made_up_results_are_found() {
        let mut ledger = Ledger::default();
        let one = ledger.fresh();
        ledger.expect(one, 1, 1, false);
        assert!(ledger.check().unwrap_err().contains("missing"));
        assert!(ledger.see(&done(7, 0)).unwrap_err().contains("never made"));
        assert!(ledger.see(&done(one, -4095)).unwrap_err().contains("kernel does not give"));
        assert!(ledger.see(&done(one, 0)).unwrap_err().contains("too many"));
        assert_eq!(ledger.check(), Ok(()));
    }
}
