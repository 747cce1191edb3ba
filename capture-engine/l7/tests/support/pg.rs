//! Messages of PostgreSQL's protocol, as clients and servers write them.
#![allow(dead_code)]

pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

fn text(kind: u8, text: &str) -> Vec<u8> {
    message(kind, format!("{text}\0").as_bytes())
}

/// What begins a connection: a code and what follows it.
pub fn start(code: u32, rest: &[u8]) -> Vec<u8> {
    [&(rest.len() as u32 + 8).to_be_bytes()[..], &code.to_be_bytes(), rest].concat()
}

pub const SSL: u32 = 80_877_103;
pub const GSS: u32 = 80_877_104;
pub const CANCEL: u32 = 80_877_102;

pub fn login() -> Vec<u8> {
    start(3 << 16, b"user\0secret_user\0database\0shop\0\0")
}

pub fn welcome() -> Vec<u8> {
    let status = message(b'S', b"TimeZone\0UTC\0");
    [message(b'R', &[0; 4]), status, message(b'K', &[7; 8]), ready()].concat()
}

pub fn query(statement: &str) -> Vec<u8> {
    text(b'Q', statement)
}

pub fn parse(name: &str, statement: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{statement}\0\0\0").as_bytes())
}

pub fn bind(portal: &str, statement: &str) -> Vec<u8> {
    bind_with(portal, statement, b"secret_value")
}

pub fn bind_with(portal: &str, statement: &str, value: &[u8]) -> Vec<u8> {
    let mut body = format!("{portal}\0{statement}\0\0\0\0\x01").into_bytes();
    body.extend((value.len() as u32).to_be_bytes());
    body.extend(value);
    body.extend([0, 0]);
    message(b'B', &body)
}

pub fn describe(portal: &str) -> Vec<u8> {
    text(b'D', &format!("P{portal}"))
}

pub fn execute(portal: &str) -> Vec<u8> {
    message(b'E', format!("{portal}\0\0\0\0\0").as_bytes())
}

pub fn close(statement: &str) -> Vec<u8> {
    text(b'C', &format!("S{statement}"))
}

pub fn sync() -> Vec<u8> {
    message(b'S', b"")
}

pub fn flush() -> Vec<u8> {
    message(b'H', b"")
}

/// ParseComplete, BindComplete, CloseComplete.
pub fn parsed() -> Vec<u8> {
    message(b'1', b"")
}

pub fn bound() -> Vec<u8> {
    message(b'2', b"")
}

pub fn closed() -> Vec<u8> {
    message(b'3', b"")
}

pub fn columns() -> Vec<u8> {
    message(b'T', &[&[0, 1][..], b"secret_column\0", &[0; 18]].concat())
}

pub fn row(length: usize) -> Vec<u8> {
    message(b'D', &[&[0, 1][..], &(length as u32).to_be_bytes(), &vec![b'x'; length]].concat())
}

pub fn data(length: usize) -> Vec<u8> {
    message(b'd', &vec![b'x'; length])
}

pub fn complete(tag: &str) -> Vec<u8> {
    text(b'C', tag)
}

pub fn error(severity: &str, code: &str) -> Vec<u8> {
    let body = format!("S{severity}\0V{severity}\0C{code}\0Mkey (a)=(secret_key) exists\0Fa.c\0\0");
    message(b'E', body.as_bytes())
}

pub fn notice() -> Vec<u8> {
    message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Msecret_notice\0\0")
}

pub fn notification() -> Vec<u8> {
    message(b'A', b"\0\0\0\x07secret_channel\0secret_payload\0")
}

pub fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}
