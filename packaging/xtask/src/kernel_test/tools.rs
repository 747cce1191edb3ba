//! The programs that the tests call inside the guest.

use super::apt::Apt;
use crate::arch::Arch;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// What the tests call. A real shell: busybox's runs its own `ip` whatever PATH says.
pub(super) const TOOLS: [&str; 8] = ["ip", "tc", "sh", "unshare", "nsenter", "sleep", "test", "seq"];
const SUITE: &str = "bookworm";
const PACKAGES: [&str; 5] = ["busybox-static", "coreutils", "dash", "iproute2", "util-linux"];

/// Where the guest's programs are: this machine's own, or those of packages of another architecture.
#[derive(Debug)]
pub(super) struct Tools {
    pub root: PathBuf,
    own: bool,
}

impl Tools {
    /// Downloads what is not in the cache.
    pub fn find(arch: Arch, cache: &Path) -> Result<Tools> {
        if arch.is_of_this_machine() {
            return Ok(Tools { root: PathBuf::from("/"), own: true });
        }
        let dir = cache.join(format!("tools-{}", arch.facts().deb));
        let root = dir.join("root");
        if !root.exists() {
            eprintln!("downloading {} and what they need", PACKAGES.join(", "));
            let apt = Apt::new(SUITE, arch, &dir)?;
            apt.unpack_with_dependencies(&PACKAGES, &root)?;
        }
        Ok(Tools { root, own: false })
    }

    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let own = std::env::split_paths(&path).filter(|_| self.own);
        // /bin before /sbin: there `ip` is a link to it, by a path that is not below `root`.
        let usual = ["bin", "usr/bin", "sbin", "usr/sbin"].map(|dir| self.root.join(dir));
        own.chain(usual)
            .map(|dir| dir.join(name))
            .find(|path| path.exists())
            .with_context(|| format!("{name} is missing (Debian packages {})", PACKAGES.join(", ")))
    }
}
