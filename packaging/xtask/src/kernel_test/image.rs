//! Debian's kernels.

use super::apt::Apt;
use crate::arch::Arch;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kernel {
    /// Debian 12's
    #[value(name = "6.1")]
    Bookworm,
    /// Debian 13's, from the backports
    #[value(name = "6.12")]
    Backports,
    /// The same with pages of 16 KiB, which only aarch64 has
    #[value(name = "6.12-16k")]
    Backports16k,
}

impl Kernel {
    /// All that Debian has for an architecture.
    pub fn all(arch: Arch) -> Vec<Kernel> {
        let all = [Kernel::Bookworm, Kernel::Backports, Kernel::Backports16k];
        all.into_iter().filter(|kernel| kernel.package(arch).is_ok()).collect()
    }

    fn suite(self) -> &'static str {
        match self {
            Kernel::Bookworm => "bookworm",
            Kernel::Backports | Kernel::Backports16k => "bookworm-backports",
        }
    }

    /// The cloud flavour where there is one: the same source and BPF options as the generic one, a
    /// third of its size.
    fn package(self, arch: Arch) -> Result<String> {
        match (self, arch) {
            (Kernel::Backports16k, Arch::Aarch64) => Ok("linux-image-arm64-16k".into()),
            (Kernel::Backports16k, Arch::X86_64) => bail!("x86_64 has no pages of 16 KiB"),
            _ => Ok(format!("linux-image-cloud-{}", arch.facts().deb)),
        }
    }
}

/// An unpacked kernel package.
#[derive(Debug)]
pub(crate) struct Image {
    /// As `uname -r` says it.
    pub release: String,
    root: PathBuf,
}

impl Image {
    pub fn vmlinuz(&self) -> PathBuf {
        self.root.join("boot").join(format!("vmlinuz-{}", self.release))
    }

    /// The directory of its modules, and of the lists that it is built with.
    pub fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }

    /// Copies a module, unpacked (Debian compresses them from 6.10 or so on), to `to`; not where it is
    /// built in, which has no file.
    pub fn copy_module(&self, path: &str, to: &Path) -> Result<()> {
        let plain = self.modules().join("kernel").join(path);
        let packed = plain.with_extension("ko.xz");
        if plain.exists() {
            fs::copy(&plain, to)?;
        } else if packed.exists() {
            let unpacked =
                Command::new("xz").arg("-dc").arg(&packed).output().context("run xz (Debian package xz-utils)")?;
            fs::write(to, unpacked.stdout)?;
        }
        Ok(())
    }
}

/// The kernel that the suite has now; downloaded when it is not in the cache.
pub(crate) fn fetch(kernel: Kernel, arch: Arch, cache: &Path) -> Result<Image> {
    let metapackage = kernel.package(arch)?;
    let dir = directory(cache, kernel.suite(), arch);
    let apt = Apt::new(kernel.suite(), arch, &dir)?;
    let release = apt.dependency(&metapackage, "linux-image-").context("find the kernel's package")?;
    let image = Image { root: dir.join(&release), release };
    if !image.vmlinuz().exists() {
        let package = format!("linux-image-{}", image.release);
        eprintln!("downloading {package}");
        apt.unpack(&package, &image.root)?;
    }
    Ok(image)
}

/// x86_64 has the names of the time when there was no other.
fn directory(cache: &Path, suite: &str, arch: Arch) -> PathBuf {
    match arch {
        Arch::X86_64 => cache.join(suite),
        Arch::Aarch64 => cache.join(format!("{suite}-{}", arch.facts().deb)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_16_kib_are_tried_where_there_are_any() {
        assert_eq!(Kernel::all(Arch::X86_64), [Kernel::Bookworm, Kernel::Backports]);
        assert_eq!(Kernel::all(Arch::Aarch64), [Kernel::Bookworm, Kernel::Backports, Kernel::Backports16k]);
        assert!(Kernel::Backports16k.package(Arch::X86_64).is_err());
    }

    #[test]
    fn kernels_of_two_architectures_are_kept_apart() {
        let kept = Arch::ALL.map(|arch| directory(Path::new("/cache"), Kernel::Bookworm.suite(), arch));
        assert_ne!(kept[0], kept[1]);
        assert_eq!(Kernel::Bookworm.package(Arch::Aarch64).ok().as_deref(), Some("linux-image-cloud-arm64"));
    }
}
