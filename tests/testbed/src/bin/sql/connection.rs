use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::TcpStream;

/// One connection, as the user `postgres` without a password.
pub struct Connection {
    stream: TcpStream,
    incoming: Vec<u8>,
    body: Vec<u8>,
    at: usize,
}

fn message(kind: u8, body: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(body.len() + 4)?;
    Ok([&[kind][..], &length.to_be_bytes(), body].concat())
}

impl Connection {
    pub fn login(target: &str) -> Result<Connection> {
        let stream = TcpStream::connect(target).with_context(|| format!("connect to {target}"))?;
        stream.set_nodelay(true)?;
        let parameters = b"user\0postgres\0database\0postgres\0\0";
        let length = u32::try_from(parameters.len() + 8)?;
        let mut connection = Connection { stream, incoming: Vec::new(), body: Vec::new(), at: 0 };
        connection.stream.write_all(&[&length.to_be_bytes()[..], &[0, 3, 0, 0], parameters].concat())?;
        connection.ready(1)?;
        Ok(connection)
    }

    pub fn query(&mut self, text: &str) -> Result<()> {
        self.stream.write_all(&message(b'Q', format!("{text}\0").as_bytes())?)?;
        Ok(())
    }

    /// Each statement in a batch of its own, all of them together.
    pub fn pipeline(&mut self, statements: impl Iterator<Item = String>) -> Result<()> {
        let mut bytes = Vec::new();
        for text in statements {
            bytes.extend(message(b'P', format!("\0{text}\0\0\0").as_bytes())?);
            bytes.extend(message(b'B', &[0; 8])?);
            bytes.extend(message(b'D', b"P\0")?);
            bytes.extend(message(b'E', &[0; 5])?);
            bytes.extend(message(b'S', b"")?);
        }
        self.stream.write_all(&bytes)?;
        Ok(())
    }

    /// Data of a COPY: `line` so many times, a message each.
    pub fn copy(&mut self, line: &str, count: usize) -> Result<()> {
        while self.next()? != b'G' {}
        let row = message(b'd', format!("{line}\n").as_bytes())?;
        // As a client's library fills its buffer.
        let mut writer = std::io::BufWriter::with_capacity(16 << 10, &self.stream);
        for _ in 0..count {
            writer.write_all(&row)?;
        }
        writer.write_all(&message(b'c', b"")?)?;
        writer.flush()?;
        Ok(())
    }

    /// Waits until the server has said `times` that it is ready: how much was complete, and how much failed.
    pub fn ready(&mut self, mut times: usize) -> Result<(usize, usize)> {
        let (mut answered, mut failed) = (0, 0);
        while times > 0 {
            match self.next()? {
                b'C' => answered += 1,
                b'E' if self.body.windows(6).any(|field| field == b"VFATAL") => {
                    bail!("{}", String::from_utf8_lossy(&self.body));
                }
                b'E' => failed += 1,
                b'Z' => times -= 1,
                _ => {}
            }
        }
        Ok((answered, failed))
    }

    pub fn quit(mut self) -> Result<()> {
        self.stream.write_all(&message(b'X', b"")?)?;
        Ok(())
    }

    /// The kind of the next message, whose body is then in `body`.
    fn next(&mut self) -> Result<u8> {
        loop {
            let rest = &self.incoming[self.at..];
            if let Some((head, body)) = rest.split_first_chunk::<5>() {
                let [kind, length @ ..] = *head;
                let length = usize::try_from(u32::from_be_bytes(length))?.saturating_sub(4);
                if let Some(body) = body.get(..length) {
                    self.body.clear();
                    self.body.extend_from_slice(body);
                    self.at += 5 + length;
                    return Ok(kind);
                }
            }
            self.incoming.drain(..self.at);
            self.at = 0;
            let mut buffer = [0; 64 << 10];
            match self.stream.read(&mut buffer)? {
                0 => bail!("the server closed the connection"),
                length => self.incoming.extend_from_slice(&buffer[..length]),
            }
        }
    }
}
