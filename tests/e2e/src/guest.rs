//! What stands for a virtual machine's monitor, or for a network stack of its own: it copies frames.

use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use testbed::{Netns, installed};

/// Copies frames between a pod and the guest that stands for what runs in it.
#[derive(Debug)]
pub struct Monitor(Child);

/// Between the guest's `eth0` and a packet socket at the pod's, with the headers that tell of
/// checksums and segments that are left to the interface. The arguments: this text, and the pod's
/// namespace, in which it goes on when it has the guest's interface.
const PACKETS: &str = r#"
import fcntl, os, select, socket, struct, sys
if len(sys.argv) == 3:
    guest = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(guest, 0x400454ca, struct.pack("16sH22x", b"eth0", 0x5002))
    os.set_inheritable(guest, True)
    os.execvp("nsenter", ["nsenter", "--net=" + sys.argv[2], "python3", "-c", sys.argv[1], sys.argv[1], sys.argv[2], str(guest)])
guest = int(sys.argv[3])
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.setsockopt(263, 15, 1)
wire.bind(("eth0", 3))
print("ready", flush=True)
while True:
    for end in select.select([guest, wire], [], [])[0]:
        try:
            if end is guest: wire.send(os.read(guest, 65600))
            else:
                frame, where = wire.recvfrom(65600)
                if where[2] != 4: os.write(guest, frame)
        except OSError: pass
"#;

const TAPS: &str = r#"
import fcntl, os, select, struct
def tap(name):
    file = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(file, 0x400454ca, struct.pack("16sH22x", name.encode(), 0x1002))
    return file
ends = [tap("tap0"), tap("eth0")]
print("ready", flush=True)
while True:
    for end in select.select(ends, [], [])[0]:
        try: os.write(ends[1 - ends.index(end)], os.read(end, 65536))
        except OSError: pass
"#;

impl Monitor {
    /// Leaves an interface `eth0` in the guest and `tap0` in its pod.
    pub fn start(pod: &Netns, guest: &Netns) -> Result<Monitor> {
        let monitor = Monitor::run(guest, TAPS, &[])?;
        guest.ip(&["link", "set", "tap0", "netns", pod.name()])?;
        Ok(monitor)
    }

    /// Leaves an interface `eth0` in the guest, and none more in its pod: as gVisor has its stack,
    /// the pod's own is read and written by a packet socket.
    pub fn by_packets(pod: &Netns, guest: &Netns) -> Result<Monitor> {
        Monitor::run(guest, PACKETS, &[PACKETS, &pod.path().display().to_string()])
    }

    fn run(guest: &Netns, script: &str, args: &[&str]) -> Result<Monitor> {
        let mut command = guest.command(&installed("python3")?);
        let mut child = command.arg("-c").arg(script).args(args).stdout(Stdio::piped()).spawn()?;
        let told = child.stdout.take().context("its output")?;
        let monitor = Monitor(child);
        let mut line = String::new();
        BufReader::new(told).read_line(&mut line)?;
        ensure!(line == "ready\n", "the monitor says {line:?}");
        Ok(monitor)
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
