use crate::Netns;
use nix::sched::{CloneFlags, unshare};
use std::io;
use std::thread;

impl Netns {
    /// A new namespace with nothing in it but a `lo` that is down: for probes of what the kernel
    /// can do, where they are in nobody's way. It goes when the handle does.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN, or at the limit of `user.max_net_namespaces`.
    pub fn create() -> io::Result<Netns> {
        let make = || -> io::Result<Netns> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Netns::current().map_err(io::Error::other)
        };
        // The thread that moves into it ends here: no other one leaves its own.
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("pf-netns-new".to_owned()).spawn_scoped(scope, make)?;
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that made the namespace panicked")))
        })
    }
}
