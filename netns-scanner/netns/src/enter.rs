use crate::{IfAddress, Link, LinkWatch, NetlinkError, RouteSocket};
use crate::{link, wire};
use flow_model::NetnsId;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};
use std::any::Any;
use std::fs;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;

/// `/proc/thread-self` and not `/proc/self`: namespaces belong to threads.
const OWN: &str = "/proc/thread-self/ns/net";

/// Enough for a few nested netlink dumps; the kernel backs only what is touched.
const STACK_BYTES: usize = 512 * 1024;

/// An open network namespace. Keeps it alive: close it (drop) when its container is gone. One descriptor.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    id: NetnsId,
}

/// Why a namespace could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The process ended, or the path was removed.
    #[error("{what}: no such namespace any more")]
    Gone {
        /// The path as given, or "of pid N".
        what: String,
    },
    /// The kernel does not let us open it (EACCES or EPERM).
    #[error("{what}: permission denied; another user's process needs CAP_SYS_PTRACE, a path needs read permission")]
    Denied {
        /// As for `Gone`.
        what: String,
    },
    /// The file is there but is no network namespace, as a name under /run/netns whose mount went.
    #[error("{what}: not a network namespace")]
    NotNetns {
        /// As for `Gone`.
        what: String,
    },
    /// Any other errno of open, fstatfs or fstat: no descriptor left, for one.
    #[error("open namespace {what}")]
    Io {
        /// As for `Gone`.
        what: String,
        /// The errno.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    fn new(what: String, errno: Errno) -> OpenError {
        match errno {
            Errno::ENOENT | Errno::ESRCH => OpenError::Gone { what },
            Errno::EACCES | Errno::EPERM => OpenError::Denied { what },
            other => OpenError::Io { what, source: other.into() },
        }
    }
}

/// Why nothing was done inside a namespace, or why its outcome is not known.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The thread for the entry could not be started; nothing was entered.
    #[error("start a thread to enter {id}")]
    Spawn {
        /// The namespace that was to be entered.
        id: NetnsId,
        /// As the standard library reports it, mostly EAGAIN.
        #[source]
        source: io::Error,
    },
    /// `setns` answered EPERM; nothing was entered.
    #[error("enter {id}: permission denied; setns needs CAP_SYS_ADMIN")]
    Denied {
        /// The namespace that was to be entered.
        id: NetnsId,
    },
    /// `setns` failed otherwise, or `/proc` did not tell afterwards where the thread is. The act was
    /// not called.
    #[error("enter {id}")]
    SetNs {
        /// The namespace that was to be entered.
        id: NetnsId,
        /// The errno of `setns`, or of stat on `/proc/thread-self/ns/net`.
        #[source]
        source: io::Error,
    },
    /// `setns` succeeded, and the thread is elsewhere than expected. The act was not called.
    #[error("entered {found} instead of {expected}")]
    WrongNamespace {
        /// The namespace that was opened.
        expected: NetnsId,
        /// The one that the thread is in, by device and inode.
        found: NetnsId,
    },
    /// The act panicked. How far it got is not known; the thread is over, and others are unharmed.
    #[error("panic inside {id}: {message}")]
    Panicked {
        /// The namespace that it was in.
        id: NetnsId,
        /// The panic's text; "no message" where its payload is no string.
        message: String,
    },
}

/// Proof of being inside a namespace. Bound to the thread that entered it.
#[derive(Debug)]
pub struct InNetns<'a> {
    netns: &'a Netns,
    stays_on_its_thread: PhantomData<*mut ()>,
}

impl Netns {
    /// The namespace of process `pid`. Call it as soon as the pid is known: pids are reused.
    ///
    /// # Errors
    /// `Gone` for an ended process (zombies included), `Denied` without CAP_SYS_PTRACE for another user's process.
    pub fn open_pid(pid: u32) -> Result<Netns, OpenError> {
        open(Path::new(&format!("/proc/{pid}/ns/net")), format!("of pid {pid}"))
    }

