//! A root file system made of this machine's own programs, and the small one that mounts it.

use crate::arch::Arch;
use crate::command::{output, output_of};
use crate::cross;
use crate::kernel_test::image::Image;
use crate::kernel_test::report::DONE;
use crate::runtime_test::runtime::{PROGRAMS as OF_THE_RUNTIME, Runtime};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the testbed and the scenes call.
const PROGRAMS: [&str; 13] =
    ["bash", "bpftool", "busybox", "ip", "ipvsadm", "iptables", "ldd", "nft", "nsenter", "python3", "runc", "sh", "tc"];
/// Read by those programs: Python's library, and the extensions of iptables.
const TREES: [&str; 2] = ["usr/lib/python3*", "usr/lib/x86_64-linux-gnu/xtables"];
/// This workspace's, which the tests find beside themselves.
const BUILT: [&str; 3] = ["pilotfish", "loadgen", "api"];
/// Of the kernel's modules: links, filters and balancers, and what they are made with.
const MODULES: [&str; 6] = ["net", "drivers/net", "fs/overlayfs", "lib", "crypto", "arch/x86/crypto"];
const DISK_DRIVER: &str = "drivers/block/virtio_blk.ko";
const DIRECTORIES: [&str; 12] =
    ["dev", "etc", "opt/pilotfish", "proc", "root", "run", "sys", "tmp", "usr/bin", "usr/lib", "usr/lib64", "var"];

