//! The rpm's life in a root directory of its own, with systemd's tools inside but no systemd
//! running: files, scripts and unit, an upgrade that keeps the configuration, and an erasure that
//! leaves nothing.

use super::build::one;
use super::source::Format;
use crate::command::{output, run_command};
use crate::vm_test;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What must be there once it is installed, and gone once it is erased.
const FILES: [&str; 11] = [
    "usr/bin/pilotfish",
    "etc/pilotfish/agent.toml",
    "usr/lib/systemd/system/pilotfish.service",
    "usr/lib/sysusers.d/pilotfish.conf",
    "usr/share/man/man1/pilotfish.1.gz",
    "usr/share/man/man1/pilotfish-agent.1.gz",
    "usr/share/bash-completion/completions/pilotfish",
    "usr/share/zsh/site-functions/_pilotfish",
    "usr/share/fish/vendor_completions.d/pilotfish.fish",
    "usr/share/licenses/pilotfish/licences-of-dependencies.gz",
    "usr/share/doc/pilotfish/changelog",
];

pub(super) fn run(binary: Option<&Path>) -> Result<()> {
    let base = vm_test::base()?;
    let second = one(Format::Rpm, binary, 2)?;
    let first = one(Format::Rpm, binary, 1)?;
    let root = first.with_file_name(format!("rpm-root-{}", std::process::id()));
    fs::create_dir_all(&root)?;
    let lived = life(&base, &root, &first, &second);
    fs::remove_dir_all(&root)?;
    lived
}

fn life(base: &Path, root: &Path, first: &Path, second: &Path) -> Result<()> {
    run_command(Command::new("tar").arg("-C").arg(root).arg("-xf").arg(base), "unpack a root")?;
    let rpm = |arguments: &[&str]| {
        let mut rpm = Command::new("rpm");
        // Its libraries are dpkg's in there, which rpm does not know of: hence --nodeps below.
        rpm.arg("--root").arg(root).args(arguments);
        rpm
    };
    let path = |path: &Path| path.to_string_lossy().into_owned();
    run_command(&mut rpm(&["--initdb"]), "make an rpm database")?;
    let before = files(root)?;
    run_command(&mut rpm(&["--install", "--nodeps", &path(first)]), "install the rpm")?;
    for file in FILES {
        ensure!(root.join(file).exists(), "{file} was not installed");
    }
    run_command(&mut rpm(&["--verify", "--nodeps", "pilotfish"]), "verify the files")?;
    let wanted = root.join("etc/systemd/system/multi-user.target.wants/pilotfish.service");
    ensure!(wanted.symlink_metadata().is_ok(), "the unit was not enabled");
    let accounts = fs::read_to_string(root.join("etc/passwd"))?;
    ensure!(accounts.contains("\npilotfish:"), "the unit's account was not made");
    let mut verify = Command::new("chroot");
    verify.arg(root).args(["systemd-analyze", "verify", "--man=no", "/usr/lib/systemd/system/pilotfish.service"]);
    run_command(&mut verify, "verify the unit")?;
    run_command(Command::new("chroot").arg(root).args(["pilotfish", "config"]), "read the configuration")?;

    let configuration = root.join("etc/pilotfish/agent.toml");
    let edited = fs::read_to_string(&configuration)? + "# kept\n";
    fs::write(&configuration, &edited)?;
    run_command(&mut rpm(&["--upgrade", "--nodeps", &path(second)]), "upgrade the rpm")?;
    ensure!(output(&mut rpm(&["--query", "pilotfish"]))?.contains("-2"), "the upgrade did not take");
    ensure!(fs::read_to_string(&configuration)? == edited, "the upgrade replaced the configuration");
    ensure!(wanted.symlink_metadata().is_ok(), "the upgrade disabled the unit");

    run_command(&mut rpm(&["--erase", "pilotfish"]), "erase the rpm")?;
    let mut left = files(root)?;
    left.retain(|file| !before.contains(file));
    // What an administrator wrote is set aside, as rpm does with every configuration.
    left.retain(|file| !file.ends_with("agent.toml.rpmsave") && !file.ends_with("etc/pilotfish"));
    ensure!(left.is_empty(), "left behind: {left:?}");
    eprintln!("rpm: installed, upgraded and erased in a root of its own");
    Ok(())
}

/// Everything whose name is ours.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let found = output(Command::new("find").arg(root).args(["-iname", "*pilotfish*"])).context("list the root")?;
    Ok(found.lines().map(PathBuf::from).collect())
}
