//! A bare attachment: the least that the kernel asks of whoever puts a program for each direction on
//! an interface by clsact. One message makes the qdisc, two add a filter of two instructions each,
//! in one call, on `lo` of a namespace of its own, by a thread of the same priority as the agent's
//! for new containers. No list is read and nothing else is asked. Beside it an agent's attachment
//! shows what is the agent's: the two as a ratio, under the same load.

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType};
use nix::sys::socket::{recv, sendto, socket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// As seldom as containers start in this bench.
const EVERY: Duration = Duration::from_millis(100);

const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const DIRECTIONS: [u32; 2] = [0xffff_fff2, 0xffff_fff3];
/// NLM_F_REQUEST | NLM_F_ACK, and NLM_F_EXCL | NLM_F_CREATE.
const ASK: u16 = 5;
const MAKE: u16 = ASK | 0x600;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;

/// Attaches and detaches all the time, until it is ended.
pub(super) struct Bare {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<f64>>>,
}

impl Bare {
    pub(super) fn begin() -> Bare {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let attach = move || {
            // Of this thread alone, and gone with it.
            unshare(CloneFlags::CLONE_NEWNET).context("a network namespace")?;
            let netlink =
                socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
            let program = testbed::sys::program_that_passes().context("load a program")?;
            testbed::sys::before_all_others().context("a thread's priority")?;
            let (put, take) = (attachment(program.as_raw_fd()), qdisc(libc::RTM_DELQDISC, ASK));
            let mut took = Vec::new();
            while !told.load(Ordering::Relaxed) {
                took.push(transact(&netlink, &put, 3)?);
                transact(&netlink, &take, 1)?;
                std::thread::sleep(EVERY);
            }
            Ok(took)
        };
        Bare { stop, thread: std::thread::spawn(attach) }
    }

    /// Milliseconds of each attachment.
    pub(super) fn end(self) -> Result<Vec<f64>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the thread that attaches")?
    }
}

/// Milliseconds until all messages were answered.
fn transact(netlink: &OwnedFd, messages: &[u8], answers: usize) -> Result<f64> {
    let begun = Instant::now();
    sendto(netlink.as_raw_fd(), messages, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    for _ in 0..answers {
        let mut answer = [0_u8; 1024];
        let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        ensure!(length >= 20 && answer[16..20] == [0; 4], "the kernel refused an attachment");
    }
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

fn attachment(program: i32) -> Vec<u8> {
    let mut all = qdisc(libc::RTM_NEWQDISC, MAKE);
    for parent in DIRECTIONS {
        let options = [
            attribute(TCA_BPF_FD, &program.to_ne_bytes()),
            attribute(TCA_BPF_NAME, b"bare\0"),
            attribute(TCA_BPF_FLAGS, &1_u32.to_ne_bytes()),
        ]
        .concat();
        // Priority 1, and ETH_P_ALL as the network writes it.
        let info = 1 << 16 | u32::from(3_u16.to_be());
        let attributes = [attribute(TCA_KIND, b"bpf\0"), attribute(TCA_OPTIONS, &options)].concat();
        all.extend(message(libc::RTM_NEWTFILTER, MAKE, [1, parent, info], &attributes));
    }
    all
}

fn qdisc(kind: u16, flags: u16) -> Vec<u8> {
    message(kind, flags, [CLSACT_HANDLE, CLSACT, 0], &attribute(TCA_KIND, b"clsact\0"))
}

/// `struct nlmsghdr`, `struct tcmsg` of `lo` with its handle, parent and info, and attributes.
fn message(kind: u16, flags: u16, [handle, parent, info]: [u32; 3], attributes: &[u8]) -> Vec<u8> {
    const LOOPBACK: u32 = 1;
    let length = 16 + 20 + attributes.len();
    let mut bytes = (length as u32).to_ne_bytes().to_vec();
    bytes.extend([kind, flags].map(u16::to_ne_bytes).concat());
    bytes.extend([0, 0, 0, LOOPBACK, handle, parent, info].map(u32::to_ne_bytes).concat());
    bytes.extend(attributes);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [4 + value.len() as u16, kind].map(u16::to_ne_bytes).concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
