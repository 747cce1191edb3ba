//! A guest under QEMU, and its serial console line by line.

use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;

/// QEMU without KVM. Without cx16: QEMU 7.2 now and then returns from cmpxchg16b with broken flags
/// (a panic shows the low half of a pointer in EFLAGS), and the slab allocator uses it where the
/// CPU has it.
pub fn qemu() -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-cpu", "Nehalem,-cx16", "-nographic", "-no-reboot", "-nic", "none"]);
    command
}

/// Runs `qemu` as long as `watch` looks at what its console says.
pub fn boot<T>(qemu: &mut Command, watch: impl FnOnce(&Receiver<String>) -> Result<T>) -> Result<T> {
    let mut child = qemu
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("run qemu-system-x86_64 (Debian package qemu-system-x86)")?;
    let console = child.stdout.take().context("no console")?;
    let (lines, reader) = lines(console);
    let report = watch(&lines);
    let _ = child.kill();
    child.wait().context("wait for qemu")?;
    drop(lines);
    let _ = reader.join();
    report
}

/// What comes from `console`, without line ends, until it is closed or nobody listens any more.
/// Lossy: a console may say anything.
fn lines(console: impl Read + Send + 'static) -> (Receiver<String>, JoinHandle<()>) {
    let (send, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            if send.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                break;
            }
        }
    });
    (lines, reader)
}
