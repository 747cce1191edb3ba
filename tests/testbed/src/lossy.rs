//! A containerd that forgets to tell of some things: a socket in front of a real one, where events
//! of some topics are taken out on their way. All else passes as it is.
//!
//! It reads HTTP/2's frames (RFC 9113 section 4.1) and gRPC's messages in them, as far as that is
//! needed: containerd sends each event as a message, and each small message as a frame of its own.

use anyhow::{Context, Result};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

const PREFACE: usize = 24;
const HEADER: usize = 9;
const DATA: u8 = 0;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
/// Flag, and four bytes of length.
const GRPC_PREFIX: usize = 5;
/// `topic` of containerd's `Envelope`: field 3, a string.
const TOPIC: u8 = 0x1a;
/// Between two looks whether somebody connects, or the end has come.
const LOOK: Duration = Duration::from_millis(5);

/// Ends with its connections when it is dropped.
#[derive(Debug)]
pub struct LossyContainerd {
    socket: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    containerd: PathBuf,
    /// Each as it stands in a message.
    withheld: Mutex<Vec<Vec<u8>>>,
    taken_out: AtomicU64,
    over: AtomicBool,
    open: Mutex<Vec<UnixStream>>,
}

impl LossyContainerd {
    /// Listens at `socket` for the containerd behind `containerd`.
    pub fn start(socket: &Path, containerd: &Path, withheld: &[&str]) -> Result<LossyContainerd> {
        let listener = UnixListener::bind(socket).with_context(|| format!("listen at {}", socket.display()))?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            containerd: containerd.to_owned(),
            withheld: Mutex::default(),
            taken_out: AtomicU64::new(0),
            over: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let lossy = LossyContainerd { socket: socket.to_owned(), shared: Arc::clone(&shared) };
        lossy.withhold(withheld);
        thread::spawn(move || {
            while !shared.over.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((client, _)) => drop(shared.pass(client)),
                    Err(_) => thread::sleep(LOOK),
                }
            }
        });
        Ok(lossy)
    }

    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// These topics from now on, and no others.
    pub fn withhold(&self, topics: &[&str]) {
        let as_sent = |topic: &&str| {
            let length = u8::try_from(topic.len()).unwrap_or(u8::MAX);
            [&[TOPIC, length], topic.as_bytes()].concat()
        };
        *lock(&self.shared.withheld) = topics.iter().map(as_sent).collect();
    }

    /// Events that were taken out so far.
    #[must_use]
    pub fn taken_out(&self) -> u64 {
        self.shared.taken_out.load(Ordering::SeqCst)
    }
}

impl Drop for LossyContainerd {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        for stream in lock(&self.shared.open).drain(..) {
            stream.shutdown(std::net::Shutdown::Both).ok();
        }
        fs::remove_file(&self.socket).ok();
    }
}

impl Shared {
    fn pass(self: &Arc<Self>, client: UnixStream) -> Result<()> {
        client.set_nonblocking(false)?;
        let server = UnixStream::connect(&self.containerd)?;
        lock(&self.open).extend([client.try_clone()?, server.try_clone()?]);
        // Both threads write whole frames to the server.
        let to_server = Arc::new(Mutex::new(server.try_clone()?));
        let (mut from_client, mut from_server, mut to_client) = (client.try_clone()?, server, client);
        let (shared, towards) = (Arc::clone(self), Arc::clone(&to_server));
        thread::spawn(move || {
            let passed = pass_requests(&mut from_client, &towards);
            lock(&towards).shutdown(std::net::Shutdown::Both).ok();
            passed
        });
        thread::spawn(move || {
            let passed = shared.pass_answers(&mut from_server, &mut to_client, &to_server);
            to_client.shutdown(std::net::Shutdown::Both).ok();
            passed
        });
        Ok(())
    }

    fn pass_answers(&self, from: &mut UnixStream, to: &mut UnixStream, back: &Mutex<UnixStream>) -> Result<()> {
        loop {
            let frame = Frame::read(from)?;
            if !self.is_withheld(&frame) {
                to.write_all(&frame.0)?;
                continue;
            }
            self.taken_out.fetch_add(1, Ordering::SeqCst);
            // The client does not see it, and so makes no room for the next one.
            let room = u32::try_from(frame.payload().len())?.to_be_bytes();
            let mut back = lock(back);
            for stream in [[0; 4], frame.stream()] {
                back.write_all(&[&[0, 0, 4, WINDOW_UPDATE, 0], &stream[..], &room[..]].concat())?;
            }
        }
    }

    fn is_withheld(&self, frame: &Frame) -> bool {
        let Some((prefix, message)) = frame.payload().split_first_chunk::<GRPC_PREFIX>() else { return false };
        let [0, length @ ..] = prefix else { return false };
        let is_whole = usize::try_from(u32::from_be_bytes(*length)).is_ok_and(|length| length == message.len());
        let is_event = frame.0[3] == DATA && frame.0[4] & END_STREAM == 0 && is_whole;
        let has = |topic: &Vec<u8>| message.windows(topic.len()).any(|part| part == topic);
        is_event && lock(&self.withheld).iter().any(has)
    }
}

fn pass_requests(from: &mut UnixStream, to: &Mutex<UnixStream>) -> Result<()> {
    let mut preface = [0; PREFACE];
    from.read_exact(&mut preface)?;
    lock(to).write_all(&preface)?;
    loop {
        let frame = Frame::read(from)?;
        lock(to).write_all(&frame.0)?;
    }
}

/// With its header.
struct Frame(Vec<u8>);

impl Frame {
    fn read(from: &mut UnixStream) -> Result<Frame> {
        let mut bytes = vec![0; HEADER];
        from.read_exact(&mut bytes)?;
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        bytes.resize(HEADER + usize::try_from(length)?, 0);
        from.read_exact(&mut bytes[HEADER..])?;
        Ok(Frame(bytes))
    }

    fn stream(&self) -> [u8; 4] {
        [self.0[5], self.0[6], self.0[7], self.0[8]]
    }

    fn payload(&self) -> &[u8] {
        &self.0[HEADER..]
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
