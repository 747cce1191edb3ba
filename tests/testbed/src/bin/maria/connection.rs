use anyhow::{Context, Result, bail};
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

/// One connection, as `root` without a password.
pub struct Connection {
    stream: TcpStream,
    incoming: BufReader<TcpStream>,
    /// Results end with EOF packets.
    eof: bool,
}

const PROTOCOL_41: u32 = 1 << 9;
const SECURE_CONNECTION: u32 = 1 << 15;
const PLUGIN_AUTH: u32 = 1 << 19;
const DEPRECATE_EOF: u32 = 1 << 24;

impl Connection {
    pub fn login(target: &str, eof: bool) -> Result<Connection> {
        let stream = TcpStream::connect(target).with_context(|| format!("connect to {target}"))?;
        stream.set_nodelay(true)?;
        let mut connection = Connection { incoming: BufReader::new(stream.try_clone()?), stream, eof };
        connection.next()?;
        let capabilities = 1 | PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH | if eof { 0 } else { DEPRECATE_EOF };
        let mut login = capabilities.to_le_bytes().to_vec();
        login.extend([0, 0, 0, 1, 45]);
        login.resize(32, 0);
        login.extend(b"root\0\0mysql_native_password\0");
        connection.send(1, &login)?;
        match connection.next()?.first() {
            Some(0) => Ok(connection),
            other => bail!("the login was answered with {other:?}"),
        }
    }

    /// Whether it did not fail.
    pub fn query(&mut self, text: &str) -> Result<bool> {
        self.send(0, &[b"\x03", text.as_bytes()].concat())?;
        self.result()
    }

    /// The statement's number.
    pub fn prepare(&mut self, text: &str) -> Result<u32> {
        self.send(0, &[b"\x16", text.as_bytes()].concat())?;
        let answer = self.next()?;
        let Some([0, a, b, c, d, columns, ..]) = answer.first_chunk::<12>() else { bail!("it was not prepared") };
        for _ in 0..usize::from(*columns) + usize::from(self.eof) {
            self.next()?;
        }
        Ok(u32::from_le_bytes([*a, *b, *c, *d]))
    }

    pub fn execute(&mut self, statement: u32) -> Result<bool> {
        self.send(0, &[&[0x17][..], &statement.to_le_bytes(), &[0, 1, 0, 0, 0]].concat())?;
        self.result()
    }

    pub fn close(&mut self, statement: u32) -> Result<()> {
        self.send(0, &[&[0x19][..], &statement.to_le_bytes()].concat())
    }

    pub fn quit(mut self) -> Result<()> {
        self.send(0, &[1])
    }

    fn result(&mut self) -> Result<bool> {
        let columns = match *self.next()? {
            [0xff, ..] => return Ok(false),
            [columns, ..] => columns,
            [] => bail!("an empty answer"),
        };
        for _ in 0..usize::from(columns) + usize::from(self.eof) {
            self.next()?;
        }
        loop {
            match &*self.next()? {
                [0xff, ..] => return Ok(false),
                [0xfe, rest @ ..] if rest.len() < 9 => return Ok(true),
                _ => {}
            }
        }
    }

    fn send(&mut self, number: u8, payload: &[u8]) -> Result<()> {
        let length = u32::try_from(payload.len())?.to_le_bytes();
        self.stream.write_all(&[&length[..3], &[number], payload].concat())?;
        Ok(())
    }

    fn next(&mut self) -> Result<Vec<u8>> {
        let mut head = [0; 4];
        self.incoming.read_exact(&mut head)?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], 0]);
        let mut payload = vec![0; usize::try_from(length)?];
        self.incoming.read_exact(&mut payload)?;
        Ok(payload)
    }
}
