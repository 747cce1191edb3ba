//! What passes between the agent and the process that reads for it: requests and answers, each with
//! the number of its request, in any order.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Of a path. As many requests as may be under way fit into a pipe (64 KiB), so that asking waits
/// for nobody.
pub(super) const PATH_BYTES: usize = 512;
/// Of a file: what is larger is not read. A node with 10,000 mounts has a mountinfo of some 2 MiB.
pub(super) const FILE_BYTES: usize = 4 << 20;

/// A file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub id: u64,
    pub path: PathBuf,
}

/// What came of it: its bytes, or the kernel's word why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub id: u64,
    pub outcome: Result<Vec<u8>, i32>,
}

impl Request {
    /// None for a path that is longer than any that is asked for.
    pub fn encode(id: u64, path: &Path) -> Option<Vec<u8>> {
        let path = path.as_os_str().as_bytes();
        let length = u16::try_from(path.len()).ok().filter(|length| usize::from(*length) <= PATH_BYTES)?;
        Some([&id.to_le_bytes()[..], &length.to_le_bytes(), path].concat())
    }

    /// None at the end.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Request>> {
        let Some(id) = number(from)? else { return Ok(None) };
        let length = usize::from(u16::from_le_bytes(array(from)?));
        let path = OsString::from_vec(bytes(from, length, PATH_BYTES)?);
        Ok(Some(Request { id, path: path.into() }))
    }
}

impl Answer {
    pub fn encode(&self) -> Vec<u8> {
        let Answer { id, outcome } = self;
        let (errno, content) = match outcome {
            Ok(content) => (0, content.as_slice()),
            Err(errno) => (*errno, &[][..]),
        };
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        [&id.to_le_bytes()[..], &errno.to_le_bytes(), &length.to_le_bytes(), content].concat()
    }

    /// None at the end.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Answer>> {
        let Some(id) = number(from)? else { return Ok(None) };
        let errno = i32::from_le_bytes(array(from)?);
        let length = usize::try_from(u32::from_le_bytes(array(from)?)).unwrap_or(usize::MAX);
        let content = bytes(from, length, FILE_BYTES)?;
        Ok(Some(Answer { id, outcome: if errno == 0 { Ok(content) } else { Err(errno) } }))
    }
}

/// None where there is no more: an end within a frame is an error.
fn number(from: &mut impl Read) -> io::Result<Option<u64>> {
    let mut first = [0];
    loop {
        match from.read(&mut first) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let rest: [u8; 7] = array(from)?;
    let mut all = [0; 8];
    for (to, byte) in all.iter_mut().zip(first.into_iter().chain(rest)) {
        *to = byte;
    }
    Ok(Some(u64::from_le_bytes(all)))
}

fn array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut all = [0; N];
    from.read_exact(&mut all)?;
    Ok(all)
}

fn bytes(from: &mut impl Read, length: usize, most: usize) -> io::Result<Vec<u8>> {
    if length > most {
        return Err(io::Error::new(ErrorKind::InvalidData, "a frame is longer than any that is sent"));
    }
    let mut all = vec![0; length];
    from.read_exact(&mut all)?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_however_it_comes() {
        let requests = ["/proc/1/comm", "", "/a\n"].map(|path| Request { id: path.len() as u64, path: path.into() });
        let mut written = Vec::new();
        for Request { id, path } in &requests {
            written.extend(Request::encode(*id, path).expect("short"));
        }
        let mut from = written.as_slice();
        let read: Vec<Request> = std::iter::from_fn(|| Request::read(&mut from).expect("whole")).collect();
        assert_eq!(read, requests);

        let answers = [Answer { id: u64::MAX, outcome: Ok(b"x\0y".to_vec()) }, Answer { id: 0, outcome: Err(2) }];
        let written: Vec<u8> = answers.iter().flat_map(Answer::encode).collect();
        let mut from = written.as_slice();
        assert_eq!(Answer::read(&mut from).expect("whole").as_ref(), answers.first());
        assert_eq!(Answer::read(&mut from).expect("whole").as_ref(), answers.last());
        assert_eq!(Answer::read(&mut from).expect("the end"), None);
    }

    #[test]
    fn an_end_within_a_frame_and_a_frame_without_end_are_faults() {
        let written = Request::encode(7, Path::new("/proc/1/comm")).expect("short");
        for length in 1..written.len() {
            assert!(Request::read(&mut written.get(..length).expect("within")).is_err(), "{length}");
        }
        assert_eq!(Request::encode(7, Path::new(&"x".repeat(PATH_BYTES + 1))), None);
        let endless = [&[0; 8][..], &[0; 4], &u32::MAX.to_le_bytes()].concat();
        assert!(Answer::read(&mut endless.as_slice()).is_err());
    }
}
