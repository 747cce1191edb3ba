//! A program and what it loads, and nothing else, as an image in a file. No shell, no package
//! manager. The same commit gives the same bytes on the same distribution.

mod layer;
mod layout;

use super::product::Product;
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

/// Goal of the archive.
const LARGEST: u64 = 25 << 20;

/// Writes the archive; its size. The program is stripped, if it is not.
pub(crate) fn make(product: Product, source: &Source, arch: Arch, program: &Path, output: &Path) -> Result<u64> {
    arch.check(program)?;
    ensure!(arch.is_of_this_machine(), "an image takes the C library of the machine that makes it");
    let directory = output.parent().filter(|directory| !directory.as_os_str().is_empty());
    if let Some(directory) = directory {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    }
    let stripped = output.with_extension("program");
    let mut strip = Command::new("strip");
    run_command(strip.arg("--strip-all").arg("-o").arg(&stripped).arg(program), "strip the program")?;
    let files = files(product, arch, &stripped);
    fs::remove_file(&stripped).with_context(|| format!("remove {}", stripped.display()))?;
    let date: u64 = source.date.trim().parse().context("the commit's date")?;
    let Facts { deb: architecture, .. } = arch.facts();
    let about = About {
        name: &format!("{}:{}", product.image(), source.version),
        title: product.name(),
        version: &source.version,
        commit: &source.commit,
        architecture,
        command: product.command(),
        user: product.user(),
        date,
    };
    let archive = layout::archive(&files?.tar(date)?, &about)?;
    let size = archive.len() as u64;
    ensure!(size <= LARGEST, "the image has {size} bytes, more than {LARGEST}");
    fs::write(output, archive).with_context(|| format!("write {}", output.display()))?;
    Ok(size)
}

fn files(product: Product, arch: Arch, program: &Path) -> Result<Files> {
    let mut files = Files::default();
    files.copy(program, &Path::new("/usr/bin").join(product.name()), true)?;
    for (from, path) in cross::libraries(arch, program, Path::new("/"))? {
        files.copy(&from, &path, true)?;
    }
    // What a program asks the C library for, and where that looks names up.
    let user = product.user();
    let name = if user == 0 { "root" } else { "nobody" };
    files.add("/etc/passwd", format!("{name}:x:{user}:{user}:{name}:/:/usr/sbin/nologin\n").as_bytes());
    files.add("/etc/group", format!("{name}:x:{user}:\n").as_bytes());
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

    const KUBERNETES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../kubernetes");

    fn read(path: &str) -> String {
        fs::read_to_string(Path::new(KUBERNETES).join(path)).expect("a manifest")
    }

    #[test]
    fn the_manifests_ask_for_these_images() {
        for (product, directory, file) in
            [(Product::Companion, "companion", "companion.yaml"), (Product::Agent, "agent", "agent.yaml")]
        {
            let name = product.name();
            let tag = format!("- name: {name}\n    newTag: {}\n", env!("CARGO_PKG_VERSION"));
            assert!(read(&format!("{directory}/kustomization.yaml")).contains(&tag), "{name}");
            // A name without a registry is one of this.
            assert_eq!(product.image(), format!("docker.io/library/{name}"));
            let manifest = read(&format!("{directory}/{file}"));
            let image = format!("image: {name}\n          imagePullPolicy: IfNotPresent\n");
            assert!(manifest.contains(&image), "{name}");
            assert!(manifest.contains(&format!("runAsUser: {}\n", product.user())), "{name}");
            assert!(manifest.contains(&format!("command: [{}", product.command().join(", "))), "{name}");
        }
    }

    /// The unit says why the agent needs each; one more stands for its `LimitRTPRIO=`.
    #[test]
    fn the_agent_has_the_same_capabilities_as_a_pod_and_as_a_unit() {
        let unit = fs::read_to_string(Path::new(KUBERNETES).join("../../systemd/pilotfish.service")).expect("the unit");
        let of_unit = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).expect("its bound");
        let mut of_unit: Vec<&str> = of_unit.split(' ').filter_map(|name| name.strip_prefix("CAP_")).collect();
        assert!(unit.contains("\nLimitRTPRIO=1\n"));
        of_unit.push("SYS_NICE");
        let manifest = read("agent/agent.yaml");
        let (_, list) = manifest.split_once("              add:\n").expect("a list");
        let of_pod: Vec<&str> =
            list.lines().map_while(|line| line.strip_prefix("                - ")?.split(" #").next()).collect();
        assert_eq!(of_pod, of_unit);
    }
}
