//! What the two hellos say (RFC 8446 section 4.1, RFC 5246 section 7.4.1), whole or cut.

use flow_model::TlsOffer;
use std::sync::Arc;

/// Longest name that is kept, in bytes.
const LONGEST_NAME: usize = 255;
/// Entries of an offered list that are kept; browsers send up to 20.
const MOST_OFFERED: usize = 64;

const EXT_SERVER_NAME: u16 = 0;
const EXT_GROUPS: u16 = 10;
const EXT_ALPN: u16 = 16;
/// Of drafts of TLS 1.3 before 23.
const EXT_OLD_KEY_SHARE: u16 = 40;
const EXT_PRE_SHARED_KEY: u16 = 41;
const EXT_EARLY_DATA: u16 = 42;
const EXT_VERSIONS: u16 = 43;
const EXT_KEY_SHARE: u16 = 51;
const EXT_ECH: u16 = 0xfe0d;

/// SHA-256 of "HelloRetryRequest": the random of a ServerHello that is one (RFC 8446 section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11,
    0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

#[derive(Debug, Default)]
pub(super) struct ClientHello {
    pub sni: Arc<str>,
    /// Kept until the server has answered: it repeats the one that it takes up.
    pub session: Session,
    pub early_data: bool,
    pub ech: bool,
    pub offer: Option<Box<TlsOffer>>,
    /// It was read to its end.
    pub whole: bool,
}

#[derive(Debug, Default)]
pub(super) struct ServerHello {
    pub version: u16,
    pub cipher: u16,
    pub group: Option<u16>,
    pub alpn: Box<str>,
    /// It goes on with a key that both had before.
    pub psk: bool,
    pub session: Session,
    /// It asks for another ClientHello.
    pub retry: bool,
}

/// A session identifier, at most 32 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Session {
    length: u8,
    bytes: [u8; 32],
}

