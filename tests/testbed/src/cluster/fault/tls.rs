use super::proxy::LOOK;
use anyhow::{Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::Connection;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

/// One side of the proxy: TLS over a socket, read when there is something to be read.
#[derive(Debug)]
pub(super) struct Side {
    tls: Connection,
    socket: TcpStream,
    /// What has come and was not taken yet.
    pub incoming: Vec<u8>,
    pub is_open: bool,
}

impl Side {
    pub fn new(tls: impl Into<Connection>, socket: TcpStream) -> Result<Side> {
        socket.set_nodelay(true)?;
        // A peer that reads nothing for so long ends the connection; a proxy that hangs would end the test.
        socket.set_write_timeout(Some(Duration::from_secs(30)))?;
        let mut side = Side { tls: tls.into(), socket, incoming: Vec::new(), is_open: true };
        side.flush()?;
        Ok(side)
    }

    /// Takes what the socket has, which must be something.
    fn receive(&mut self) -> Result<()> {
        match self.tls.read_tls(&mut self.socket) {
            Ok(0) => self.is_open = false,
            Ok(_) => {
                self.tls.process_new_packets()?;
                self.flush()?;
                let mut plain = [0; 16 << 10];
                loop {
                    match self.tls.reader().read(&mut plain) {
                        Ok(0) => {
                            self.is_open = false;
                            break;
                        }
                        Ok(n) => self.incoming.extend_from_slice(&plain[..n]),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            Err(error) => {
                self.is_open = false;
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        while self.tls.wants_write() {
            if self.tls.write_tls(&mut self.socket)? == 0 {
                bail!("the connection takes nothing");
            }
        }
        Ok(())
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        // rustls keeps 64 KiB of what was not encrypted yet; a larger piece would be taken in part.
        for part in bytes.chunks(16 << 10) {
            self.tls.writer().write_all(part)?;
            self.flush()?;
        }
        Ok(())
    }

    /// The end in TLS and of the socket: a client sees that nothing was cut off.
    pub fn close(&mut self) {
        self.tls.send_close_notify();
        self.flush().ok();
        self.socket.shutdown(std::net::Shutdown::Both).ok();
        self.is_open = false;
    }
}

/// Waits a moment for either side and takes what has come.
pub(super) fn wait(one: &mut Side, other: Option<&mut Side>) -> Result<()> {
    let mut sides: Vec<&mut Side> = std::iter::once(one).chain(other).filter(|side| side.is_open).collect();
    let ready: Vec<bool> = {
        let mut waited: Vec<PollFd> =
            sides.iter().map(|side| PollFd::new(side.socket.as_fd(), PollFlags::POLLIN)).collect();
        poll(&mut waited, PollTimeout::from(LOOK))?;
        waited.iter().map(|fd| fd.any() == Some(true)).collect()
    };
    for (side, _) in sides.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
        side.receive()?;
    }
    Ok(())
}
