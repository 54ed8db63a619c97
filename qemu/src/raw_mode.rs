//! The host's terminal while a guest's terminal is shown on it.
#![expect(unsafe_code)]

use std::io::{self, Stdin};
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

mod request {
    nix::ioctl_read_bad!(window_size, nix::libc::TIOCGWINSZ, nix::libc::winsize);
}

/// Keeps the terminal raw; gives it back as it was when dropped.
pub(crate) struct RawMode {
    terminal: Stdin,
    before: Termios,
}

impl RawMode {
    /// Makes standard input raw.
    pub fn enter() -> io::Result<Self> {
        let terminal = io::stdin();
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&terminal, SetArg::TCSANOW, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone, and then there is nothing to restore.
        let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before);
    }
}

/// Rows and columns of the terminal on standard input; 24 by 80 where there is none.
pub(crate) fn window() -> (u16, u16) {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one `winsize`, and `size` outlives the call.
    let asked = unsafe { request::window_size(io::stdin().as_raw_fd(), &mut size) };
    match asked {
        Ok(_) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row, size.ws_col),
        _ => (24, 80),
    }
}
