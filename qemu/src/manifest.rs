//! What the host tells init, as a file in the initramfs, and init's last answer.

use serde::{Deserialize, Serialize};

/// Where the manifest lies in the guest; without it a PID 1 is not ours to be.
pub(crate) const PATH: &str = "/.dmaring/manifest.json";
/// Folder of the kernel modules in the guest.
pub(crate) const MODULES: &str = "/.dmaring/modules";
/// Name of the virtio-serial port.
pub(crate) const PORT: &str = "dmaring";

/// Everything init needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Program and arguments.
    pub command: Vec<String>,
    /// The command's whole environment.
    pub env: Vec<(String, String)>,
    pub cwd: String,
    /// Files in [`MODULES`], in loading order.
    pub modules: Vec<String>,
    /// CPUs to bring up; the kernel starts with one.
    pub cpus: u32,
    /// Controllers and namespaces to wait for.
    pub controllers: usize,
    pub namespaces: usize,
    /// Guest paths to bring back.
    pub get: Vec<String>,
    /// Give the command a terminal.
    pub tty: bool,
    /// Rows and columns of it.
    pub window: (u16, u16),
}

/// How the command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// Processes the kernel killed for want of memory since boot.
    pub oom_kills: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_round_trip() {
        let manifest = Manifest {
            command: vec!["echo".into(), "ä \"\n".into(), String::new()],
            env: vec![("A".into(), "b=c".into())],
            cwd: "/".into(),
            modules: vec!["vfio.ko".into()],
            cpus: 2,
            controllers: 2,
            namespaces: 3,
            get: vec!["/tmp/x".into()],
            tty: true,
            window: (25, 80),
        };
        let text = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), manifest);
    }
}
