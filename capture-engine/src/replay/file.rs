use super::pcap::Pcap;
use super::pcapng::Pcapng;
use super::window::Window;
use flow_model::Ts;
use std::io::{self, BufReader, Read};
use thiserror::Error;

/// Longest packet that is believed: above any snaplen in use (tcpdump's is 256 KiB), below what a wrong length would claim.
pub(super) const MAX_PACKET: usize = 1 << 20;

/// One packet of a capture file.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Since the Unix epoch.
    pub at: Ts,
    /// Number of the link type as tcpdump.org's registry has it.
    pub link: u16,
    /// Bytes that the packet had on the wire.
    pub wire_len: u32,
    pub data: &'a [u8],
}

/// What is wrong with a file, and where. Offsets count the decompressed bytes.
#[derive(Debug, Error)]
pub enum Damage {
    #[error("not a capture file: neither pcap nor pcapng")]
    NotACapture,
    #[error("pcap version {major}.{minor} is not known")]
    Version { major: u16, minor: u16 },
    #[error("ends in the middle of a packet or block at byte {offset}")]
    Truncated { offset: u64 },
    #[error("packet of {length} bytes at byte {offset}: no capture has such")]
    PacketLength { offset: u64, length: u64 },
    #[error("broken block at byte {offset}")]
    Block { offset: u64 },
    #[error("reading at byte {offset}")]
    Read {
        offset: u64,
        #[source]
        source: io::Error,
    },
}

/// Reads packets from a pcap or pcapng stream, compressed by gzip or not, told by the content.
pub struct CaptureReader {
    window: Window<Box<dyn Read>>,
    format: Format,
}

enum Format {
    Pcap(Pcap),
    Pcapng(Pcapng),
}

impl std::fmt::Debug for CaptureReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaptureReader").field("offset", &self.window.offset()).finish_non_exhaustive()
    }
}

impl CaptureReader {
    pub fn new(stream: impl Read + 'static) -> Result<CaptureReader, Damage> {
        let mut start = Vec::with_capacity(2);
        let mut stream = stream;
        (&mut stream).take(2).read_to_end(&mut start).map_err(|source| Damage::Read { offset: 0, source })?;
        // RFC 1952 2.3.1
        let gzip = start == [0x1f, 0x8b];
        let whole = io::Cursor::new(start).chain(stream);
        let inner: Box<dyn Read> = if gzip {
            Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(1 << 18, whole)))
        } else {
            Box::new(whole)
        };
        let mut window = Window::new(inner);
        let head = window.fill(24).map_err(|source| Damage::Read { offset: 0, source })?;
        let format = if Pcapng::is_start(head) {
            Format::Pcapng(Pcapng::default())
        } else {
            let pcap = Pcap::from_header(head)?;
            window.take(24);
            Format::Pcap(pcap)
        };
        Ok(CaptureReader { window, format })
    }

    /// The next packet; `None` at the end. After an error of a pcapng file the next call goes on behind the damage; after one of a pcap
    /// file there is nothing more.
    #[expect(clippy::should_implement_trait, reason = "it lends the packet")]
    pub fn next(&mut self) -> Result<Option<Packet<'_>>, Damage> {
        match &mut self.format {
            Format::Pcap(pcap) => pcap.next(&mut self.window),
            Format::Pcapng(pcapng) => pcapng.next(&mut self.window),
        }
    }

    /// Decompressed bytes read so far.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.window.offset()
    }
}

/// Byte order of a file or section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    #[default]
    Little,
    Big,
}

impl Order {
    pub fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self == Order::Little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    pub fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self == Order::Little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    pub fn u64(self, bytes: &[u8], at: usize) -> Option<u64> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self == Order::Little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) })
    }
}