    /// The namespace mounted at `path`, as CNI's `/var/run/netns/cni-*`.
    ///
    /// # Errors
    /// As [`Netns::open_pid`]; `NotNetns` for any other file.
    pub fn open_path(path: &Path) -> Result<Netns, OpenError> {
        open(path, path.display().to_string())
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// Only without a usable `/proc`.
    pub fn current() -> Result<Netns, OpenError> {
        open(Path::new(OWN), "of this thread".to_owned())
    }

    /// Device and inode as of the opening. No other namespace has them while this handle is open.
    #[must_use]
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// Calls `act` inside this namespace, on a thread of its own that ends with it: whatever
    /// happens in there, no other thread's namespace changes. Costs about 40 us beside `act`.
    ///
    /// # Errors
    /// No thread, no permission, another namespace than the one opened, or a panic in `act`; its
    /// message is in the error.
    pub fn run<T: Send>(&self, act: impl FnOnce(&InNetns<'_>) -> T + Send) -> Result<T, EnterError> {
        let id = self.id;
        let entered = || -> Result<T, EnterError> {
            self.enter()?;
            Ok(act(&InNetns { netns: self, stays_on_its_thread: PhantomData }))
        };
        thread::scope(|scope| {
            let builder = thread::Builder::new().name("pf-netns".to_owned()).stack_size(STACK_BYTES);
            let handle = builder.spawn_scoped(scope, entered).map_err(|source| EnterError::Spawn { id, source })?;
            handle.join().unwrap_or_else(|panic| Err(EnterError::Panicked { id, message: message_of(&*panic) }))
        })
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that changes a thread's namespace")]
    fn enter(&self) -> Result<(), EnterError> {
        let id = self.id;
        nix::sched::setns(&self.fd, CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
            Errno::EPERM => EnterError::Denied { id },
            other => EnterError::SetNs { id, source: other.into() },
        })?;
        let own = nix::sys::stat::stat(OWN).map_err(|errno| EnterError::SetNs { id, source: errno.into() })?;
        let found = NetnsId { dev: own.st_dev, ino: own.st_ino };
        if found != id {
            return Err(EnterError::WrongNamespace { expected: id, found });
        }
        Ok(())
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl InNetns<'_> {
    /// Device and inode of the namespace that this thread is in.
    #[must_use]
    pub fn id(&self) -> NetnsId {
        self.netns.id
    }

    /// The kernel's own number of this namespace, which tells it from a later one that got its
    /// inode. None before Linux 5.14.
    #[must_use]
    pub fn cookie(&self) -> Option<u64> {
        // Any socket will do: it belongs to the namespace in which it is made.
        let socket = std::os::unix::net::UnixDatagram::unbound().ok()?;
        crate::sys::netns_cookie(socket.as_fd()).ok()
    }

    /// TCP sockets of this namespace in any state but TIME-WAIT: listeners, and those that their
    /// process has closed or left behind and that have something to send or to hear yet. A sum over
    /// the processors, without a lock (some 15 us on two of them).
    ///
    /// # Errors
    /// No usable `/proc`.
    pub fn tcp_sockets(&self) -> io::Result<u64> {
        let of = |version: &str| fs::read_to_string(format!("/proc/thread-self/net/sockstat{version}"));
        // A kernel without IPv6 has no such file.
        let [four, six] = [of("")?, of("6").unwrap_or_default()];
        Ok(crate::sockstat::in_use(&four, "TCP") + crate::sockstat::in_use(&six, "TCP6"))
    }

    /// An rtnetlink socket of this namespace, for requests.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn route(&self) -> io::Result<RouteSocket> {
        RouteSocket::open()
    }

    /// A `sock_diag(7)` socket of this namespace, for dumps of its sockets.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn sock_diag(&self) -> io::Result<RouteSocket> {
        RouteSocket::open_sock_diag()
    }

    /// News of this namespace's links and addresses from now on. Watch first, list afterwards: then
    /// nothing falls in between.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn watch(&self) -> io::Result<LinkWatch> {
        LinkWatch::open()
    }

    /// All links, loopback included.
    ///
    /// # Errors
    /// See [`RouteSocket::dump`].
    pub fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        Ok(self.route()?.links(usize::MAX)?.found)
    }

    /// All addresses of all links, IPv4 and IPv6.
    ///
    /// # Errors
    /// See [`RouteSocket::dump`].
    pub fn addresses(&self) -> Result<Vec<IfAddress>, NetlinkError> {
        Ok(self.route()?.addresses(usize::MAX)?.found)
    }

    /// The first addresses of one link, `most` of each family. None where the link is not there, or
    /// the kernel cannot be asked for those of one alone (before 5.0).
    ///
    /// # Errors
    /// See [`RouteSocket::dump`].
    pub fn addresses_of(&self, index: u32, most: usize) -> Result<Vec<IfAddress>, NetlinkError> {
        let mut all = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut route = self.route()?;
            if route.set_strict(true).is_err() {
                break;
            }
            let request = |request: &mut wire::Payload<'_>| link::addresses_of_request(request, family, index);
            match route.dump_part(most, libc::RTM_GETADDR, request, IfAddress::parse) {
                Ok(part) => all.extend(part.found),
                Err(NetlinkError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

fn open(path: &Path, what: String) -> Result<Netns, OpenError> {
    // O_NONBLOCK: a path given by a configuration may be a FIFO, which must not hold us.
    let fd = match nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty()) {
        Ok(fd) => fd,
        Err(errno) => return Err(OpenError::new(what, errno)),
    };
    match fstatfs(&fd) {
        Ok(fs) if fs.filesystem_type() == NSFS_MAGIC => {}
        Ok(_) => return Err(OpenError::NotNetns { what }),
        Err(errno) => return Err(OpenError::new(what, errno)),
    }
    match nix::sys::stat::fstat(&fd) {
        Ok(stat) => Ok(Netns { fd, id: NetnsId { dev: stat.st_dev, ino: stat.st_ino } }),
        Err(errno) => Err(OpenError::new(what, errno)),
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
