//! Packets of MySQL's protocol, as clients and servers write them.
#![allow(dead_code)]

/// A payload in as many packets as it takes, from `number` on.
pub fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
    let (mut bytes, mut rest, mut number) = (Vec::new(), payload, number);
    loop {
        let (part, after) = rest.split_at(rest.len().min(0xff_ffff));
        bytes.extend(&(part.len() as u32).to_le_bytes()[..3]);
        bytes.push(number);
        bytes.extend(part);
        if part.len() < 0xff_ffff {
            return bytes;
        }
        (rest, number) = (after, number.wrapping_add(1));
    }
}

pub const DEPRECATE_EOF: u32 = 1 << 24;
pub const COMPRESS: u32 = 1 << 5;
pub const SSL: u32 = 1 << 11;
/// What any client of today has: protocol 4.1, a database, authentication in a plugin of its own.
pub const USUAL: u32 = 1 << 9 | 1 << 3 | 1 << 15 | 1 << 19;

pub fn greeting(capabilities: u32) -> Vec<u8> {
    let [a, b, c, d] = (capabilities | USUAL).to_le_bytes();
    let mut payload = b"\x0a8.0.36\0\x09\0\0\0secret_8\0".to_vec();
    payload.extend([a, b, 45, 2, 0, c, d, 21]);
    payload.extend([0; 10]);
    payload.extend(b"secret_rest.\0caching_sha2_password\0");
    packet(0, &payload)
}

fn fixed(capabilities: u32) -> Vec<u8> {
    let mut payload = capabilities.to_le_bytes().to_vec();
    payload.extend([0, 0, 0, 1, 45]);
    payload.resize(32, 0);
    payload
}

pub fn ssl_request() -> Vec<u8> {
    packet(1, &fixed(USUAL | SSL))
}

pub fn login(capabilities: u32) -> Vec<u8> {
    let mut payload = fixed(USUAL | capabilities);
    payload.extend(b"secret_user\0\x0csecret_auth_shop\0caching_sha2_password\0");
    packet(1, &payload)
}

pub fn command(code: u8, rest: &[u8]) -> Vec<u8> {
    packet(0, &[&[code], rest].concat())
}

pub fn query(text: &str) -> Vec<u8> {
    command(3, text.as_bytes())
}

pub fn prepare(text: &str) -> Vec<u8> {
    command(0x16, text.as_bytes())
}

pub fn execute(statement: u32) -> Vec<u8> {
    execute_with(statement, b"secret_value")
}

pub fn execute_with(statement: u32, value: &[u8]) -> Vec<u8> {
    command(0x17, &[&statement.to_le_bytes()[..], &[0, 1, 0, 0, 0], &[0, 1, 0xfe, 0], value].concat())
}

pub fn close(statement: u32) -> Vec<u8> {
    command(0x19, &statement.to_le_bytes())
}

pub const MORE: u16 = 8;
pub const CURSOR: u16 = 64;

/// Packets of an answer, which are numbered one after the other.
pub struct Answer {
    pub bytes: Vec<u8>,
    number: u8,
}

/// To a command of one packet.
pub fn answer() -> Answer {
    Answer { bytes: Vec::new(), number: 1 }
}

pub fn answer_from(number: u8) -> Answer {
    Answer { bytes: Vec::new(), number }
}

impl Answer {
    pub fn say(mut self, payload: &[u8]) -> Answer {
        self.bytes.extend(packet(self.number, payload));
        self.number = self.number.wrapping_add(1);
        self
    }

    pub fn ok(self, status: u16) -> Answer {
        let [low, high] = (status | 2).to_le_bytes();
        self.say(&[0, 1, 0, low, high, 0, 0])
    }

    pub fn error(self, code: u16) -> Answer {
        let [low, high] = code.to_le_bytes();
        self.say(&[&[0xff, low, high][..], b"#23000Duplicate entry 'secret_key'"].concat())
    }

    /// Where it ends with an EOF packet, or with the OK packet in its place.
    pub fn end(self, eof: bool, status: u16) -> Answer {
        let [low, high] = (status | 2).to_le_bytes();
        if eof { self.say(&[0xfe, 0, 0, low, high]) } else { self.say(&[0xfe, 0, 0, low, high, 0, 0]) }
    }

    /// Names of columns, and what stands behind them.
    pub fn columns(self, count: u8, eof: bool, status: u16) -> Answer {
        self.say(&[count]).definitions(count, eof, status)
    }

    pub fn definitions(mut self, count: u8, eof: bool, status: u16) -> Answer {
        for _ in 0..count {
            self = self.say(b"\x03def\x04shop\x01t\x01t\x0dsecret_column\x01c\x0c\x3f\0\x0b\0\0\0\x03\0\0\0\0\0");
        }
        if eof { self.end(true, status) } else { self }
    }

    pub fn row(self, length: usize) -> Answer {
        let mut row = match length {
            0..=250 => vec![length as u8],
            251..=0xffff => [&[0xfc][..], &(length as u16).to_le_bytes()].concat(),
            0x1_0000..=0xff_ffff => [&[0xfd][..], &(length as u32).to_le_bytes()[..3]].concat(),
            _ => [&[0xfe][..], &(length as u64).to_le_bytes()].concat(),
        };
        row.resize(row.len() + length, b'x');
        self.say(&row)
    }

    pub fn rows(mut self, lengths: &[usize]) -> Answer {
        for length in lengths {
            self = self.row(*length);
        }
        self
    }

    pub fn prepared(self, statement: u32, wants: u8, gives: u8, eof: bool) -> Answer {
        let mut payload = vec![0];
        payload.extend(statement.to_le_bytes());
        payload.extend([gives, 0, wants, 0, 0, 0, 0]);
        self.say(&payload).definitions(wants, eof && wants > 0, 0).definitions(gives, eof && gives > 0, 0)
    }
}
