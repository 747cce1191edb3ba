use anyhow::Result;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

/// Asks for the addresses of a list of names, in turn, over UDP (RFC 1035). Never asks twice for
/// the same question: what is not answered is counted as sent.
#[derive(Debug)]
pub struct Resolver {
    socket: UdpSocket,
    names: Vec<String>,
    sent: u64,
    answered: u64,
}

impl Resolver {
    pub fn open(server: SocketAddr, names: Vec<String>) -> Result<Resolver> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        Ok(Resolver { socket, names, sent: 0, answered: 0 })
    }

    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    pub fn sent(&self) -> u64 {
        self.sent
    }

    pub fn answered(&self) -> u64 {
        self.answered
    }

    pub fn open_questions(&self) -> u64 {
        self.sent - self.answered
    }

    pub fn ask(&mut self) {
        let index = usize::try_from(self.sent).unwrap_or(0) % self.names.len();
        #[allow(clippy::cast_possible_truncation, reason = "the id of a question is its number modulo 2^16")]
        let query = question(self.sent as u16, &self.names[index]);
        if self.socket.send(&query).is_ok() {
            self.sent += 1;
        }
    }

    pub fn receive(&mut self) {
        let mut buffer = [0; 1500];
        while self.socket.recv(&mut buffer).is_ok() {
            self.answered += 1;
        }
    }
}

/// A query for the A record of `name`, recursion desired.
fn question(id: u16, name: &str) -> Vec<u8> {
    let mut packet = id.to_be_bytes().to_vec();
    packet.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).unwrap_or(63));
        packet.extend(label.as_bytes());
    }
    packet.extend([0, 0, 1, 0, 1]);
    packet
}
