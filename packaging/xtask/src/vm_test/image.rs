//! A Debian that boots: systemd, containerd, runc and a kernel; made once, kept outside the tree.

use crate::command::{output, run_command};
use anyhow::{Context, Result};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kernel {
    #[value(name = "6.1")]
    Bookworm,
    #[value(name = "6.12")]
    Backports,
}

impl Kernel {
    fn name(self) -> &'static str {
        match self {
            Kernel::Bookworm => "6.1",
            Kernel::Backports => "6.12",
        }
    }
}

const PACKAGES: &str =
    "systemd,systemd-sysv,udev,dbus,containerd,runc,iproute2,iptables,nginx-light,procps,kmod,busybox-static,bpftool";

#[derive(Debug)]
pub(super) struct Image {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub disk: PathBuf,
}

/// Runs what the second disk brings, once the system is up.
const UNIT: &str = "[Unit]
After=multi-user.target containerd.service
[Service]
Type=idle
StandardOutput=file:/dev/ttyS0
StandardError=inherit
ExecStart=/bin/sh -c 'mkdir -p /srv/test && tar -x -C /srv/test -f /dev/vdb && exec sh /srv/test/main.sh'
ExecStopPost=/bin/sh -c 'echo vm-story-over; systemctl poweroff --force --force'
[Install]
WantedBy=default.target
";

/// The root file system as mmdebstrap packs it.
pub(super) fn base(kernel: Kernel, cache: &Path) -> Result<PathBuf> {
    let (suites, package) = match kernel {
        Kernel::Bookworm => (vec!["bookworm"], "linux-image-cloud-amd64"),
        Kernel::Backports => (vec!["bookworm", "bookworm-backports"], "linux-image-cloud-amd64/bookworm-backports"),
    };
    let name = kernel.name();
    let tar = cache.join(format!("base-{}.tar", key(kernel)));
    if tar.exists() {
        return Ok(tar);
    }
    fs::create_dir_all(cache).with_context(|| format!("make {}", cache.display()))?;
    eprintln!("making a Debian with Linux {name} (about 3 minutes, once)");
    let mirror = mirror()?;
    forget(cache, kernel)?;
    let part = cache.join(format!("part-{}.tar", std::process::id()));
    let mut make = Command::new("mmdebstrap");
    make.args(["--variant=minbase", &format!("--include={PACKAGES},{package}"), "bookworm"]).arg(&part);
    make.args(suites.iter().map(|suite| format!("deb {mirror} {suite} main")));
    run_command(&mut make, "make the root file system (Debian package mmdebstrap)")?;
    fs::rename(&part, &tar)?;
    Ok(tar)
}

/// What the cache's files are named after: a recipe that changed makes them anew.
fn key(kernel: Kernel) -> String {
    let mut recipe = DefaultHasher::new();
    (PACKAGES, UNIT).hash(&mut recipe);
    format!("{}-{:08x}", kernel.name(), recipe.finish() >> 32)
}

/// Removes what earlier recipes have made for a kernel.
fn forget(cache: &Path, kernel: Kernel) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_of_it = ["base", "disk", "initrd", "vmlinuz"]
            .iter()
            .any(|what| name.starts_with(&format!("{what}-{}-", kernel.name())));
        if is_of_it {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

pub(super) fn fetch(kernel: Kernel, cache: &Path) -> Result<Image> {
    let file = |what: &str| cache.join(format!("{what}-{}", key(kernel)));
    let image = Image { kernel: file("vmlinuz"), initrd: file("initrd"), disk: file("disk") };
    if image.disk.exists() {
        return Ok(image);
    }
    let tar = base(kernel, cache)?;
    let root = cache.join(format!("root-{}", std::process::id()));
    fs::create_dir_all(&root)?;
    let made = disk(&tar, &root, &image);
    fs::remove_dir_all(&root)?;
    made.map(|()| image)
}

fn disk(tar: &Path, root: &Path, image: &Image) -> Result<()> {
    run_command(Command::new("tar").arg("-C").arg(root).arg("-xf").arg(tar), "unpack the root file system")?;
    let units = root.join("etc/systemd/system");
    fs::write(units.join("vm-story.service"), UNIT)?;
    symlink("/etc/systemd/system/vm-story.service", units.join("multi-user.target.wants/vm-story.service"))?;
    // A console that asks for a password would only slow the boot, and nginx is for a container.
    for unit in ["serial-getty@ttyS0.service", "nginx.service"] {
        symlink("/dev/null", units.join(unit))?;
    }
    fs::write(root.join("etc/fstab"), "")?;
    for (prefix, to) in [("vmlinuz-", &image.kernel), ("initrd.img-", &image.initrd)] {
        let mut found: Vec<_> = fs::read_dir(root.join("boot"))?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        found.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)));
        found.sort();
        fs::copy(found.last().with_context(|| format!("the root has no {prefix}*"))?, to)?;
    }
    let part = image.disk.with_file_name(format!("disk-{}.part", std::process::id()));
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-F", "-t", "ext4", "-d"]).arg(root).arg(&part).arg("2500M");
    run_command(&mut make, "make the disk")?;
    fs::rename(&part, &image.disk)?;
    Ok(())
}

/// Where the machine's own sources get Debian from.
fn mirror() -> Result<String> {
    let list =
        output(Command::new("apt-get").arg("indextargets").args(["--format", "$(SITE)", "Created-By: Packages"]))?;
    let debian = list.lines().find(|line| line.trim_end_matches('/').ends_with("/debian"));
    Ok(debian.unwrap_or("http://deb.debian.org/debian").to_owned())
}
