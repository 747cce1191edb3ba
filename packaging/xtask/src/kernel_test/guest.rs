//! A virtual machine with one purpose: its first process runs the tests, prints, and powers off.

use super::image::Image;
use super::report::{self, DONE, Report};
use super::tools::{TOOLS, Tools};
use crate::arch::Arch;
use crate::command::output_of;
use crate::{console, cross};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// For the veth pair and what is made on it, for clsact filters, and for sock_diag; each after those
/// that it needs.
const MODULES: [&str; 16] = [
    "drivers/net/veth.ko",
    "net/llc/llc.ko",
    "net/802/stp.ko",
    "net/802/garp.ko",
    "net/802/mrp.ko",
    "net/8021q/8021q.ko",
    "net/bridge/bridge.ko",
    "net/tls/tls.ko",
    "drivers/net/bonding/bonding.ko",
    "drivers/net/macvlan.ko",
    "drivers/net/ipvlan/ipvlan.ko",
    "net/sched/sch_ingress.ko",
    "net/sched/cls_bpf.ko",
    "net/ipv4/inet_diag.ko",
    "net/ipv4/tcp_diag.ko",
    "net/ipv4/udp_diag.ko",
];

/// What is booted, and what runs there.
#[derive(Debug)]
pub(super) struct Guest<'a> {
    pub arch: Arch,
    pub image: &'a Image,
    pub tools: &'a Tools,
    pub tests: &'a [PathBuf],
    /// Only the tests whose names contain this.
    pub filter: &'a str,
    /// More words of the kernel's command line.
    pub boot: &'a str,
    /// A `pilotfish` that says what it finds there.
    pub binary: Option<&'a Path>,
}

impl Guest<'_> {
    /// `cache` is where the initial file system is made; it does not stay.
    pub fn boot(&self, cache: &Path, limit: Duration) -> Result<Report> {
        let initrd = self.build_initrd(cache)?;
        let mut qemu = console::qemu(self.arch);
        let console = self.arch.facts().console;
        qemu.args(["-accel", "tcg", "-smp", "1", "-m", "1024"])
            .args(["-append", &format!("console={console} quiet panic=-1 net.ifnames=0 {}", self.boot)])
            .arg("-kernel")
            .arg(self.image.vmlinuz())
            .arg("-initrd")
            .arg(&initrd);
        let report = console::boot(self.arch, &mut qemu, |lines| {
            report::watch(lines, &self.image.release, self.tests.len(), limit)
        });
        fs::remove_file(&initrd).with_context(|| format!("remove {}", initrd.display()))?;
        report
    }

    fn build_initrd(&self, cache: &Path) -> Result<PathBuf> {
        let root = cache.join(format!("initrd-{}-{}", self.image.release, std::process::id()));
        for dir in ["bin", "tools", "proc", "sys", "dev", "tmp", "run", "modules", "tests"] {
            fs::create_dir_all(root.join(dir)).with_context(|| format!("make {}", root.display()))?;
        }
        fs::copy(self.tools.program("busybox")?, root.join("bin/busybox"))?;
        for test in self.tests {
            fs::copy(test, root.join("tests").join(test.file_name().context("a test's path")?))?;
            self.copy_libraries(test, &root)?;
        }
        for tool in TOOLS {
            let path = self.tools.program(tool)?;
            fs::copy(&path, root.join("tools").join(tool))?;
            self.copy_libraries(&path, &root)?;
        }
        if let Some(binary) = self.binary {
            fs::copy(binary, root.join("tools/pilotfish")).with_context(|| format!("copy {}", binary.display()))?;
            self.copy_libraries(binary, &root)?;
        }
        for (number, module) in MODULES.iter().enumerate() {
            let name = Path::new(module).file_name().context("a module's path")?.to_string_lossy();
            // Inserted in the order of their names.
            self.image.copy_module(module, &root.join("modules").join(format!("{number:02}-{name}")))?;
        }
        let init = root.join("init");
        fs::write(&init, init_script(self.filter))?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
        let initrd = root.with_extension("cpio");
        let pack = format!("cd '{}' && find . | cpio --quiet -o -H newc > '{}'", root.display(), initrd.display());
        output_of(Command::new("sh").args(["-ec", &pack]), "pack the initial file system (Debian package cpio)")?;
        fs::remove_dir_all(&root)?;
        Ok(initrd)
    }

    /// To where the program looks for them.
    fn copy_libraries(&self, program: &Path, root: &Path) -> Result<()> {
        for (library, place) in cross::libraries(self.arch, program, &self.tools.root)? {
            let to = root.join(place.strip_prefix("/")?);
            fs::create_dir_all(to.parent().context("a library's path")?)?;
            fs::copy(&library, &to).with_context(|| format!("copy {}", library.display()))?;
        }
        Ok(())
    }
}

fn init_script(filter: &str) -> String {
    format!(
        "#!/bin/busybox sh
b=/bin/busybox
export PATH=/tools RUST_BACKTRACE=0
$b mount -t proc proc /proc; $b mount -t sysfs sys /sys; $b mount -t devtmpfs dev /dev; $b mount -t tmpfs tmp /tmp; $b mount -t tmpfs run /run
$b mount -t cgroup2 cgroup /sys/fs/cgroup; $b mount -t securityfs security /sys/kernel/security
for module in /modules/*; do $b insmod $module; done
ip link set lo up
[ ! -x /tools/pilotfish ] || {{ pilotfish check; echo \"check ends with $?\"; }}
for test in /tests/*; do $test --test-threads 1 {filter}; done
echo {DONE}
$b poweroff -f
"
    )
}
