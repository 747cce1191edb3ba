//! The other side: the process that reads. It has its two pipes and nothing else that is open, and no
//! capability but the one that shows it processes of other users where `/proc` hides them.

use super::frame::{Answer, FILE_BYTES, Request};
use crate::schedule::MOST;
use crate::sys;
use nix::errno::Errno;
use parking_lot::Mutex;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

/// What the process and its threads are called.
const NAME: &std::ffi::CStr = c"pf-read";
/// Of a thread; it touches some 16 KiB of them.
const STACK_BYTES: usize = 64 << 10;

/// Answers on standard output what is asked on standard input, until that ends: then whoever asked
/// has ended. What hangs is left where it is; the process ends with it or without.
///
/// # Errors
/// It cannot give away what it has no use for, or a pipe breaks.
pub fn serve() -> io::Result<()> {
    // A name is worth having, not worth failing for.
    let _ = nix::sys::prctl::set_name(NAME);
    sys::close_above_standard_error();
    sys::keep_only(sys::CAP_SYS_PTRACE)?;
    nix::sys::prctl::set_no_new_privs()?;
    answer_all(&mut io::stdin().lock(), Arc::new(Mutex::new(io::stdout())))
}

fn answer_all(from: &mut impl Read, to: Arc<Mutex<impl Write + Send + 'static>>) -> io::Result<()> {
    let (give, jobs) = mpsc::channel::<Request>();
    let jobs = Arc::new(Mutex::new(jobs));
    // Requests that have no answer yet: as many threads as that, of which each has one.
    let open = Arc::new(AtomicUsize::new(0));
    let mut threads = 0;
    while let Some(request) = Request::read(from)? {
        let begun = open.fetch_add(1, Ordering::AcqRel) + 1;
        if begun > threads && threads < MOST {
            let (jobs, open, to) = (Arc::clone(&jobs), Arc::clone(&open), Arc::clone(&to));
            let work = move || {
                while let Some(request) = next(&jobs) {
                    let answer = Answer { id: request.id, outcome: read(&request.path) }.encode();
                    open.fetch_sub(1, Ordering::AcqRel);
                    let mut to = to.lock();
                    // Nobody listens any more: standard input says so, too.
                    let _ = to.write_all(&answer).and_then(|()| to.flush());
                }
            };
            match thread::Builder::new().name("pf-read".to_owned()).stack_size(STACK_BYTES).spawn(work) {
                Ok(_) => threads += 1,
                // One of those that there are takes it.
                Err(_) if threads > 0 => {}
                Err(error) => return Err(error),
            }
        }
        if give.send(request).is_err() {
            return Err(io::Error::other("no thread reads any more"));
        }
    }
    Ok(())
}

/// The lock is held by the one that waits: a thread with a request has let it go.
fn next(jobs: &Mutex<mpsc::Receiver<Request>>) -> Option<Request> {
    jobs.lock().recv().ok()
}

fn read(path: &Path) -> Result<Vec<u8>, i32> {
    let limit = FILE_BYTES as u64 + 1;
    let all = |path: &PathBuf| -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match all(&path.to_owned()) {
        Ok(bytes) if bytes.len() > FILE_BYTES => Err(Errno::EFBIG as i32),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(error.raw_os_error().unwrap_or(Errno::EIO as i32)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use std::collections::BTreeMap;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_file_that_hangs_delays_no_other_and_answers_come_in_any_order() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).expect("FIFO");
        let (mut ask, mut asked) = UnixStream::pair().expect("sockets");
        let (answer, mut answers) = UnixStream::pair().expect("sockets");
        let server = thread::spawn(move || answer_all(&mut asked, Arc::new(Mutex::new(answer))));
        let mut send = |id: u64, path: &Path| {
            ask.write_all(&Request::encode(id, path).expect("short")).expect("written");
        };
        send(1, &fifo);
        let file = directory.path().join("file");
        std::fs::write(&file, "text").expect("write");
        // More than there may be threads: they are used again.
        for id in 2..3 * MOST as u64 {
            send(id, if id % 2 == 0 { &file } else { directory.path() });
        }
        let mut got = BTreeMap::new();
        while got.len() < 3 * MOST - 2 {
            let Answer { id, outcome } = Answer::read(&mut answers).expect("whole").expect("an answer");
            got.insert(id, outcome);
        }
        assert_eq!(got.remove(&2), Some(Ok(b"text".to_vec())));
        assert_eq!(got.remove(&3), Some(Err(Errno::EISDIR as i32)));
        assert!(!got.contains_key(&1));
        std::fs::write(&fifo, "late").expect("its other end");
        let late = Answer::read(&mut answers).expect("whole");
        assert_eq!(late, Some(Answer { id: 1, outcome: Ok(b"late".to_vec()) }));
        drop(ask);
        server.join().expect("no panic").expect("the end of what is asked is the end");
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let mut file = tempfile::NamedTempFile::new().expect("file");
        file.write_all(&vec![b'x'; FILE_BYTES + 1]).expect("write");
        assert_eq!(read(file.path()), Err(Errno::EFBIG as i32));
        file.as_file().set_len(FILE_BYTES as u64).expect("shorter");
        assert_eq!(read(file.path()).map(|bytes| bytes.len()), Ok(FILE_BYTES));
    }
}
