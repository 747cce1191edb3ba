//! How long anybody waits for the kernel's lock over the configuration of all networks (rtnl): what
//! an attach cannot be faster than, whoever holds the lock. Beside it an attach shows what is the
//! agent's own. How late a thread wakes that asked for nothing is told, too: so much of the wait is
//! the scheduler's, and the agent's threads for new containers go before others.

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType};
use nix::sys::socket::{recv, sendto, socket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(20);

/// Milliseconds of each wait for the lock, and of each wake after its time.
#[derive(Debug, Default)]
pub(super) struct Took {
    pub lock: Vec<f64>,
    pub wake: Vec<f64>,
}

/// Asks all the time, until it is taken.
pub(super) struct Waits {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Took>>,
}

impl Waits {
    pub(super) fn begin() -> Waits {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let ask = move || {
            let mut took = Took::default();
            while !told.load(Ordering::Relaxed) {
                took.lock.push(once()?);
                let asleep = Instant::now();
                std::thread::sleep(EVERY);
                took.wake.push(asleep.elapsed().saturating_sub(EVERY).as_secs_f64() * 1e3);
            }
            Ok(took)
        };
        Waits { stop, thread: std::thread::spawn(ask) }
    }

    pub(super) fn end(self) -> Result<Took> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the thread that asks")?
    }
}

/// Changes nothing of `lo`, which the kernel does under its lock.
fn once() -> Result<f64> {
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let mut request = [0_u8; 32];
    request[0] = 32;
    request[4..6].copy_from_slice(&libc::RTM_SETLINK.to_ne_bytes());
    // NLM_F_REQUEST | NLM_F_ACK
    request[6] = 5;
    // The kernel's number of `lo`, behind the header and the family.
    request[20] = 1;
    let begun = Instant::now();
    sendto(netlink.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0_u8; 512];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let took = begun.elapsed();
    ensure!(length >= 20 && answer[16..20] == [0; 4], "the kernel refused an empty change");
    Ok(took.as_secs_f64() * 1e3)
}
