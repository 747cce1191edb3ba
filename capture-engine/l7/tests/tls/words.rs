//! Bytes of TLS, as its ends write them.

/// A record of version 3.3.
pub fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 3, 3];
    bytes.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
    bytes.extend(content);
    bytes
}

pub fn handshake(message: &[u8]) -> Vec<u8> {
    record(22, message)
}

/// Encrypted: `length` bytes.
pub fn sealed(kind: u8, length: usize) -> Vec<u8> {
    record(kind, &vec![0xa5; length])
}

pub fn change() -> Vec<u8> {
    record(20, &[1])
}

pub fn alert(level: u8, code: u8) -> Vec<u8> {
    record(21, &[level, code])
}

pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(body.len()).unwrap().to_be_bytes();
    let mut bytes = vec![kind, high, middle, low];
    bytes.extend(body);
    bytes
}

fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()][..], bytes].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn numbers(list: &[u16]) -> Vec<u8> {
    list.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &long(body)].concat()
}

#[derive(Clone, Debug)]
pub struct Client {
    pub sni: String,
    pub alpn: Vec<&'static str>,
    pub versions: Vec<u16>,
    pub groups: Vec<u16>,
    pub session: Vec<u8>,
    pub early_data: bool,
    pub ech: bool,
    /// Bytes of its key share: post-quantum ones have 1,216.
    pub share: usize,
}

/// A usual client of TLS 1.3 and 1.2.
pub fn client() -> Client {
    Client {
        sni: "api.shop".into(),
        alpn: vec!["h2", "http/1.1"],
        versions: vec![0x7a7a, 0x0304, 0x0303],
        groups: vec![0x2a2a, 0x11ec, 0x001d, 0x0017],
        session: vec![7; 32],
        early_data: false,
        ech: false,
        share: 32,
    }
}

impl Client {
    pub fn hello(&self) -> Vec<u8> {
        let mut extensions = extension(0x1a1a, &[]);
        if !self.sni.is_empty() {
            extensions.extend(extension(0, &long(&[&[0][..], &long(self.sni.as_bytes())].concat())));
        }
        if !self.alpn.is_empty() {
            let names: Vec<u8> = self.alpn.iter().flat_map(|name| short(name.as_bytes())).collect();
            extensions.extend(extension(16, &long(&names)));
        }
        extensions.extend(extension(10, &long(&numbers(&self.groups))));
        if !self.versions.is_empty() {
            extensions.extend(extension(43, &short(&numbers(&self.versions))));
        }
        extensions.extend(extension(51, &long(&[&[0, 0x1d][..], &long(&vec![9; self.share])].concat())));
        if self.early_data {
            extensions.extend(extension(42, &[]));
        }
        if self.ech {
            extensions.extend(extension(0xfe0d, &[0; 64]));
        }
        let suites = numbers(&[0x3a3a, 0x1301, 0x1302, 0xc02f]);
        let body = [&[3, 3][..], &[0x55; 32], &short(&self.session), &long(&suites), &short(&[0]), &long(&extensions)];
        message(1, &body.concat())
    }
}

#[derive(Clone, Debug)]
pub struct Server {
    /// As chosen: 1.3 and its drafts from 22 on stand in an extension.
    pub version: u16,
    pub cipher: u16,
    pub group: Option<u16>,
    pub alpn: &'static str,
    pub session: Vec<u8>,
    pub psk: bool,
}

pub fn server(version: u16, cipher: u16) -> Server {
    Server { version, cipher, group: None, alpn: "", session: vec![7; 32], psk: false }
}

const RETRY: &str = "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c";

impl Server {
    pub fn hello(&self) -> Vec<u8> {
        self.with_random(&[0x66; 32])
    }

    pub fn retry(&self) -> Vec<u8> {
        let random: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&RETRY[2 * i..2 * i + 2], 16).unwrap()).collect();
        self.with_random(&random)
    }

    fn with_random(&self, random: &[u8]) -> Vec<u8> {
        let mut extensions = Vec::new();
        let early = self.version > 0x0303;
        if early {
            extensions.extend(extension(43, &self.version.to_be_bytes()));
        }
        if let Some(group) = self.group {
            extensions.extend(extension(51, &[&group.to_be_bytes()[..], &long(&[9; 32])].concat()));
        }
        if self.psk {
            extensions.extend(extension(41, &[0, 0]));
        }
        if !self.alpn.is_empty() {
            extensions.extend(extension(16, &long(&short(self.alpn.as_bytes()))));
        }
        let version = if early { 0x0303 } else { self.version };
        let body = [
            &version.to_be_bytes()[..],
            random,
            &short(&self.session),
            &self.cipher.to_be_bytes(),
            &[0],
            &if extensions.is_empty() { Vec::new() } else { long(&extensions) },
        ];
        message(2, &body.concat())
    }
}

/// Certificates, of which nothing may be told.
pub fn certificate(length: usize) -> Vec<u8> {
    message(11, &b"SECRET-CERTIFICATE".iter().copied().cycle().take(length).collect::<Vec<u8>>())
}

/// Of a curve.
pub fn key_exchange(group: u16) -> Vec<u8> {
    message(12, &[&[3][..], &group.to_be_bytes(), &[65; 66]].concat())
}

/// Whole handshakes by their messages of the flow, the client's first.
pub mod whole {
    use super::*;

    /// TLS 1.0 to 1.2 with new keys. Behind it, data of the client.
    pub fn full(version: u16) -> Vec<Vec<u8>> {
        let mut server = server(version, 0xc02f);
        server.session = vec![8; 32];
        server.alpn = "h2";
        vec![
            handshake(&client().hello()),
            [&server.hello()[..], &certificate(2200), &key_exchange(0x17), &message(14, &[])]
                .iter()
                .flat_map(|message| handshake(message))
                .collect(),
            [handshake(&message(16, &[65; 66])), change(), sealed(22, 40)].concat(),
            [handshake(&message(4, &[3; 180])), change(), sealed(22, 40)].concat(),
            sealed(23, 300),
            sealed(23, 900),
        ]
    }

    /// TLS 1.2 with the keys of a session before.
    pub fn again() -> Vec<Vec<u8>> {
        vec![
            handshake(&client().hello()),
            [handshake(&server(0x0303, 0xc030).hello()), change(), sealed(22, 40)].concat(),
            [change(), sealed(22, 40), sealed(23, 300)].concat(),
            sealed(23, 900),
        ]
    }

    /// TLS 1.3.
    pub fn sealed_early(server: &Server) -> Vec<Vec<u8>> {
        let finished = if server.cipher == 0x1302 { 69 } else { 53 };
        vec![
            handshake(&client().hello()),
            [
                handshake(&server.hello()),
                change(),
                sealed(23, 23),
                sealed(23, 1200),
                sealed(23, 280),
                sealed(23, finished),
            ]
            .concat(),
            [change(), sealed(23, finished), sealed(23, 300)].concat(),
            [sealed(23, 250), sealed(23, 900)].concat(),
        ]
    }
}