impl Session {
    fn of(bytes: &[u8]) -> Option<Session> {
        let mut session = Session { length: u8::try_from(bytes.len()).ok()?, ..Session::default() };
        session.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(session)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// Reads from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// What has its length before it, in one byte.
    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    /// The same with two bytes; of what is cut, as much as there is.
    fn long(&mut self) -> Option<(&'a [u8], bool)> {
        let length = usize::from(self.u16()?);
        match self.take(length) {
            Some(whole) => Some((whole, true)),
            None => Some((std::mem::take(&mut self.0), false)),
        }
    }
}

/// Values that clients send so that servers get used to unknown ones (RFC 8701).
fn is_reserved(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

fn text(bytes: &[u8]) -> String {
    let bytes = bytes.get(..LONGEST_NAME).unwrap_or(bytes);
    let text: String =
        String::from_utf8_lossy(bytes).chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect();
    let end = (0..=LONGEST_NAME.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

impl ClientHello {
    /// Of a message with its header, of which the end may be missing.
    pub(super) fn read(message: &[u8], keep_offer: bool) -> ClientHello {
        let mut hello = ClientHello::default();
        if keep_offer {
            hello.offer = Some(Box::default());
        }
        hello.whole = hello.fields(message).is_some();
        if let Some(offer) = &mut hello.offer
            && offer.versions.is_empty()
        {
            let mut legacy = Reader(message.get(4..).unwrap_or_default());
            offer.versions.extend(legacy.u16());
        }
        hello
    }

    /// In the form of SSL 2.0 (RFC 5246 appendix E.2), without its length.
    pub(super) fn read_old(content: &[u8], keep_offer: bool) -> ClientHello {
        let mut content = Reader(content);
        let version = content.take(1).and_then(|_| content.u16());
        let versions = version.into_iter().collect();
        let offer = keep_offer.then(|| Box::new(TlsOffer { versions, ..TlsOffer::default() }));
        ClientHello { offer, whole: version.is_some(), ..ClientHello::default() }
    }

    fn fields(&mut self, message: &[u8]) -> Option<()> {
        let mut body = Reader(message.get(4..)?);
        let is_whole = message.get(1..4).is_some_and(|length| {
            length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)) == message.len() - 4
        });
        body.take(2 + 32)?;
        self.session = Session::of(body.short()?)?;
        // Cipher suites, compression.
        let (_, true) = body.long()? else { return None };
        body.short()?;
        if body.0.is_empty() {
            // Extensions came with TLS 1.0's second edition (RFC 3546).
            return is_whole.then_some(());
        }
        let (list, all) = body.long()?;
        let mut list = Reader(list);
        while !list.0.is_empty() {
            let kind = list.u16()?;
            let (extension, whole) = list.long()?;
            if !whole {
                return None;
            }
            self.extension(kind, Reader(extension));
        }
        (all && is_whole).then_some(())
    }

    fn extension(&mut self, kind: u16, mut body: Reader<'_>) {
        match kind {
            EXT_SERVER_NAME => self.sni = server_name(body).unwrap_or_default(),
            EXT_EARLY_DATA => self.early_data = true,
            EXT_ECH => self.ech = true,
            EXT_ALPN | EXT_VERSIONS | EXT_GROUPS => {
                let Some(offer) = &mut self.offer else { return };
                match kind {
                    EXT_ALPN => {
                        let mut names = Reader(body.long().map_or(&[][..], |(names, _)| names));
                        while let Some(name) = names.short().filter(|_| offer.protocols.len() < MOST_OFFERED) {
                            let number = Reader(name).u16().filter(|_| name.len() == 2);
                            if !number.is_some_and(is_reserved) {
                                offer.protocols.push(text(name).into());
                            }
                        }
                    }
                    EXT_VERSIONS => offer.versions = numbers(body.short().unwrap_or_default()),
                    _ => offer.groups = numbers(body.long().map_or(&[][..], |(list, _)| list)),
                }
            }
            _ => {}
        }
    }
}

fn numbers(list: &[u8]) -> Vec<u16> {
    let numbers = list.chunks_exact(2).filter_map(|pair| pair.try_into().ok().map(u16::from_be_bytes));
    numbers.filter(|number| !is_reserved(*number)).take(MOST_OFFERED).collect()
}

/// The first host name of the list (RFC 6066 section 3).
fn server_name(mut body: Reader<'_>) -> Option<Arc<str>> {
    let mut list = Reader(body.long()?.0);
    loop {
        let kind = list.u8()?;
        let (name, true) = list.long()? else { return None };
        if kind == 0 {
            return Some(text(name).into());
        }
    }
}

/// Whether a version is of TLS 1.3 or later: what follows the ServerHello is encrypted.
pub(super) fn encrypts_early(version: u16) -> bool {
    !(0x0300..=0x0303).contains(&version)
}

impl ServerHello {
    /// `None` where it is none.
    pub(super) fn read(message: &[u8]) -> Option<ServerHello> {
        let mut body = Reader(message.get(4..)?);
        let version = body.u16()?;
        if version >> 8 != 3 && version >> 8 != 0x7f {
            return None;
        }
        let mut hello = ServerHello { version, retry: body.take(32)? == RETRY, ..ServerHello::default() };
        // Drafts before 22 had neither of them.
        let is_short = version >> 8 == 0x7f;
        if !is_short {
            hello.session = Session::of(body.short()?)?;
        }
        hello.cipher = body.u16()?;
        if !is_short {
            body.u8()?;
        }
        if body.0.is_empty() {
            return Some(hello);
        }
        let (list, true) = body.long()? else { return None };
        let mut list = Reader(list);
        while !list.0.is_empty() {
            let kind = list.u16()?;
            let (extension, true) = list.long()? else { return None };
            let mut extension = Reader(extension);
            match kind {
                EXT_VERSIONS => hello.version = extension.u16()?,
                EXT_KEY_SHARE | EXT_OLD_KEY_SHARE => hello.group = extension.u16(),
                EXT_PRE_SHARED_KEY => hello.psk = true,
                EXT_ALPN => {
                    let (names, _) = extension.long()?;
                    hello.alpn = text(Reader(names).short()?).into();
                }
                _ => {}
            }
        }
        Some(hello)
    }
}

/// The group of a ServerKeyExchange, of which the first bytes are given: elliptic curves name theirs
/// (RFC 8422 section 5.4). With other kinds of keys these bytes are lengths, of 0x0040 and more.
pub(super) fn named_group(message: &[u8]) -> Option<u16> {
    match *message {
        [_, _, _, _, 3, high, low] => Some(u16::from_be_bytes([high, low])),
        _ => None,
    }
}

/// `tls.protocol.version`.
pub(super) fn version_name(version: u16) -> &'static str {
    const DRAFTS: [&str; 15] = [
        "0x7f0e", "0x7f0f", "0x7f10", "0x7f11", "0x7f12", "0x7f13", "0x7f14", "0x7f15", "0x7f16", "0x7f17", "0x7f18",
        "0x7f19", "0x7f1a", "0x7f1b", "0x7f1c",
    ];
    match version {
        0x0300 => "ssl3",
        0x0301 => "1.0",
        0x0302 => "1.1",
        0x0303 => "1.2",
        0x0304 => "1.3",
        0x7f0e..=0x7f1c => DRAFTS.get(usize::from(version - 0x7f0e)).copied().unwrap_or("other"),
        _ => "other",
    }
}
