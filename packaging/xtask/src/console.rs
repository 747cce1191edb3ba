//! A guest under QEMU, and its serial console line by line.

use crate::arch::{Arch, Facts};
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;

/// QEMU without KVM.
pub fn qemu(arch: Arch) -> Command {
    let Facts { name, machine, .. } = arch.facts();
    let mut command = Command::new(format!("qemu-system-{name}"));
    command.args(*machine).args(["-nographic", "-no-reboot", "-nic", "none"]);
    command
}

/// Runs `qemu` as long as `watch` looks at what its console says.
pub fn boot<T>(arch: Arch, qemu: &mut Command, watch: impl FnOnce(&Receiver<String>) -> Result<T>) -> Result<T> {
    let mut child = qemu
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("run QEMU (Debian package {})", arch.facts().qemu_package))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_architecture_has_a_machine_of_its_own() {
        let said = Arch::ALL.map(|arch| format!("{:?}", qemu(arch)));
        assert!(said[0].contains("qemu-system-x86_64") && said[0].contains("Nehalem,-cx16"), "{}", said[0]);
        assert!(said[1].contains("qemu-system-aarch64") && said[1].contains("neoverse-n1"), "{}", said[1]);
    }
}
