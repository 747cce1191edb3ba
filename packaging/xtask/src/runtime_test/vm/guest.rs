//! The virtual machine that runs the disk's test.

use crate::arch::Arch;
use crate::console;
use crate::kernel_test::image::Image;
use crate::kernel_test::report::{self, Report};
use anyhow::Result;
use std::path::Path;
use std::time::Duration;

/// `initrd` and `disk` as [`super::disk::make`] has made them.
pub(super) fn boot(image: &Image, initrd: &Path, disk: &Path, limit: Duration) -> Result<Report> {
    let mut qemu = console::qemu(Arch::X86_64);
    // One processor: where the kernel patches its own code while another one runs it, QEMU 7.2 now
    // and then runs the breakpoint that is there for a moment, and nobody expects it any more.
    qemu.args(["-accel", "tcg", "-smp", "1", "-m", "2000"])
        .args(["-append", "console=ttyS0 quiet panic=-1 net.ifnames=0"])
        .arg("-kernel")
        .arg(image.vmlinuz())
        .arg("-initrd")
        .arg(initrd)
        .arg("-drive")
        .arg(format!("file={},if=virtio,format=raw,cache=unsafe", disk.display()));
    console::boot(Arch::X86_64, &mut qemu, |lines| report::watch(lines, &image.release, 1, limit))
}
