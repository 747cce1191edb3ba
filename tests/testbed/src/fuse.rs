//! A file system that never answers. Who opens a file of it is stuck in the kernel and hears no
//! signal, as with a network file system whose server is gone.

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// `FUSE_INIT` (linux/fuse.h).
const INIT: u32 = 26;
/// The version of the protocol that is spoken: from Linux 5.3 on.
const MAJOR: u32 = 7;
const MINOR: u32 = 31;
/// The kernel asks for room for a request with a page of data, at least.
const REQUEST_BYTES: usize = 256 << 10;

/// Mounted until it is dropped; those that are stuck in it then get an error.
#[derive(Debug)]
pub struct SilentFiles {
    at: PathBuf,
    server: Option<JoinHandle<()>>,
}

impl SilentFiles {
    /// Mounts it over a directory, for all accounts. Needs root.
    pub fn mount(at: &Path) -> Result<SilentFiles> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").context("open /dev/fuse")?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("silent"), at, Some("fuse"), flags, Some(options.as_str())).context("mount it")?;
        let server = std::thread::spawn(move || serve(device));
        Ok(SilentFiles { at: at.to_owned(), server: Some(server) })
    }
}

impl Drop for SilentFiles {
    fn drop(&mut self) {
        // Forced: ends the connection, and with it all that waits for it.
        let _ = umount2(&self.at, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// Says hello, then takes every request and answers none. A request that was not taken could be
/// given up by who made it.
fn serve(mut device: File) {
    let mut request = vec![0; REQUEST_BYTES];
    while let Ok(length) = device.read(&mut request) {
        let word = |at: usize| {
            let bytes = request.get(..length)?.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_ne_bytes(bytes))
        };
        // `struct fuse_in_header`: length, what is asked, and the number of the request.
        if word(4) == Some(INIT)
            && let Some(number) = request.get(8..16)
        {
            let answer = hello(number);
            if device.write_all(&answer).is_err() {
                return;
            }
        }
    }
}

/// `struct fuse_out_header` and `struct fuse_init_out`: a version, and nothing that is asked for.
fn hello(number: &[u8]) -> Vec<u8> {
    const OUT: usize = 64;
    let mut answer = Vec::new();
    answer.extend_from_slice(&(16 + OUT as u32).to_ne_bytes());
    answer.extend_from_slice(&0_i32.to_ne_bytes());
    answer.extend_from_slice(number);
    answer.extend_from_slice(&MAJOR.to_ne_bytes());
    answer.extend_from_slice(&MINOR.to_ne_bytes());
    answer.resize(16 + OUT, 0);
    // `max_write`, the least that there may be.
    if let Some(most) = answer.get_mut(16 + 20..16 + 24) {
        most.copy_from_slice(&4096_u32.to_ne_bytes());
    }
    answer
}
