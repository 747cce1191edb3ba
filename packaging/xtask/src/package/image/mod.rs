//! The companion and what it loads, and nothing else, as an image in a file. No shell, no package
//! manager. The same commit gives the same bytes on the same distribution.

mod layer;
mod layout;

use super::source::Source;
use crate::arch::{Arch, Facts};
use crate::command::run_command;
use crate::cross;
use anyhow::{Context, Result, ensure};
use layer::Files;
use layout::About;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What `packaging/kubernetes/companion` asks for, in full.
pub(crate) const NAME: &str = "docker.io/library/pilotfish-companion";
/// Nobody, as in other images without a distribution.
const USER: u32 = 65_532;
/// Goal of the archive.
const LARGEST: u64 = 25 << 20;

/// Writes the archive; its size. The program is stripped, if it is not.
pub(crate) fn make(source: &Source, arch: Arch, program: &Path, output: &Path) -> Result<u64> {
    arch.check(program)?;
    ensure!(arch.is_of_this_machine(), "an image takes the C library of the machine that makes it");
    let directory = output.parent().filter(|directory| !directory.as_os_str().is_empty());
    if let Some(directory) = directory {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    }
    let stripped = output.with_extension("program");
    let mut strip = Command::new("strip");
    run_command(strip.arg("--strip-all").arg("-o").arg(&stripped).arg(program), "strip the companion")?;
    let files = files(arch, &stripped);
    fs::remove_file(&stripped).with_context(|| format!("remove {}", stripped.display()))?;
    let date: u64 = source.date.trim().parse().context("the commit's date")?;
    let Facts { deb: architecture, .. } = arch.facts();
    let about = About {
        name: &format!("{NAME}:{}", source.version),
        version: &source.version,
        commit: &source.commit,
        architecture,
        command: &["pilotfish-companion", "serve"],
        user: USER,
        date,
    };
    let archive = layout::archive(&files?.tar(date)?, &about)?;
    let size = archive.len() as u64;
    ensure!(size <= LARGEST, "the image has {size} bytes, more than {LARGEST}");
    fs::write(output, archive).with_context(|| format!("write {}", output.display()))?;
    Ok(size)
}

fn files(arch: Arch, program: &Path) -> Result<Files> {
    let mut files = Files::default();
    files.copy(program, Path::new("/usr/bin/pilotfish-companion"), true)?;
    for (from, path) in cross::libraries(arch, program, Path::new("/"))? {
        files.copy(&from, &path, true)?;
    }
    // What a program asks the C library for, and where that looks names up.
    files.add("/etc/passwd", format!("nobody:x:{USER}:{USER}:nobody:/:/usr/sbin/nologin\n").as_bytes());
    files.add("/etc/group", format!("nobody:x:{USER}:\n").as_bytes());
    files.add("/etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n");
    // The libraries' licences go where they go.
    for package in ["libc6", "libgcc-s1", "gcc-12-base"] {
        let copyright = Path::new("/usr/share/doc").join(package).join("copyright");
        if copyright.exists() {
            files.copy(&copyright, &copyright, false)?;
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_ask_for_this_image() {
        let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/../kubernetes/companion");
        let read = |file: &str| fs::read_to_string(format!("{manifests}/{file}")).expect("the manifests");
        let tag = format!("newTag: {}\n", env!("CARGO_PKG_VERSION"));
        assert!(read("kustomization.yaml").contains(&format!("- name: pilotfish-companion\n    {tag}")));
        // A name without a registry is one of this.
        assert_eq!(NAME, "docker.io/library/pilotfish-companion");
        assert!(
            read("companion.yaml").contains("image: pilotfish-companion\n          imagePullPolicy: IfNotPresent\n")
        );
        assert!(read("companion.yaml").contains(&format!("runAsUser: {USER}\n")));
    }
}
