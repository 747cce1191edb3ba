use crate::program::{self, ProgramError};
use crate::{Socket, SocketState, socket, sys};
use flow_model::Transport;
use std::fs::File;
use std::io::Read;

const BTF: &str = "/sys/kernel/btf/vmlinux";

/// `struct pf_socket` of `bpf/task_socks.bpf.c`.
const RECORD: usize = 64;

/// Bytes asked for at a time. The kernel fills at most a buffer of a few pages for each read.
const CHUNK: usize = 64 << 10;

/// One pass over every socket that a process of this node holds, read piece by piece.
#[derive(Debug)]
pub struct SocketIterator {
    file: File,
    buffer: Vec<u8>,
    /// Bytes of a record that a read cut.
    held: usize,
}

/// Why the iterator can't be used; the caller takes another source and says so once.
#[derive(Debug, thiserror::Error)]
pub enum IteratorError {
    /// `/sys/kernel/btf/vmlinux` cannot be read.
    #[error("read the kernel's BTF (is CONFIG_DEBUG_INFO_BTF set?)")]
    Btf(#[source] std::io::Error),
    /// The BTF is readable, and the program does not fit it.
    #[error("fit the socket iterator to this kernel (5.11 or newer)")]
    Fit(#[from] ProgramError),
    /// `bpf(2)` refused the program, the link or the pass.
    #[error("load the socket iterator (needs CAP_BPF and CAP_PERFMON)")]
    Load(#[from] nix::errno::Errno),
    /// A read of the pass failed. What was handed on before is true, and not all.
    #[error("read the socket iterator")]
    Read(#[from] std::io::Error),
}

impl SocketIterator {
    /// Loads the program and opens a pass; everything is gone again with the value. Costs some 5 ms.
    ///
    /// # Errors
    /// A kernel or a set of capabilities that does not allow it.
    pub fn open() -> Result<SocketIterator, IteratorError> {
        let (code, function) = {
            let btf = std::fs::read(BTF).map_err(IteratorError::Btf)?;
            program::fit(&btf)?
        };
        let file = File::from(sys::iterator(&code, function)?);
        Ok(SocketIterator { file, buffer: vec![0; CHUNK], held: 0 })
    }

    /// Reads the next piece and hands each socket of it to `found`. `false` when the pass is over.
    ///
    /// # Errors
    /// The kernel's read failed; the pass can't go on.
    pub fn read(&mut self, mut found: impl FnMut(Socket)) -> Result<bool, IteratorError> {
        let Some(free) = self.buffer.get_mut(self.held..) else { return Ok(false) };
        let count = loop {
            match self.file.read(free) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        let filled = self.held + count;
        let whole = filled - filled % RECORD;
        for record in self.buffer.get(..whole).unwrap_or_default().chunks_exact(RECORD) {
            if let Some(socket) = decode(record) {
                found(socket);
            }
        }
        self.buffer.copy_within(whole..filled, 0);
        self.held = filled - whole;
        Ok(count > 0)
    }
}

fn decode(record: &[u8]) -> Option<Socket> {
    let u64_at = |at: usize| Some(u64::from_ne_bytes(record.get(at..at + 8)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?));
    let u16_at = |at: usize| Some(u16::from_ne_bytes(record.get(at..at + 2)?.try_into().ok()?));
    let ip_at = |at: usize| Some(socket::address(record.get(at..at + 16)?.try_into().ok()?));
    let transport = match record.get(55)? {
        6 => Transport::Tcp,
        17 => Transport::Udp,
        _ => return None,
    };
    let state = SocketState::from_kernel(*record.get(54)?);
    Some(Socket {
        cgroup_id: u64_at(0)?,
        pid: u32_at(8)?,
        netns_ino: u64::from(u32_at(12)?),
        tuple: socket::tuple(transport, (ip_at(16)?, u16_at(48)?), (ip_at(32)?, u16_at(50)?)),
        state,
        waiting: u16_at(52)?,
        v6only: *record.get(60)? != 0,
        accepted: Some(state != SocketState::Listening && u32_at(56)? > 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_the_kernel_is_read_field_by_field() {
        let mut record = [0u8; RECORD];
        record[0..8].copy_from_slice(&9u64.to_ne_bytes());
        record[8..12].copy_from_slice(&4242u32.to_ne_bytes());
        record[12..16].copy_from_slice(&4_026_531_999u32.to_ne_bytes());
        record[26..32].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 2]);
        record[42..48].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 9]);
        record[48..50].copy_from_slice(&80u16.to_ne_bytes());
        record[50..52].copy_from_slice(&40_000u16.to_ne_bytes());
        record[54] = 1;
        record[55] = 6;
        let mut listening = record;
        listening[52..54].copy_from_slice(&2u16.to_ne_bytes());
        listening[54] = 10;
        listening[56..60].copy_from_slice(&128u32.to_ne_bytes());
        listening[60] = 1;
        let mut accepted = record;
        accepted[56] = 128;
        let socket = decode(&record).expect("a TCP record");
        assert_eq!(socket.netns_ino, 4_026_531_999);
        assert_eq!((socket.pid, socket.cgroup_id, socket.state), (4242, 9, SocketState::Open));
        assert_eq!(socket.tuple.local.ip.to_string(), "10.0.0.2");
        assert_eq!((socket.tuple.local.port, socket.tuple.remote.port), (80, 40_000));
        let told = |record| decode(record).map(|socket| (socket.waiting, socket.v6only, socket.accepted));
        assert_eq!(told(&record), Some((0, false, Some(false))));
        assert_eq!(told(&listening), Some((2, true, Some(false))));
        assert_eq!(told(&accepted), Some((0, false, Some(true))));
    }

    #[test]
    fn another_protocol_or_a_cut_record_is_no_socket() {
        assert_eq!(decode(&[0u8; RECORD]), None);
        assert_eq!(decode(&[6u8; 20]), None);
    }
}