/// Makes the guest's files in `cache`: the initial file system, and the disk.
pub(super) fn make(image: &Image, runtime: &Runtime, test: &Path, filter: &str, cache: &Path) -> Result<[PathBuf; 2]> {
    let work = cache.join(format!("vm-{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("make {}", work.display()))?;
    let made = initrd(image, &work).and_then(|initrd| Ok([initrd, disk(image, runtime, test, filter, &work)?]));
    fs::remove_dir_all(&work)?;
    made
}

fn initrd(image: &Image, work: &Path) -> Result<PathBuf> {
    let root = work.join("initrd");
    for dir in ["bin", "dev", "modules", "root"] {
        fs::create_dir_all(root.join(dir))?;
    }
    fs::copy(find("busybox", None)?, root.join("bin/busybox"))?;
    image.copy_module(DISK_DRIVER, &root.join("modules/virtio_blk.ko"))?;
    script(&root.join("init"), MOUNT)?;
    let initrd = work.with_extension("cpio");
    let pack = format!("cd '{}' && find . | cpio --quiet -o -H newc > '{}'", root.display(), initrd.display());
    output_of(Command::new("sh").args(["-ec", &pack]), "pack the initial file system (Debian package cpio)")?;
    Ok(initrd)
}

const MOUNT: &str = "#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
for module in /modules/*; do $b insmod $module; done
until [ -b /dev/vda ]; do $b sleep 0.1; done
$b mount -t ext4 /dev/vda /root
exec $b switch_root /root /sbin/init
";

fn disk(image: &Image, runtime: &Runtime, test: &Path, filter: &str, work: &Path) -> Result<PathBuf> {
    let root = work.join("root");
    for dir in DIRECTORIES {
        fs::create_dir_all(root.join(dir))?;
    }
    for (link, to) in
        [("bin", "usr/bin"), ("sbin", "usr/bin"), ("usr/sbin", "bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")]
    {
        symlink(to, root.join(link))?;
    }
    for name in PROGRAMS {
        add_program(&find(name, None)?, &root.join("usr/bin").join(name), &root)?;
    }
    for name in OF_THE_RUNTIME {
        add_program(&find(name, runtime.dir())?, &root.join("usr/bin").join(name), &root)?;
    }
    for applet in ["depmod", "modprobe"] {
        symlink("busybox", root.join("usr/bin").join(applet))?;
    }
    let copy = format!("cd / && cp -a --parents {} '{}'", TREES.join(" "), root.display());
    output_of(Command::new("sh").args(["-ec", &copy]), "copy what programs read")?;
    let built = test.parent().and_then(Path::parent).context("a test's path")?;
    for program in BUILT.map(|name| built.join(name)).iter().map(PathBuf::as_path).chain([test]) {
        let to = root.join("opt/pilotfish").join(program.file_name().context("a program's path")?);
        add_program(program, &to, &root)?;
        output_of(Command::new("strip").arg("--strip-debug").arg(&to), "make a program small")?;
    }
    add_modules(image, &root)?;
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
    script(&root.join("usr/bin/init"), &init(&test.file_name().context("a test's path")?.to_string_lossy(), filter))?;
    let disk = work.with_extension("disk");
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-F", "-t", "ext4", "-d"]).arg(&root).arg(&disk).arg("4000M");
    output_of(&mut make, "make the disk (Debian package e2fsprogs)")?;
    Ok(disk)
}

/// A program of this machine, in `first` or where an administrator's shell would look.
fn find(name: &str, first: Option<&Path>) -> Result<PathBuf> {
    let usual = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(Path::new);
    let mut places = first.into_iter().chain(usual).map(|dir| dir.join(name));
    places.find(|path| path.is_file()).with_context(|| format!("{name} is missing: scripts/setup.sh --vm installs it"))
}

/// Copies a program, and the libraries that it loads to where it looks for them.
fn add_program(program: &Path, to: &Path, root: &Path) -> Result<()> {
    fs::copy(program, to).with_context(|| format!("copy {}", program.display()))?;
    // A script, or linked as a whole: it has none.
    let libraries = cross::libraries(Arch::X86_64, program, Path::new("/")).unwrap_or_default();
    for (library, place) in libraries {
        let to = root.join(place.strip_prefix("/")?);
        fs::create_dir_all(to.parent().context("a library's path")?)?;
        fs::copy(&library, &to).with_context(|| format!("copy {}", library.display()))?;
    }
    Ok(())
}

/// Unpacked, and with the lists that the kernel's own calls of modprobe go by.
fn add_modules(image: &Image, root: &Path) -> Result<()> {
    let to = root.join("usr/lib/modules").join(&image.release);
    fs::create_dir_all(to.join("kernel"))?;
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        fs::copy(image.modules().join(list), to.join(list))?;
    }
    let copy = format!(
        "cd '{}/kernel' && cp -r --parents {} '{}/kernel' && find '{}' -name '*.ko.xz' -exec xz -d '{{}}' +",
        image.modules().display(),
        MODULES.join(" "),
        to.display(),
        to.display()
    );
    output_of(Command::new("sh").args(["-ec", &copy]), "unpack the modules (Debian package xz-utils)")?;
    output(Command::new("busybox").arg("depmod").arg("-b").arg(root).arg(&image.release))?;
    Ok(())
}

fn script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn init(test: &str, filter: &str) -> String {
    format!(
        "#!/bin/busybox sh
b=/bin/busybox
export PATH=/usr/bin HOME=/root RUST_BACKTRACE=0 PILOTFISH_SLOWNESS=5
$b mount -t proc proc /proc; $b mount -t sysfs sys /sys; $b mount -t devtmpfs dev /dev; $b mount -t tmpfs run /run
$b mount -t cgroup2 cgroup /sys/fs/cgroup; $b mount -t bpf bpf /sys/fs/bpf
$b hostname guest
$b ip link set lo up
# Nobody asks for these by a name that modules have.
for module in overlay tun; do $b modprobe $module; done
/opt/pilotfish/{test} --test-threads 1 --nocapture {filter}
echo {DONE}
$b poweroff -f
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_runs_the_chosen_tests_and_says_when_it_is_done() {
        let text = init("networks-0f", "modules");
        let lines: Vec<&str> = text.lines().collect();
        let runs =
            lines.iter().position(|line| line.starts_with("/opt/pilotfish/networks-0f ") && line.ends_with(" modules"));
        let done = lines.iter().position(|line| *line == format!("echo {DONE}"));
        assert!(runs.is_some() && runs < done, "{text}");
    }

    #[test]
    fn a_runtime_of_its_own_comes_before_the_machines() -> Result<()> {
        let dir = std::env::temp_dir().join(format!("xtask-find-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("sh"), "")?;
        let (first, usual) = (find("sh", Some(&dir))?, find("sh", None)?);
        let missing = find("no-such-program", Some(&dir));
        fs::remove_dir_all(&dir)?;
        assert_eq!(first, dir.join("sh"));
        assert_ne!(usual, first);
        assert!(missing.is_err_and(|error| error.to_string().contains("setup.sh --vm")));
        Ok(())
    }
}
