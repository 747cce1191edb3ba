//! One connection from its first byte to its end.

use anyhow::{Context, Result, bail};
use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use testbed::http::Message;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The client closes after the answer.
    ClientCloses,
    /// The server was asked to close after the answer.
    ServerCloses,
    /// The client resets after one answer, and after two.
    ClientResets,
    ClientResetsAfterTwo,
    /// The client resets while it waits for an answer.
    ClientResetsWaiting,
    /// The client resets amid a long answer.
    ClientResetsReading,
    /// The client resets with half of a body sent.
    ClientResetsSending,
    /// The client resets a connection on which it said nothing.
    ClientResetsSilent,
    ServerResets,
    ServerResetsAmid,
    ServerResetsInstead,
}

/// Longest silence that is waited through.
const PATIENCE: Duration = Duration::from_secs(20);

impl Ending {
    pub fn of_profile(profile: &str) -> Result<&'static [Ending]> {
        match profile {
            "close" => Ok(&[Ending::ClientCloses, Ending::ServerCloses]),
            "reset" => Ok(&[
                Ending::ClientResets,
                Ending::ServerResetsAmid,
                Ending::ClientResetsAfterTwo,
                Ending::ClientResetsReading,
                Ending::ServerResets,
                Ending::ClientResetsSilent,
                Ending::ServerResetsInstead,
                Ending::ClientResetsWaiting,
                Ending::ClientResetsSending,
            ]),
            other => bail!("unknown profile {other}"),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Ending::ClientCloses => "client_closes",
            Ending::ServerCloses => "server_closes",
            Ending::ClientResets => "client_resets",
            Ending::ClientResetsAfterTwo => "client_resets_after_two",
            Ending::ClientResetsWaiting => "client_resets_waiting",
            Ending::ClientResetsReading => "client_resets_reading",
            Ending::ClientResetsSending => "client_resets_sending",
            Ending::ClientResetsSilent => "client_resets_silent",
            Ending::ServerResets => "server_resets",
            Ending::ServerResetsAmid => "server_resets_amid",
            Ending::ServerResetsInstead => "server_resets_instead",
        }
    }

    /// What the server is asked for.
    fn query(self) -> &'static str {
        match self {
            Ending::ClientResetsWaiting => "size=100&delay_ms=10000",
            Ending::ClientResetsReading => "size=400000",
            Ending::ServerResets => "size=100&reset=after",
            Ending::ServerResetsAmid => "size=20000&reset=middle",
            Ending::ServerResetsInstead => "size=100&reset=instead",
            _ => "size=100",
        }
    }
}

#[derive(Debug)]
pub struct Script {
    pub number: u64,
    pub ending: Ending,
    /// Requests whose heads were handed to the kernel whole, on an open connection.
    pub sent: u64,
    pub answered: u64,
}

impl Script {
    /// An error says that no connection came about.
    pub fn play(&mut self, target: SocketAddr) -> Result<()> {
        let mut stream = TcpStream::connect_timeout(&target, PATIENCE).context("connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        match self.ending {
            Ending::ClientResetsSilent => {}
            Ending::ClientResetsWaiting => {
                self.ask(&mut stream, "GET", "", &[]);
                // The request is on its way, and may be with the server.
                std::thread::sleep(Duration::from_micros(100 * (self.number % 10)));
            }
            Ending::ClientResetsReading => {
                self.ask(&mut stream, "GET", "", &[]);
                stream.read_exact(&mut [0; 1000]).ok();
            }
            Ending::ClientResetsSending => self.ask(&mut stream, "POST", "Content-Length: 3000\r\n", &[b'x'; 1500]),
            Ending::ClientResetsAfterTwo => {
                self.exchange(&mut stream, "");
                self.exchange(&mut stream, "");
            }
            Ending::ServerCloses => {
                self.exchange(&mut stream, "Connection: close\r\n");
                stream.read_exact(&mut [0; 1]).ok();
            }
            _ => self.exchange(&mut stream, ""),
        }
        if !matches!(self.ending, Ending::ClientCloses | Ending::ServerCloses) {
            // Closed with nothing to wait for: a RST (socket(7), SO_LINGER).
            setsockopt(&stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
        }
        Ok(())
    }

    fn exchange(&mut self, stream: &mut TcpStream, fields: &str) {
        self.ask(stream, "GET", fields, &[]);
        let mut response = Message::response(false);
        let mut buffer = vec![0; 16 << 10];
        while !response.is_over() {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(length) => _ = response.feed(&buffer[..length], |_| ()),
            }
        }
        self.answered += u64::from(response.is_complete());
    }

    fn ask(&mut self, stream: &mut TcpStream, method: &str, fields: &str, body: &[u8]) {
        let (number, query) = (self.number, self.ending.query());
        let head = format!("{method} /items?i={number}&{query} HTTP/1.1\r\nHost: api.demo.test\r\n{fields}\r\n");
        // A connection that the peer has reset refuses the bytes: then they never left.
        self.sent += u64::from(stream.write_all(&[head.as_bytes(), body].concat()).is_ok());
    }
}
