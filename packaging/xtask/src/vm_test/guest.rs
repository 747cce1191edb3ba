//! The virtual machine: boots a disk that stays as it is, and reads from its console what the story inside found.

use super::image::Image;
use crate::arch::Arch;
use crate::console;
use anyhow::{Result, bail};
use std::fmt;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What the story prints before each of its results.
const MARK: &str = "vm-story: ";
const OVER: &str = "vm-story-over";

#[derive(Debug, Default)]
pub(super) struct Report {
    lines: Vec<String>,
    ended: bool,
}

impl Report {
    pub fn passed(&self) -> bool {
        self.ended
            && self.lines.iter().any(|l| l.starts_with("ok "))
            && !self.lines.iter().any(|l| l.starts_with("FAILED "))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |word: &str| self.lines.iter().filter(|line| line.starts_with(word)).count();
        for line in self.lines.iter().filter(|line| line.starts_with("FAILED ")) {
            writeln!(f, "{line}")?;
        }
        let end = if self.ended { "" } else { ", and did not come to its end" };
        write!(f, "vm-test: {} checks passed, {} failed{end}", count("ok "), count("FAILED "))
    }
}

pub(super) fn boot(image: &Image, payload: &Path, verbose: bool, limit: Duration) -> Result<Report> {
    let mut qemu = console::qemu(Arch::X86_64);
    qemu.args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "1500", "-snapshot"])
        .args(["-append", "root=/dev/vda rw console=ttyS0 quiet net.ifnames=0 panic=-1"])
        .arg("-kernel")
        .arg(&image.kernel)
        .arg("-initrd")
        .arg(&image.initrd)
        .arg("-drive")
        .arg(format!("file={},if=virtio,format=raw", image.disk.display()))
        .arg("-drive")
        .arg(format!("file={},if=virtio,format=raw", payload.display()));
    console::boot(Arch::X86_64, &mut qemu, |lines| watch(lines, verbose, limit))
}

fn watch(lines: &mpsc::Receiver<String>, verbose: bool, limit: Duration) -> Result<Report> {
    let mut report = Report::default();
    let mut all: Vec<String> = Vec::new();
    let deadline = Instant::now() + limit;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if verbose {
                    eprintln!("  | {line}");
                }
                if line.contains(OVER) {
                    report.ended = true;
                    return Ok(report);
                }
                if let Some((_, result)) = line.split_once(MARK) {
                    eprintln!("{result}");
                    report.lines.push(result.to_owned());
                }
                all.push(line);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                eprintln!("the guest was not done within {} s", limit.as_secs());
                return Ok(report);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let last = all.split_off(all.len().saturating_sub(20));
                bail!("the guest ended early; its last words:\n{}", last.join("\n"))
            }
        }
    }
}
