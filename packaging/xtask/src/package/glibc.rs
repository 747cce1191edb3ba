//! Which glibc the agent asks for, and which one its deb does.

use crate::command::{output, output_of};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

type Version = (u32, u32);

/// # Errors
/// When the package would install where its program does not start.
pub(super) fn check(program: &Path, deb: &Path) -> Result<()> {
    let versions = output_of(
        Command::new("readelf").args(["--wide", "--version-info"]).arg(program),
        "read what the agent asks glibc for",
    )?;
    let asked = newest(&versions).context("the agent asks for no glibc")?;
    let depends = output(Command::new("dpkg-deb").arg("--field").arg(deb).arg("Depends"))?;
    let promised = promised(&depends).with_context(|| format!("the deb depends on no libc6: {depends}"))?;
    ensure!(
        asked <= promised,
        "the agent asks for glibc {}.{}, the deb for {}.{} only: build it on an older distribution",
        asked.0,
        asked.1,
        promised.0,
        promised.1
    );
    Ok(())
}

/// Of the versions that readelf lists.
fn newest(listed: &str) -> Option<Version> {
    listed.split_whitespace().filter_map(|word| version(word.strip_prefix("GLIBC_")?)).max()
}

/// Of `libc6 (>= 2.34), libgcc-s1`.
fn promised(depends: &str) -> Option<Version> {
    let libc = depends.split(',').find_map(|one| one.trim().strip_prefix("libc6 (>= "))?;
    version(libc.trim_end_matches(')'))
}

fn version(text: &str) -> Option<Version> {
    let mut numbers = text.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_counts_and_not_the_last() {
        let listed = "  0x0080:   Name: GLIBC_2.9  Flags: none\n  0x00b0:   Name: GLIBC_2.34  Flags: none\n\
                      0x00a0:   Name: GLIBC_2.4  Flags: none\n  0x00c0:   Name: GCC_4.2.0  Flags: none\n";
        assert_eq!(newest(listed), Some((2, 34)));
        assert_eq!(newest("GLIBC_PRIVATE GLIBC_2.2.5"), Some((2, 2)));
        assert_eq!(newest(""), None);
    }

    #[test]
    fn a_deb_says_from_which_glibc_on() {
        assert_eq!(promised("libc6 (>= 2.34), libgcc-s1"), Some((2, 34)));
        assert_eq!(promised("libgcc-s1 (>= 4.2), libc6 (>= 2.36)"), Some((2, 36)));
        assert_eq!(promised("libgcc-s1"), None);
        assert_eq!(promised("libc6:arm64 (>= 2.36)"), None, "of another architecture than the package's");
    }
}
